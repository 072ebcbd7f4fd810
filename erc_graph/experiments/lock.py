"""Lock of a folder of results, so that only one process at a time writes to the folder.

The operating system locks the file `.lock`, which contains the process id, and releases the lock when the process ends. On a file system
without locks, the folder is not protected.
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
    """Lock `folder` while the `with` block runs.

    The folder is created if needed. A new folder that is still empty at the end is removed.

    Raises:
        ConfigError: another process uses the folder, or the folder cannot be created.
    """
    made = [place for place in (folder, *folder.parents) if not os.path.lexists(place)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = _locked(folder / LOCK)
    except OSError as error:
        raise ConfigError(f"--out: expected a folder to which results can be written, found {folder} ({error.strerror})") from error
    try:
        yield
    finally:
        with suppress(OSError):
            (folder / LOCK).unlink()
            for place in made:
                place.rmdir()
        file.close()


def _locked(path: Path) -> TextIO:
    """Open the lock file, lock it, and write the process id to it."""
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
                f"{path.parent}: another run writes to this folder (process {who or 'unknown'}); wait until that run has ended, or stop it"
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
