"""Limits on the memory for reading files. The limit grows with the size of the opened files. All file readers use this module.

A manipulated file of a few hundred bytes can request gigabytes of memory, for example by repetition, by an array shape that is too large or
by nested keys. No list of manipulations is complete. Therefore each file is read by the function `content_of`, or the function `admit` is
called before the file is opened. Both functions allow memory in proportion to the size of the file. Inside `with reading(…):`, Linux
refuses memory beyond this limit. On other systems, a reader limits only the memory that it counts itself. Error messages of libraries are
shortened to one line.
"""

from __future__ import annotations

import errno
import gc
import os
import re
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from erc_graph.errors import ConfigError, CorpusError, ErcGraphError

FLOOR = 768 << 20  # bytes that any reading may take: libraries that it imports, and honest small files
GROWTH = 32  # bytes more per byte that is opened
CELLS = 64  # cells of a table per byte, empty ones too
CELL = 384  # or one for so many bytes of the floor, whichever is more
OPTION = "ERC_GRAPH_READING"  # environment: a larger floor, such as 8G

_KINDS = (
    (stat.S_ISFIFO, "a named pipe"), (stat.S_ISSOCK, "a socket"), (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)  # fmt: skip
_lock = threading.RLock()
_depth, _before, _allowed = 0, -1, 0  # readings that are open in this process, the limit before them, and the limit now
_collects = True  # whether Python looked for garbage before them


def _floor() -> int:
    """Return the number of bytes that the reading of files may always use, even if the files are small.

    Raises:
        ConfigError: `ERC_GRAPH_READING` is not a size such as `8G`.
    """
    said = os.environ.get(OPTION, "")
    found = re.fullmatch(r"(\d{1,9})\s*([KMGT]?)", said.strip().upper()) if said else None
    if said and not found:
        raise ConfigError(f"environment variable {OPTION}: expected a size of memory such as 8G, found {said[:40]!r}")
    return max(FLOOR, int(found[1]) << {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}[found[2]]) if found else FLOOR


def _used() -> int:
    """Return the address space of this process in bytes; 0 if the system does not report this number."""
    try:
        return int(Path("/proc/self/statm").read_bytes().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        return 0


def _limit(most: int) -> None:
    """Limit the address space of this process to `most` bytes; -1 removes the limit."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        own = [limit for limit in (most, hard, _before) if limit >= 0]
        resource.setrlimit(resource.RLIMIT_AS, (min(own) if own else resource.RLIM_INFINITY, hard))


@contextmanager
def reading(path: str | os.PathLike[str], refuse: type[ErcGraphError] = CorpusError) -> Iterator[None]:
    """Limit the memory within a `with` block, and shorten error messages of libraries to one line. Blocks may be nested.

    Args:
        path: Path of the file, used in error messages.
        refuse: Class of the error that is raised.

    Raises:
        refuse: the files need too much memory, or a library raises an error. Errors of erc_graph are raised unchanged.
    """
    global _depth, _before, _allowed, _collects
    try:
        with _lock:
            if not _depth and (used := _used()):
                import resource

                _before = resource.getrlimit(resource.RLIMIT_AS)[0]
                _allowed = used + _floor()
                _limit(_allowed)
            if not _depth:
                _collects = gc.isenabled()
                gc.disable()  # it would go over all that is built again and again, and little of it is garbage
            _depth += 1
        try:
            yield
        finally:
            with _lock:
                _depth -= 1
                if not _depth and _collects:
                    gc.enable()
                if not _depth and _allowed:
                    _limit(-1)
                    _allowed = 0
    except ErcGraphError:
        raise
    except MemoryError:
        raise refuse(_far_more("memory", path)) from None
    except RecursionError:
        raise refuse(f"{path}: nested too deeply; the file may be damaged or malicious") from None
    except OSError as error:
        raise refuse(f"{error.filename or path}: cannot be read ({error.strerror or error})") from error
    except Exception as error:
        reason = " ".join(str(error).split())[:160]
        raise refuse(
            f"{path}: damaged, or of another format than expected ({type(error).__name__}{': ' if reason else ''}{reason})"
        ) from error


def admit(path: str | os.PathLike[str], refuse: type[ErcGraphError] = CorpusError) -> int:
    """Raise the memory limit for a file that will be opened, and return the size of the file in bytes.

    Raises:
        refuse: the path is not a regular file, but for example a pipe or a device. The argument `refuse` is the class of this error.
        OSError: the file does not exist, is a folder, or there is no permission to read it.
    """
    found = os.stat(path)
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if not stat.S_ISREG(found.st_mode):
        kind = next((words for test, words in _KINDS if test(found.st_mode)), "something else")
        raise refuse(f"{path}: expected a regular file, found {kind}")
    allow(found.st_size)
    return found.st_size


def allow(size: int) -> None:
    """Raise the memory limit for `size` bytes that were read from a pipe or from a part of a file."""
    global _allowed
    with _lock:
        if _depth and _allowed:
            _allowed += GROWTH * size
            _limit(_allowed)


def count_cells(cells: int, size: int, path: str | os.PathLike[str]) -> None:
    """Raise an error if a table has so many cells that reading them would take too long.

    Empty cells and repeated values take almost no space in a compressed file, so a small file can contain billions of cells.

    Args:
        cells: Number of cells counted so far; at least one per row.
        size: Size of the file in bytes.
        path: Path of the file, used in error messages.

    Raises:
        CorpusError: the table has more cells than the size of the file allows.
    """
    if cells > max(_floor() // CELL, CELLS * size):
        raise CorpusError(_far_more("cells", path))


def _far_more(what: str, path: str | os.PathLike[str]) -> str:
    return (
        f"{path}: needs far more {what} than its size allows, so it may be malicious; "
        f"if you trust the file, set the environment variable {OPTION}=8G to allow more"
    )


def content_of(path: str | os.PathLike[str], refuse: type[ErcGraphError] = CorpusError) -> bytes:
    """Return the content of a regular file as bytes, and raise the memory limit in proportion to the size of the file.

    Raises:
        refuse: the path is not a regular file. The argument `refuse` is the class of this error.
        OSError: the file does not exist, or there is no permission to read it.
    """
    admit(path, refuse)
    return Path(path).read_bytes()
