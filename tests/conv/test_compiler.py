from __future__ import annotations

import logging
import os
import shutil
import sys
from pathlib import Path

import pytest

from erc_graph.conv import compiler

library = compiler.library.__wrapped__  # what is kept would hide what is tried here
pytestmark = pytest.mark.skipif(sys.platform != "linux" or not (shutil.which("cc") or shutil.which("gcc")), reason="no C compiler")


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("ERC_GRAPH_COMPILED", raising=False)
    monkeypatch.setenv("ERC_GRAPH_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "answer.c"
    path.write_text("int answer(void) { return 41; }\n")
    return path


def kept(source: Path) -> list[Path]:
    return sorted((source.parent / "cache").iterdir())


def test_compiled_once_and_again_when_the_source_changes(source: Path) -> None:
    assert library(source).answer() == 41
    (first,) = kept(source)
    made = first.stat().st_mtime_ns
    assert library(source).answer() == 41
    assert [path.stat().st_mtime_ns for path in kept(source)] == [made]
    source.write_text("int answer(void) { return 42; }\n")
    assert library(source).answer() == 42
    assert len(kept(source)) == 2


def test_only_the_owner_may_write_where_it_lies(source: Path) -> None:
    library(source)
    assert (source.parent / "cache").stat().st_mode & 0o777 == 0o700


def test_a_folder_that_others_may_write_to_is_not_used(source: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = source.parent / "cache"
    folder.mkdir()
    folder.chmod(0o777)
    with caplog.at_level(logging.WARNING):
        assert library(source) is None
    assert (
        f"answer.c cannot be compiled, the slower code in PyTorch is used instead: {folder}: the file or folder belongs to another user, "
        "or other users can write to it" in caplog.text
    )
    assert kept(source) == []


def left_over(source: Path, content: bytes, mode: int = 0o700) -> Path:
    """A file under the name that the library will have."""
    gcc = next(filter(None, map(shutil.which, compiler.COMPILERS)))
    path = compiler._folder() / f"{source.stem}-{compiler._digest(source, gcc)}.so"
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_a_library_that_others_may_write_to_is_made_anew(source: Path) -> None:
    path = left_over(source, b"anything", 0o777)
    assert library(source).answer() == 41
    assert path.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("share", [0.0, 0.2, 0.6, 0.99])
def test_a_library_that_was_cut_short_is_made_anew(share: float, source: Path) -> None:
    gcc = next(filter(None, map(shutil.which, compiler.COMPILERS)))
    other = source.with_name("whole.so")
    compiler._compile(source, gcc, other)
    whole = other.read_bytes()
    path = left_over(source, whole[: int(share * len(whole))])
    assert library(source).answer() == 41
    assert kept(source) == [path]


def test_another_library_under_its_name_is_made_anew(source: Path) -> None:
    import _ctypes

    left_over(source, Path(_ctypes.__file__).read_bytes())
    assert library(source).answer() == 41


def test_what_a_killed_compiler_left_goes(source: Path) -> None:
    old, new = (compiler._folder() / f"{compiler.PREFIX}{name}" for name in ("old", "new"))
    old.mkdir()
    new.mkdir()
    os.utime(old, (0, 0))
    library(source)
    assert not old.exists()
    assert new.exists()


def test_a_folder_named_from_here(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(source.parent)
    monkeypatch.setenv("ERC_GRAPH_CACHE", "cache")
    assert library(source).answer() == 41


def test_no_home(source: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.delenv("ERC_GRAPH_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # what it does where there is none
    with caplog.at_level(logging.WARNING):
        assert library(source) is None
    cache = "expected a home folder for the cache of compiled code, found none; set the environment variable ERC_GRAPH_CACHE to a folder"
    assert cache in caplog.text


def fake(folder: Path, name: str, body: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def test_a_compiler_that_fails_is_not_the_last_one(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = source.parent / "bin"
    folder.mkdir()
    fake(folder, compiler.COMPILERS[0], "exit 1")
    monkeypatch.setattr(compiler, "COMPILERS", (str(folder / compiler.COMPILERS[0]), *compiler.COMPILERS[::-1]))
    assert library(source).answer() == 41


def test_a_compiler_that_says_what_is_no_text(source: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    fake(source.parent, "odd", r"[ $1 = --version ] || { printf '\377\376 is wrong' >&2; exit 1; }")
    monkeypatch.setattr(compiler, "COMPILERS", (str(source.parent / "odd"),))
    with caplog.at_level(logging.WARNING):
        assert library(source) is None
    assert "is wrong" in caplog.text
    assert kept(source) == []


def test_an_error_of_the_compiler_is_said_and_leaves_nothing(source: Path, caplog: pytest.LogCaptureFixture) -> None:
    source.write_text("int answer(void) { return ; nonsense }\n")
    with caplog.at_level(logging.WARNING):
        assert library(source) is None
    assert "answer.c cannot be compiled" in caplog.text
    assert kept(source) == []


def test_a_name_that_is_nowhere_is_found_out_when_it_is_loaded(source: Path, caplog: pytest.LogCaptureFixture) -> None:
    source.write_text("int unheard_of(void); int answer(void) { return unheard_of(); }\n")
    with caplog.at_level(logging.WARNING):
        assert library(source) is None
    assert "unheard_of" in caplog.text


@pytest.mark.parametrize("word", ["0", "false", "No", "off"])
def test_switched_off(word: str, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ERC_GRAPH_COMPILED", word)
    assert library(source) is None
    assert not (source.parent / "cache").exists()


def test_without_a_compiler(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(source.parent))
    assert library(source) is None
    assert not (source.parent / "cache").exists()


def test_where_it_lies_by_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("ERC_GRAPH_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert compiler._folder() == tmp_path / "erc_graph"


def test_pytorch_has_the_product() -> None:
    assert compiler.sgemm()


@pytest.mark.parametrize("hidden", [True, False])
def test_a_product_that_is_hidden_or_another_is_not_used(hidden: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def library(_: str) -> object:
        return object() if hidden else type("Odd", (), {"sgemm_": lambda *_: None})

    monkeypatch.setattr(compiler.ctypes, "CDLL", library)
    assert compiler.sgemm.__wrapped__() is None
