"""Compilation of the C files of the package to shared libraries, on first use; the libraries are stored.

A library is stored in the folder `$ERC_GRAPH_CACHE`. If this variable is not set, the folder is `$XDG_CACHE_HOME/erc_graph` or
`~/.cache/erc_graph`. The name of a library depends on the C file, the compiler and the processor. A library is written atomically. For
safety, a library that other users can write to is never loaded. Before its first use, a library is tested: it must give the same results
as PyTorch (`erc_graph.conv.trial`). The test result is stored in the same folder. Slower code in PyTorch is used instead of the libraries
if there is no compiler, on systems other than Linux, and with `ERC_GRAPH_COMPILED=0` (also `false`, `no`, `off`).
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import logging
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import torch

from erc_graph.data.files.storage import atomic_write
from erc_graph.errors import StorageError

PREFIX = "compiling-"
COMPILERS = ("gcc", "cc")
OFF = ("0", "false", "no", "off")
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-fPIC")
DIGEST = hashlib.sha256().digest_size  # bytes at the end of a library
PATIENCE = 120  # seconds for a compiler, and for a trial
PASSED, FAULT = 17, 18  # exit status of a trial that came to its end
CRASHES = (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT, signal.SIGTRAP)

_log = logging.getLogger(__name__)
tried: dict[Path, Path] = {}  # source → library that is being tried out, in a process that is there for this alone


@lru_cache
def library(source: Path, trial: str = "") -> ctypes.CDLL | None:
    """Return the library of a C file; compile the file first if necessary.

    Args:
        source: The C file.
        trial: Name of the function of `erc_graph.conv.trial` that compares the library with PyTorch. If the name is empty, there is no
            comparison.

    Returns:
        The library. If the library cannot be compiled or fails the comparison, the function logs a warning and returns `None`. Without
            a compiler, on systems other than Linux, and with `ERC_GRAPH_COMPILED=0`, the function returns `None`.
    """
    if source in tried:
        return ctypes.CDLL(str(tried[source]), mode=os.RTLD_NOW)
    if sys.platform != "linux" or os.environ.get("ERC_GRAPH_COMPILED", "").lower() in OFF:
        return None
    problem = None
    for compiler in filter(None, map(shutil.which, COMPILERS)):
        try:
            path = _folder() / f"{source.stem}-{_digest(source, compiler)}.so"
            try:
                whole = _whole(path)
            except OSError as error:  # there is none, or one that is not whole
                if path.exists():
                    _log.warning("%s; it is compiled again", error)
                _compile(source, compiler, path)
                whole = _whole(path)
            if trial and (fault := _verdict(source, path, trial, whole)):
                _log.warning("%s: %s; the slower code in PyTorch is used instead; remove the file to try again", path, fault)
                return None
            return ctypes.CDLL(str(path), mode=os.RTLD_NOW)  # a name that PyTorch does not have is found out here, not in the call
        except (OSError, subprocess.SubprocessError) as found:
            problem = found
    if problem is not None:
        _log.warning("%s cannot be compiled, the slower code in PyTorch is used instead: %s", source.name, problem)
    return None


@lru_cache
def sgemm() -> int | None:
    """Return the address of `sgemm`, the float32 matrix product of PyTorch's BLAS; `None` if PyTorch does not export it.

    The function at this address has the Fortran interface with 32-bit integers.
    """
    try:
        found = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so")).sgemm_
    except (OSError, AttributeError):
        return None
    one, two, out = (ctypes.c_float * 4)(1, 2, 3, 4), (ctypes.c_float * 4)(5, 6, 7, 8), (ctypes.c_float * 4)()
    size, alpha, beta = ctypes.byref((ctypes.c_int * 2)(2, 0)), ctypes.byref(ctypes.c_float(1)), ctypes.byref(ctypes.c_float(0))
    found(b"N", b"N", size, size, size, alpha, one, size, two, size, beta, out, size)
    return ctypes.cast(found, ctypes.c_void_p).value if list(out) == [23, 34, 31, 46] else None


def _folder() -> Path:
    """Return the folder of the compiled libraries; create the folder if necessary.

    Raises:
        OSError: the folder cannot be created, belongs to another user, or can be written by other users.
    """
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    chosen = os.path.expanduser(os.environ.get("ERC_GRAPH_CACHE") or os.path.join(caches, "erc_graph"))
    if chosen.startswith("~"):
        raise FileNotFoundError(
            "expected a home folder for the cache of compiled code, found none; set the environment variable ERC_GRAPH_CACHE to a folder"
        )
    folder = Path(chosen).absolute()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return _own(folder)


def _own(path: Path) -> Path:
    """Check that only the current user can write to a file or folder, and return its path.

    Raises:
        PermissionError: the file or folder belongs to another user, or can be written by other users.
    """
    found = path.stat()
    if found.st_uid != os.getuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(
            f"{path}: the file or folder belongs to another user, or other users can write to it; "
            "set the environment variable ERC_GRAPH_CACHE to a folder that only you can write to"
        )
    return path


def _whole(path: Path) -> str:
    """Check a library against the SHA-256 hash at the end of its file, and return this hash.

    Raises:
        OSError: the file does not exist, is damaged, belongs to another user, or can be written by other users.
    """
    content = _own(path).read_bytes()
    if hashlib.sha256(content[:-DIGEST]).digest() != content[-DIGEST:]:
        raise OSError(f"{path} is damaged")  # where a part is missing the loader would end the process
    return content[-DIGEST:].hex()


def _verdict(source: Path, path: Path, trial: str, whole: str) -> str:
    """Test a library (`erc_graph.conv.trial`); return its fault, or an empty string. The result is stored for each version of PyTorch."""
    kept, asked = path.with_suffix(".json"), f"{trial} {whole} {torch.__version__}"
    try:
        said = json.loads(_own(kept).read_bytes())
        if said["asked"] == asked:
            return str(said["fault"])
    except (OSError, ValueError, KeyError, TypeError):  # nothing was asked before
        pass
    code = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from erc_graph.conv.trial import main; main(*sys.argv[2:])"
    command = [sys.executable, "-c", code, json.dumps(sys.path), trial, str(source), str(path)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=PATIENCE, errors="replace", check=False)
    except subprocess.TimeoutExpired:
        return f"did not end its trial in {PATIENCE} seconds"
    status, said = done.returncode, done.stderr.strip().splitlines() or [f"ended its trial with status {done.returncode}"]
    fault = "" if status == PASSED else f"crashed in its trial (signal {-status})" if status < 0 else said[-1][:300]
    if status in (PASSED, FAULT) or -status in CRASHES:  # anything else may have been the machine: it is asked again
        with suppress(StorageError), atomic_write(kept) as temporary:
            temporary.touch(0o600)
            temporary.write_text(json.dumps({"asked": asked, "fault": fault}))
    return fault


def _digest(source: Path, compiler: str) -> str:
    """Return a hash of everything that a library depends on: C file, version of the compiler, processor and compiler options."""
    version = subprocess.run([compiler, "--version"], capture_output=True, timeout=PATIENCE, check=True).stdout
    features = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith(("flags", "Features"))), "")
    return hashlib.sha256(b"\0".join([source.read_bytes(), version, features.encode(), " ".join(FLAGS).encode()])).hexdigest()[:16]


def _compile(source: Path, compiler: str, path: Path) -> None:
    """Compile a C file. No OpenMP library is linked, so that the code uses the OpenMP library and the threads of PyTorch.

    Raises:
        OSError: the compilation failed; the message is the last line of the compiler's output.
    """
    for left in path.parent.glob(f"{PREFIX}*"):  # by a run that was killed
        if time.time() - left.stat().st_mtime > 10 * PATIENCE:
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=PREFIX) as folder:
        built, linked = Path(folder) / "object.o", Path(folder) / "library.so"
        for command in ([*FLAGS, "-c", str(source), "-o", str(built)], ["-shared", str(built), "-o", str(linked)]):
            done = subprocess.run([compiler, *command], capture_output=True, timeout=PATIENCE, errors="replace", check=False)
            if done.returncode:
                raise OSError((done.stderr.strip().splitlines() or [f"{compiler} failed"])[-1])
        content = linked.read_bytes()
        linked.write_bytes(content + hashlib.sha256(content).digest())  # the loader does not look at what stands behind a library
        linked.chmod(0o700)
        os.replace(linked, path)
