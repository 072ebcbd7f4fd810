"""What a user's own method is asked before it is trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from erc_graph.data.sample.vectors import sample_corpus
from erc_graph.errors import ConfigError
from erc_graph.experiments.checks import check
from erc_graph.experiments.experiment import from_dict

CORPUS = sample_corpus(dialogues=20)
FILE = """
from dataclasses import dataclass

import torch
from torch import nn

from erc_graph.methods.base import Method
from erc_graph.methods.parts import Rowwise, Turn


@dataclass(frozen=True, kw_only=True)
class Config:
    width: int = 6


class Own(Method):
    Config = Config

    def build(self, c, shapes):
        self.turn = Turn(shapes.widths, c.width)
        self.classify = nn.Linear(c.width, shapes.outputs)

    def encode(self, given):
        x = self.turn(given).states[:, 0]
        return BODY
"""


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("x", ""),
        ("x - x.mean(0)", "expected the same scores for a dialogue alone and in a batch, found a difference of"),
        ("x[:, None]", r"expected scores of shape \(\d+, 6\), a row per utterance and a column per label, found \(\d+, 1, 6\)"),
        ("x * float('nan')", "expected finite scores from the untrained network, found NaN or inf; correct the computation of"),
        ("x @ x", r"the forward pass for two dialogues failed \(RuntimeError: .*\); the traceback above shows the line"),
        ("x + nn.Linear(1, 2)(x.new_ones(1)).nothing", r"the forward pass for two dialogues failed \(AttributeError"),
    ],
)
def test_scores_are_looked_at(body: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "own.py").write_text(FILE.replace("BODY", body))
    experiment = from_dict(f"{tmp_path / 'own.py'}:Own", {"dataset": "sample", "seeds": 1}, "a test")
    if not message:
        check(experiment, CORPUS)
        return
    with pytest.raises(ConfigError, match=message):
        check(experiment, CORPUS)
    assert ("own.py" in capsys.readouterr().err) == ("failed" in message)


def test_what_reads_the_next_turn_is_no_method_of_single_utterances(tmp_path: Path) -> None:
    ahead = "torch.cat([part.roll(-1, 0) for part in x.split(list(given.batch.sizes))])"
    (tmp_path / "own.py").write_text(FILE.replace("BODY", ahead))
    experiment = from_dict(f"{tmp_path / 'own.py'}:Own", {"dataset": "sample", "seeds": 1}, "a test")
    with pytest.raises(
        ConfigError, match="expected the last utterance not to change the scores of earlier utterances, because all modules are causal"
    ):
        check(experiment, CORPUS)


def test_a_method_without_parameters_or_that_cannot_be_built(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(FILE.replace("BODY", "x").replace("Turn(shapes.widths, c.width)", "Turn(shapes.nothing)"))
    experiment = from_dict(f"{tmp_path / 'own.py'}:Own", {"dataset": "sample", "seeds": 1}, "a test")
    with pytest.raises(ConfigError, match=r"building the network failed \(AttributeError: .*; the traceback above shows the line"):
        check(experiment, CORPUS)
    empty = FILE.replace("Turn(shapes.widths, c.width)", "Turn(shapes.widths)").replace(
        "nn.Linear(c.width, shapes.outputs)", "nn.Identity()"
    )
    (tmp_path / "own.py").write_text(empty.replace("BODY", "x"))
    experiment = replace(experiment, method=f"{tmp_path / 'own.py'}:Own")
    with pytest.raises(ConfigError, match="expected a network with trainable parameters, found none"):
        check(experiment, CORPUS)
