"""One process per folder of results: a second one that would write there is refused.

The lock is the operating system's, on a file that has the process in it, and ends with the process however that ends; where a file
system has no locks, there is none.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from erc_graph.errors import ConfigError

LOCK = ".lock"


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep other processes from running an experiment in `folder`; it is made, and goes again where nothing is written into it.

    Raises:
        ConfigError: one is going on, or it cannot be made.
    """
    made = [place for place in (folder, *folder.parents) if not os.path.lexists(place)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = _locked(folder / LOCK)
    except OSError as error:
        raise ConfigError(f"--out: expected a folder for the results, found {folder} ({error.strerror})") from error
    try:
        yield
    finally:
        with suppress(OSError):
            (folder / LOCK).unlink()
            for place in made:
                place.rmdir()
        file.close()


def _locked(path: Path) -> TextIO:
    """The file with a lock on it."""
    while True:
        file = path.open("a+")
        if importlib.util.find_spec("fcntl") is None:
            return file
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with file:
                file.seek(0)
                who = file.read(20).strip()
            raise ConfigError(
                f"{path.parent}: a run is going on here (process {who or 'unknown'}); wait for it, or stop it first"
            ) from None
        except OSError:  # a file system without locks
            return file
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                file.truncate(0)
                file.write(str(os.getpid()))
                file.flush()
                return file
        file.close()  # of a run that ended in between: its file is gone
