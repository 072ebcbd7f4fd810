"""C sources beside their Python modules, compiled on first use and kept.

A library lies in `$ERC_GRAPH_CACHE`, or else in `~/.cache/erc_graph`, under a name made from source, compiler and processor, and is
written atomically. It is code that will run: a folder that others may write to is not used. Without a compiler, on another system than
Linux, or with `ERC_GRAPH_COMPILED=0` there is no library, and callers do without.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from functools import lru_cache
from pathlib import Path

import torch

FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-fPIC")
PATIENCE = 120  # seconds for the compiler

_log = logging.getLogger(__name__)


@lru_cache
def library(source: Path) -> ctypes.CDLL | None:
    """The library of a C file, compiled where that has not been done yet.

    Args:
        source: The file.

    Returns:
        The library, or `None` where there can be none.
    """
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if sys.platform != "linux" or compiler is None or os.environ.get("ERC_GRAPH_COMPILED") == "0":
        return None
    try:
        path = _folder() / f"{source.stem}-{_digest(source, compiler)}.so"
        if not path.exists():
            _compile(source, compiler, path)
        return ctypes.CDLL(str(path), mode=os.RTLD_NOW)  # a name that PyTorch does not have is found out here, not in the call
    except (OSError, subprocess.SubprocessError) as problem:
        _log.warning("%s is not compiled, its slower form in PyTorch is used: %s", source.name, problem)
        return None


@lru_cache
def sgemm() -> int | None:
    """Address of the single-precision matrix product (Fortran interface) of the BLAS that PyTorch brings; `None` where it is hidden."""
    try:
        found = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so")).sgemm_
    except (OSError, AttributeError):
        return None
    return ctypes.cast(found, ctypes.c_void_p).value


def _folder() -> Path:
    """Where libraries lie.

    Raises:
        OSError: it cannot be made, or others may write to it.
    """
    chosen = os.environ.get("ERC_GRAPH_CACHE")
    folder = Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "erc_graph"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.stat()
    if found.st_uid != os.getuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(f"others may write to {folder}; name a folder of your own in ERC_GRAPH_CACHE")
    return folder


def _digest(source: Path, compiler: str) -> str:
    """Of all that decides what comes out."""
    version = subprocess.run([compiler, "--version"], capture_output=True, timeout=PATIENCE, check=True).stdout
    features = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith(("flags", "Features"))), "")
    return hashlib.sha256(b"\0".join([source.read_bytes(), version, features.encode(), " ".join(FLAGS).encode()])).hexdigest()[:16]


def _compile(source: Path, compiler: str, path: Path) -> None:
    """Linked with no OpenMP library: the one that PyTorch has loaded is to be used, so that both share their threads.

    Raises:
        OSError: what the compiler said last.
    """
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        built, linked = Path(folder) / "object.o", Path(folder) / "library.so"
        for command in ([*FLAGS, "-c", str(source), "-o", str(built)], ["-shared", str(built), "-o", str(linked)]):
            done = subprocess.run([compiler, *command], capture_output=True, timeout=PATIENCE, text=True, check=False)
            if done.returncode:
                raise OSError((done.stderr.strip().splitlines() or [f"{compiler} failed"])[-1])
        os.replace(linked, path)
