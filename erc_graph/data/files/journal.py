"""A file of JSON lines that grows during a computation; if the process is killed, all lines except the last are complete."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from erc_graph.data.files.budget import admit
from erc_graph.errors import CheckpointError, StorageError

Record = dict[str, Any]


class Journal:
    """What is done, a line each, in the order in which it ends; a context manager.

    A line that is no record is passed over, and what a kill left of the last one is cut off: what it told of is not done, then.

    Args:
        path: The file; it is made where there is none.
        name_of: The name of what a record is about, or nothing where it is not such a record; the last record of a name counts.

    Attributes:
        place: Name → where its line begins.
    """

    def __init__(self, path: Path, name_of: Callable[[Record], str | None]) -> None:
        self.path, self.name_of = path, name_of
        self.place: dict[str, int] = {}
        self.file: BinaryIO

    def __enter__(self) -> Journal:
        """Open it.

        Raises:
            StorageError: it cannot be written.
        """
        try:
            if self.path.exists():
                admit(self.path, CheckpointError)
            self.file = self.path.open("a+b")
        except OSError as error:
            raise StorageError(f"{self.path}: could not be written ({error.strerror or error}); check the path and the disk") from error
        self.file.seek(0)
        end = 0
        for line in self.file:
            if not line.endswith(b"\n"):
                break
            if (name := self._named(line)) is not None:
                self.place[name] = end
            end += len(line)
        self.file.truncate(end)
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()

    def add(self, record: Record) -> int:
        """Add a record, and return the position of its line."""
        place = self.file.seek(0, os.SEEK_END)
        self.file.write(json.dumps(record).encode("ascii") + b"\n")
        self.file.flush()
        if (name := self.name_of(record)) is not None:
            self.place[name] = place
        return place

    def line(self, place: int) -> bytes:
        """Return the line at a position."""
        self.file.seek(place)
        return self.file.readline()

    def get(self, name: str) -> Record | None:
        """Return the last record of a name."""
        found: Record | None = json.loads(self.line(self.place[name])) if name in self.place else None
        return found

    def _named(self, line: bytes) -> str | None:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            return None
        return self.name_of(record) if isinstance(record, dict) else None
