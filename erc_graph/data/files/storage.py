"""Atomic writing of files (each file is written completely or not at all), and storage of tensors without pickle."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import math
import os
import platform
import re
import shutil
import stat
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from torch import Tensor

from erc_graph.data.files.budget import admit
from erc_graph.errors import CheckpointError, CorpusError, StorageError

_ADVICE = {
    errno.ENOSPC: "free some space or choose another folder",
    errno.EDQUOT: "free some space or choose another folder",
    errno.EFBIG: "this file system or a limit of the process allows no file of that size; choose another folder",
    errno.EACCES: "choose a folder that you may write to",
    errno.EPERM: "choose a folder that you may write to",
    errno.EROFS: "choose a folder that you may write to",
    errno.ENOTDIR: "a part of the path is a file; choose another folder",
    errno.EEXIST: "a part of the path is a file; choose another folder",
    errno.EISDIR: "a folder with this name exists; choose another name",
    errno.ENAMETOOLONG: "choose a shorter name",
}


_HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:6]  # a folder may be shared with other machines
_LEFT = re.compile(r"\.(?P<name>.+)\.(?P<host>[0-9a-f]{6})-(?P<process>\d+)\.(?P<kind>tmp|old)")
_HERE, _EXCHANGE = -100, 2  # of renameat2: relative to the working folder; both names change places


def _storage_error(path: Path, error: OSError) -> StorageError:
    advice = _ADVICE.get(error.errno or 0, "check the path and the disk")
    return StorageError(f"{path}: could not be written ({error.strerror or error}); no half-written file was left behind; {advice}")


def _beside(path: Path, ending: str) -> Path:
    """Return a temporary path of this process in the folder of `path`.

    Raises:
        StorageError: `path` is the working folder or the root, which cannot be replaced.
    """
    if not path.name:
        raise StorageError(
            f"{path}: expected the name of a new file or folder, found the working folder or the root; choose a new name inside this folder"
        )
    return path.with_name(f".{path.name}.{_HOST}-{os.getpid()}.{ending}")


def tidy(folder: Path, name: str | None = None) -> None:
    """Clean up temporary files that killed processes of this machine left in a folder.

    A folder that was renamed to be replaced, but was not replaced, gets its old name back. Incomplete files are removed.

    Args:
        folder: The folder.
        name: Name of the only file or folder whose temporary files are cleaned up; default: all names.
    """
    with suppress(OSError):
        for path in folder.iterdir():
            found = _LEFT.fullmatch(path.name)
            if not found or found["host"] != _HOST or (name is not None and found["name"] != name) or _runs(int(found["process"])):
                continue
            with suppress(OSError):
                if found["kind"] == "old" and not os.path.lexists(folder / found["name"]):
                    os.rename(path, folder / found["name"])
                elif path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's, or no number of a process
        return True
    return True


def _exchange(one: Path, other: Path) -> bool:
    """Exchange the names of two folders in one system call, and return whether the system supports this, as Linux does."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
        return rename(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0
    except (AttributeError, OSError, TypeError):
        return False


@contextmanager
def atomic_write(path: str | os.PathLike[str], *, tidied: bool = False) -> Iterator[Path]:
    """Provide a temporary path in the folder of `path`.

    The file that is written there replaces `path` when the `with` block ends without an error.

    Args:
        path: The file.
        tidied: Whether `tidy` was already called for the folder. A call of `tidy` takes a second in a folder of a million files.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with atomic_write(folder / "note.txt") as temporary:
    ...     _ = temporary.write_text("all or nothing")
    >>> [file.name for file in folder.iterdir()]
    ['note.txt']

    Raises:
        StorageError: the file system has no space, gives no permission, or reports another error. `path` is then unchanged.
    """
    path = Path(path)
    temporary = _beside(path, "tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not tidied:
            tidy(path.parent, path.name)
        yield temporary
        os.replace(temporary, path)
    except StorageError:
        raise
    except OSError as error:
        raise _storage_error(path, error) from error
    finally:
        with suppress(OSError):  # the folder itself is gone or not one: nothing is left to remove
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | os.PathLike[str], names: Collection[str]) -> Iterator[Path]:
    """Provide a temporary folder next to `path`. The folder replaces `path` when the `with` block ends without an error.

    Args:
        path: The folder to create, or to replace completely.
        names: Names of the files that a folder of this kind contains. A folder with any other file is never replaced.

    Raises:
        StorageError: `path` is a file, contains other files, or cannot be written.
    """
    path = Path(path)
    temporary, previous = _beside(path, "tmp"), _beside(path, "old")
    try:
        tidy(path.parent, path.name)
        if path.exists() and not path.is_dir():
            raise StorageError(f"{path}: is a file; expected a new folder, or a folder that erc_graph saved before; choose another name")
        others = sorted(file.name for file in path.iterdir() if file.name not in names) if path.exists() else []
        if others:
            raise StorageError(
                f"{path}: contains other files ({', '.join(others[:3])}{', ...' if len(others) > 3 else ''}), which would be lost; "
                "choose a new or empty folder"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        yield temporary
        if path.exists() and _exchange(temporary, path):
            return  # what was there goes with the temporary name
        if path.exists():
            os.rename(path, previous)  # not in one step: a reader that comes in between brings it back with `tidy`
        try:
            os.rename(temporary, path)
        except OSError:
            if previous.exists():
                os.rename(previous, path)
            raise
    except StorageError:
        raise
    except OSError as error:
        raise _storage_error(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        with suppress(OSError):  # a name that the file system does not take
            if path.exists():
                shutil.rmtree(previous, ignore_errors=True)


def plain(value: Any) -> Any:
    """Convert a value to types of JSON. Arrays and tensors become Python numbers or lists; NaN and inf become null."""
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(plain(item) for item in value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return value


def write_json(path: str | os.PathLike[str], value: Any, *, indent: int | None = 1) -> None:
    """Write `value` as JSON, atomically. NaN and inf become null, and characters beyond ASCII are escaped.

    Raises:
        StorageError: the file cannot be written.
    """
    text = json.dumps(plain(value), indent=indent)
    with atomic_write(path) as temporary:
        temporary.write_text(text + "\n", encoding="ascii")


def save_tensors(path: str | os.PathLike[str], tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors to a safetensors file, atomically. The same content always gives the same bytes.

    Args:
        path: The file.
        tensors: Name → tensor on any device and of any memory layout. Each tensor is stored as a contiguous copy.
        metadata: Name → text to store in the file.

    Raises:
        StorageError: the file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    own = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}  # none shares memory with another
    with atomic_write(path) as temporary:
        try:
            temporary.touch()
            mode = temporary.stat().st_mode  # as the umask has it; the library makes its files private
            save_file(own, temporary, metadata=dict(metadata or {}))
            _sort_metadata(temporary)
            if temporary.stat().st_mode != mode:
                temporary.chmod(stat.S_IMODE(mode))
        except SafetensorError as error:  # it hides the OSError and says its number in words
            found = re.search(r"os error (\d+)", str(error))
            code = int(found[1]) if found else errno.EIO
            raise OSError(code, os.strerror(code) if found else str(error)) from error


def _sort_metadata(path: Path) -> None:
    """Sort the metadata of a new safetensors file by name, because the library writes them in random order."""
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        if "__metadata__" in header:
            header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
            text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode().ljust(size)
            if len(text) == size:
                file.seek(8)
                file.write(text)


def load_tensors(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors and metadata of a safetensors file. Tensors are memory-mapped, so a tensor is read only when it is used.

    Raises:
        CheckpointError: the file does not exist, or is damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        admit(path, CheckpointError)
        with safe_open(os.fspath(path), framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file, damaged or incomplete ({error})") from error


def stay_inside(path: Path) -> Path:
    """Return the path after a check that it is not a link to a file outside its folder.

    A corpus must not read files from other folders.

    Raises:
        CorpusError: the path is a link out of its folder, or its links form a circle.
    """
    if path.is_symlink():
        try:
            inside = path.resolve().is_relative_to(path.parent.resolve())
        except (OSError, RuntimeError):
            inside = False
        if not inside:
            raise CorpusError(f"{path}: a symbolic link to a file outside the folder of the link; copy the file into this folder")
    return path


def sha256(path: str | os.PathLike[str]) -> str:
    """Return the hexadecimal SHA-256 of a file or folder.

    The hash of a folder is computed from the names and hashes of its files and subfolders.
    """
    path = Path(path)
    digest = hashlib.sha256()
    if path.is_dir():
        for file in sorted(path.iterdir()):
            if file.is_file() or (file.is_dir() and not file.is_symlink()):
                digest.update(f"{file.name}\0{sha256(file)}\n".encode(errors="surrogatepass"))
        return digest.hexdigest()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
