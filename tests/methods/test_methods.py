"""What holds for the file of every method, and the registry."""

from __future__ import annotations

import inspect
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from erc_graph.data.corpus import Corpus
from erc_graph.data.sample.vectors import sample_corpus
from erc_graph.methods import METHODS
from erc_graph.methods.base import Method
from erc_graph.methods.schema import Schema

Readable = Callable[[Corpus, str], Corpus]


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return sample_corpus(dialogues=6, seed=2)


def tagged(comments: list[str]) -> set[int]:
    """Numbers of `Eq. (4)`, `Eqs. (6), (7)` and `Eqs. (3)-(5)`."""
    found: set[int] = set()
    for comment in comments:
        for run in re.findall(r"Eqs?\. ((?:\(\d+\)(?:-|, | and )?)+)", comment):
            numbers = [int(number) for number in re.findall(r"\((\d+)\)", run)]
            found |= set(range(numbers[0], numbers[1] + 1)) if ")-(" in run else set(numbers)
    return found


def test_tags_are_read() -> None:
    assert tagged(["# Eq. (1)", "# Eqs. (6), (7)", "# Eqs. (9)-(12), with", "# (20)"]) == {1, 6, 7, 9, 10, 11, 12}


def test_a_method_is_imported_when_it_is_asked_for() -> None:
    asked = "import sys, erc_graph; from erc_graph.methods import METHODS; list(METHODS); print('erc_graph.methods.hff' in sys.modules); "
    asked += "print(METHODS['hff'].__name__, 'erc_graph.methods.hff' in sys.modules, 'hff' in METHODS, 'none' in METHODS)"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "HFF", "True", "True", "False"]
    with pytest.raises(KeyError, match="none"):
        METHODS["none"]


@pytest.mark.parametrize("name", METHODS)
def test_every_equation_of_the_docstring_is_tagged_where_it_is_computed(name: str) -> None:
    module = sys.modules[METHODS[name].__module__]
    printed = {int(number) for number in re.findall(r"\\tag\{(\d+)\}", module.__doc__ or "")}
    file = Path(inspect.getfile(module))
    files = file.parent.glob("*.py") if file.parent.name != "methods" else [file]  # a method of several files has a folder
    sources = [io.StringIO(one.read_text(encoding="utf-8")) for one in files]
    comments = [t.string for one in sources for t in tokenize.generate_tokens(one.readline) if t.type == tokenize.COMMENT]
    assert printed == tagged(comments)
    assert printed == set(range(1, len(printed) + 1))
    assert printed or name == "bigru"


@pytest.mark.parametrize("name", METHODS)
def test_a_method_says_what_it_is(name: str, corpus: Corpus, readable: Readable) -> None:
    method = METHODS[name](Schema.of(readable(corpus, name), reads=METHODS[name].reads))
    assert isinstance(method, Method)
    assert method.task is corpus.task
    assert method.device.type == "cpu"
    assert method.config == METHODS[name].Config()
    assert all(stage.name for stage in method.stages())
    assert len({stage.name for stage in method.stages()}) == len(method.stages())


@pytest.mark.parametrize("name", METHODS)
def test_inputs_are_fitted_all_over(name: str, corpus: Corpus, readable: Readable) -> None:
    corpus = readable(corpus, name)
    method = METHODS[name](Schema.of(corpus, reads=METHODS[name].reads))
    batch = method.schema.batch(corpus)
    method.fit_inputs(batch)
    means = {key.rsplit("mean_", 1)[1]: value for key, value in method.named_buffers() if ".mean_" in key}
    means |= {key.split(".")[-2]: value for key, value in method.named_buffers() if key.endswith(".mean")}
    assert means
    for modality, value in means.items():
        rows = batch.features[modality][batch.present[modality]] if batch.features else batch.sequences[modality].values
        torch.testing.assert_close(value, rows.mean(0), rtol=1e-4, atol=1e-5)
