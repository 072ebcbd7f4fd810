"""Files of every format, spoilt at random: exit code 0 or 2, one line of refusal, bounded memory and time, never a traceback."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import sys
import traceback
import warnings
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from erc_graph.cli.main import main
from erc_graph.data.files.load import load_corpus
from erc_graph.data.sample.vectors import sample_corpus
from erc_graph.inference.pipeline import Pipeline
from erc_graph.methods import METHODS
from erc_graph.methods.schema import Schema
from tests.data.files.spoilt import EXPORT, VECTORS, Format, Json, encode, formats, spoil

MOST = 1 << 30  # bytes beyond what the imports take
SECONDS = 10  # of the processor
INPUTS = 2400

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")]


def ask(argv: list[str], said: Path) -> tuple[int, float]:
    """Run a command in a copy of this process, which has the limits: exit code (below 0: signal), seconds of the processor."""
    child = os.fork()
    if child == 0:
        code = 70
        try:
            nothing = os.open(os.devnull, os.O_RDWR)
            for stream, target in ((0, nothing), (1, nothing), (2, os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC))):
                os.dup2(target, stream)
            sys.stdout, sys.stderr = (open(number, "w", closefd=False, encoding="utf-8", errors="replace") for number in (1, 2))  # noqa: SIM115
            warnings.simplefilter("ignore")
            most = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + MOST
            resource.setrlimit(resource.RLIMIT_AS, (most, most))
            signal.alarm(60)
            code = main(argv)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    _, status, usage = os.wait4(child, 0)
    return os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved corpus, a model and a run; what a command imports is imported by them, before the copies of this process are made."""
    torch.set_num_threads(1)  # threads do not outlive a fork
    folder = tmp_path_factory.mktemp("made")
    sample_corpus(dialogues=12).save(folder / "corpus")
    corpus = load_corpus(folder / "corpus")
    torch.manual_seed(0)
    Pipeline(METHODS["bigru"](Schema.of(corpus, ("text", "audio")))).save_pretrained(folder / "model")
    options = ["--training.epochs", "1", "--pipeline.width", "8", "--seeds", "1"]
    assert main(["experiment", "bigru", "--data", str(folder / "corpus"), *options, "--out", str(folder / "run")]) == 0
    (folder / "talk.json").write_bytes(Json(VECTORS).encode())
    return folder


class Kinds(dict[str, Format]):
    """Formats by name, which Hypothesis can name in a line."""

    def __repr__(self) -> str:
        return f"{len(self)} formats"


@pytest.fixture(scope="module")
def kinds(made: Path) -> Kinds:
    return Kinds(formats(made))


def put(folder: Path, kind: Format, made: Path, chance: random.Random | None) -> list[str]:
    """Write the files of a format, one of them spoilt, and give the command that reads them."""
    for path, content in kind.files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(spoil(content, chance) if chance and path == kind.spoilt else encode(content))
    places = {"{}": folder, "{model}": made / "model", "{run}": made / "run", "{talk}": made / "talk.json"}

    def filled(word: str) -> str:
        for mark, place in places.items():
            word = word.replace(mark, str(place))
        return word

    return [filled(word) for word in kind.command]


def test_what_is_not_spoilt_is_read(kinds: Kinds, made: Path, tmp_path: Path) -> None:
    for number, (name, kind) in enumerate(kinds.items()):
        if name.startswith(EXPORT):  # some are there to be refused
            continue
        code, _ = ask(put(tmp_path / str(number), kind, made, None), tmp_path / "said")
        said = (tmp_path / "said").read_text()
        assert code == 0 or "--extractor" in said, (name, said)  # a model that was not told of an encoder reads the words, and says so


@settings(
    max_examples=INPUTS, derandomize=True, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
)
@given(export=st.booleans(), number=st.integers(0, 9999), seed=st.integers(0, 2**32 - 1))
def test_what_is_spoilt_is_read_or_refused_in_one_line(
    export: bool, number: int, seed: int, kinds: Kinds, made: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    names = [name for name in kinds if name.startswith(EXPORT) == export]
    folder, name = tmp_path_factory.getbasetemp() / "fuzz", names[number % len(names)]
    shutil.rmtree(folder, ignore_errors=True)
    code, seconds = ask(put(folder, kinds[name], made, random.Random(seed)), folder / "said")
    said = (folder / "said").read_text(errors="replace")
    errors = [line for line in said.splitlines() if line.startswith("error:")]
    where = f"{name}, seed {seed}: exit code {code}, {seconds:.1f} s: {said[-2000:]}"
    assert code in (0, 2) and "Traceback" not in said, where
    assert len(errors) == (code == 2) and all(len(line) < 500 for line in errors), where
    assert seconds <= SECONDS, where
