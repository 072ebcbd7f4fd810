"""What parity with the public code does not tell (`tests/methods/reference/test_m3net.py`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch

from erc_graph.data.batch import Batch
from erc_graph.data.tasks import Task
from erc_graph.errors import ConfigError
from erc_graph.methods.m3net import M3NET, M3NETConfig
from erc_graph.methods.schema import Schema

TASK = Task(name="three", labels=("a", "b", "c"))


def make(widths: Mapping[str, int], **config: object) -> M3NET:
    torch.manual_seed(0)
    return M3NET(Schema(widths=widths, task=TASK), M3NETConfig(width=4, hidden=3, dropout=0.0, **config)).double()  # type: ignore[arg-type]


def batch_of(widths: Mapping[str, int], rows: int = 5) -> Batch:
    return Batch(
        ptr=torch.tensor([0, 3, rows]),
        speaker=torch.tensor([0, 1, 0, 0, 1]),
        target=torch.zeros(rows, dtype=torch.long),
        judged=torch.ones(rows, dtype=torch.bool),
        row=torch.arange(rows),
        features={name: torch.randn(rows, width, dtype=torch.float64) for name, width in widths.items()},
        present={name: torch.ones(rows, dtype=torch.bool) for name in widths},
    )


def test_texts_of_several_widths_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"modalities: expected text features of the same width, found .*'text2': 3\}; leave out"):
        make({"text1": 2, "text2": 3})


def test_only_several_texts_couple_a_batch() -> None:
    assert make({"audio": 2, "text1": 3, "text2": 3}).couples_batch
    alone = make({"audio": 2, "text": 3})
    assert not alone.couples_batch
    assert not alone.texts.norm


def test_one_text_of_several_that_is_missing_is_left_out_of_the_mean() -> None:
    widths = {"text1": 3, "text2": 3}
    method, batch = make(widths).eval(), batch_of(widths)
    missing = replace(batch, present={**batch.present, "text2": torch.tensor([True, True, False, True, True])})
    given = method.texts(method.given(missing))
    scale = (1 + 1e-5) ** -0.5  # fresh running figures: means of zero and variances of one
    wanted = (batch.features["text1"] + batch.features["text2"]) / 2
    wanted[2] = batch.features["text1"][2]
    torch.testing.assert_close(given.values["text"], wanted * scale)
    assert bool(given.present["text"].all())


def test_weights_by_kind_start_as_uniform_ones_and_are_learned() -> None:
    widths = {"audio": 2, "text": 3}
    batch, uniform, kind = batch_of(widths), make(widths), make(widths, weights="kind")
    kind.load_state_dict({**kind.state_dict(), **uniform.state_dict()})
    torch.testing.assert_close(kind(batch).scores, uniform(batch).scores)
    kind(batch).scores.square().sum().backward()
    for weight in (kind.hypergraph.edge_weight, kind.hypergraph.node_weight):
        assert weight is not None
        assert weight.grad is not None
        assert bool(weight.grad.any())
