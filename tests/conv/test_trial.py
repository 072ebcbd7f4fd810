"""Libraries that do nothing, something else, or end the process are found out before they are used, once."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from erc_graph.conv import compiler, gatv2
from erc_graph.conv.angular import compiled
from erc_graph.data.sample.vectors import sample_corpus
from erc_graph.inference.pipeline import Pipeline
from erc_graph.methods import METHODS
from erc_graph.methods.schema import Schema

pytestmark = pytest.mark.skipif(sys.platform != "linux" or not shutil.which("gcc") or not compiler.sgemm(), reason="no C compiler")
SOURCES = {"layers": compiled.SOURCE, "scores": Path(gatv2.__file__).with_suffix(".c")}
ROOT = Path(compiler.__file__).parents[2]
NAMES = {"layers": ("run",), "scores": ("forward", "backward")}
BODIES = {"no-op": "return 0;", "crash": "return *(volatile int *)0;", "end": "_exit(0);"}
SAID = {
    "no-op": "gives other results than PyTorch",
    "symbol-less": "undefined symbol",
    "crash": r"crashed in its trial \(signal 11\)",
    "crash at load": r"crashed in its trial \(signal 11\)",
    "end": "ended its trial with status 0",
    "cut": r"crashed in its trial|file too short|cannot read|invalid|truncated",
    "text": "invalid ELF header|file too short",
}  # fmt: skip


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.delenv("ERC_GRAPH_COMPILED", raising=False)
    monkeypatch.setenv("ERC_GRAPH_CACHE", str(tmp_path / "cache"))
    compiler.library.cache_clear()
    yield tmp_path / "cache"
    compiler.library.cache_clear()


def plant(what: str, name: str) -> Path:
    """A library that is whole by its own digest, under the name that the right one would have."""
    source = SOURCES[name]
    path = compiler._folder() / f"{source.stem}-{compiler._digest(source, str(shutil.which('gcc')))}.so"
    code = "#include <unistd.h>\n" + "".join(f"int {one}() {{ {BODIES.get(what, 'return 0;')} }}\n" for one in NAMES[name])
    if what == "symbol-less":
        code = "int nothing;\n"
    if what == "crash at load":
        code += "__attribute__((constructor)) void at_load() { *(volatile int *)0 = 1; }\n"
    own = path.with_suffix(".c")
    own.write_text(code)
    subprocess.run(["gcc", "-shared", "-fPIC", str(own), "-o", str(path)], check=True)
    own.unlink()
    content = path.read_bytes()
    content = content[: len(content) // 3] if what == "cut" else b"no library\n" if what == "text" else content
    path.write_bytes(content + hashlib.sha256(content).digest())
    return path


CASES = [("no-op", "layers"), ("no-op", "scores")]
OTHERS = [(what, name) for what in SAID for name in SOURCES if (what, name) not in CASES]


@pytest.mark.parametrize(("what", "name"), [*CASES, *(pytest.param(*case, marks=pytest.mark.slow) for case in OTHERS)])
def test_a_library_that_is_wrong_is_put_aside(
    what: str, name: str, cache: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = plant(what, name)
    corpus = sample_corpus(dialogues=3)
    torch.manual_seed(0)
    pipeline = Pipeline(METHODS["mmgcn" if name == "layers" else "graphcfc"](Schema.of(corpus)))
    with caplog.at_level(logging.WARNING):
        found = pipeline.predict(corpus)
        with monkeypatch.context() as off:
            off.setattr(compiled if name == "layers" else gatv2, "library", lambda *_: None)
            assert found == pipeline.predict(corpus)
        assert pipeline.predict(corpus) == found and len(caplog.records) == 1
        compiler.library.cache_clear()  # as in another process: what was found out is known there
        assert compiler.library(SOURCES[name], name) is None
    notes = [record.getMessage() for record in caplog.records]
    assert len(notes) == 2 and all(str(path) in note and "the slower code in PyTorch is used instead" in note for note in notes)
    assert re.search(SAID[what], notes[0]), notes


@pytest.mark.parametrize("name", [pytest.param("layers", marks=pytest.mark.slow), "scores"])
def test_a_library_that_is_right_is_tried_once(name: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "COMPILERS", ("gcc",))
    assert compiler.library(SOURCES[name], name) is not None
    (kept,) = cache.glob("*.json")
    assert kept.stat().st_mode & 0o777 == 0o600
    compiler.library.cache_clear()
    monkeypatch.setattr(sys, "executable", "nothing that runs")
    assert compiler.library(SOURCES[name], name) is not None
    compiler.library.cache_clear()
    kept.write_text("{")  # damaged: it is asked again, which cannot be done
    assert compiler.library(SOURCES[name], name) is None


@pytest.mark.slow
def test_a_command_says_it_once(cache: Path, tmp_path: Path) -> None:
    """Labels by a library that does nothing are those of PyTorch alone."""
    corpus = sample_corpus(dialogues=3)
    torch.manual_seed(0)
    Pipeline(METHODS["mmgcn"](Schema.of(corpus))).save_pretrained(tmp_path / "model")
    corpus.save(tmp_path / "talks")
    path = plant("no-op", "layers")

    def command(**environment: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", "erc_graph", "predict", "--model", str(tmp_path / "model"), str(tmp_path / "talks"), "--json"]
        return subprocess.run(words, capture_output=True, text=True, check=True, env={**os.environ, **environment}, cwd=ROOT)

    one, other = command(), command(ERC_GRAPH_COMPILED="0")
    assert one.stdout == other.stdout and json.loads(one.stdout)
    assert one.stderr.replace(other.stderr, "").count("\n") == 1 and str(path) in one.stderr, one.stderr
