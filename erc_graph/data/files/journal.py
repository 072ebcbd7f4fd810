"""A file of JSON lines that grows during a computation. If the process is killed, at most the last line is incomplete."""

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
    """A file that lists finished work, with one JSON record per line. The class is a context manager.

    Lines that are not JSON objects are ignored. An incomplete last line is removed, and the work of this line counts as not done.

    Args:
        path: The file; it is created if it does not exist.
        name_of: Function that returns the name of the work in a record, or `None` if the record has no such name. If several records have
            the same name, the last record counts.

    Attributes:
        place: Name of the work → byte position of its line in the file.
    """

    def __init__(self, path: Path, name_of: Callable[[Record], str | None]) -> None:
        self.path, self.name_of = path, name_of
        self.place: dict[str, int] = {}
        self.file: BinaryIO

    def __enter__(self) -> Journal:
        """Open the file.

        Raises:
            StorageError: the file cannot be written.
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
        """Append a record to the file, and return the byte position of its line."""
        place = self.file.seek(0, os.SEEK_END)
        self.file.write(json.dumps(record).encode("ascii") + b"\n")
        self.file.flush()
        if (name := self.name_of(record)) is not None:
            self.place[name] = place
        return place

    def line(self, place: int) -> bytes:
        """Return the line that begins at a byte position of the file."""
        self.file.seek(place)
        return self.file.readline()

    def get(self, name: str) -> Record | None:
        """Return the last record of the work with this name; `None` if no record has this name."""
        found: Record | None = json.loads(self.line(self.place[name])) if name in self.place else None
        return found

    def _named(self, line: bytes) -> str | None:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            return None
        return self.name_of(record) if isinstance(record, dict) else None
