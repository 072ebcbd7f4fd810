"""States of the dialogue and its speakers: what a dialogue is alone, what comes turn by turn, and gradients asked for more than once.

The equations are checked against public code and by loop in `tests/methods/reference` (`test_dialoguernn.py`, `test_cosmic.py`).
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.encoders.parties import Memory, Parties, Party
from erc_graph.encoders.turns import over_turns
from tests.methods.reference.conftest import batch_of

PARTIES = {"q": Party(width=3, listens=("u",)), "i": Party(width=2, given=("extra",), of="q")}


def make(bidirectional: bool, streams: int = 1) -> tuple[Parties, Tensor, Batch]:
    torch.manual_seed(0)
    part = Parties(
        {"u": 4, "extra": 2}, 5, PARTIES, emotion=3, reads=("u",), bounded=True, bidirectional=bidirectional, streams=streams
    ).double()
    speakers = [torch.tensor(turns) for turns in ([0, 1, 0, 2, 1], [0], [0, 0, 1])]
    return part, torch.randn(9, 6, dtype=torch.float64), batch_of(speakers, speakers)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_dialogue_alone(bidirectional: bool) -> None:
    part, rows, batch = make(bidirectional)
    found = over_turns(part, rows, batch).split(batch.sizes)
    for d, own in enumerate(rows.split(batch.sizes)):
        torch.testing.assert_close(over_turns(part, own, batch.select(torch.tensor([d]))), found[d])
    assert part.causal != bidirectional and part.width == found[0].shape[1] == 3 * (1 + bidirectional)


def test_turn_by_turn_with_speakers_who_appear_later() -> None:
    part, rows, batch = make(bidirectional=False, streams=2)
    memory = Memory()
    rows = torch.stack([rows, rows.flip(0)], 1)[:5]
    whole = part.states(rows, batch.select(torch.tensor([0])))[0]
    for t, row in enumerate(rows):
        now = batch_of([batch.speaker[t : t + 1]], [torch.zeros(1, dtype=torch.long)])
        with torch.no_grad():
            states, memory = part.states(row[None], now, memory)
        for name, value in states.items():
            torch.testing.assert_close(value[0], whole[name][t])


@pytest.mark.parametrize("bidirectional", [False, True])
def test_streams_side_by_side_are_those_of_each_alone(bidirectional: bool) -> None:
    part, rows, batch = make(bidirectional, streams=2)
    nodes = Nodes(torch.stack([rows, rows.flip(0)], 1), torch.rand(9, 2) < 0.7, ("one", "other"))
    found = part(nodes, batch).states
    for k in range(2):
        alone, _, _ = make(bidirectional)
        alone.directions = part.directions[k * len(alone.directions) :][: len(alone.directions)]
        torch.testing.assert_close(alone(nodes.take(k), batch).states[:, 0], found[:, k])


def test_gradients_of_a_part_of_the_turns_and_more_than_once() -> None:
    part, rows, batch = make(bidirectional=True)
    found = over_turns(part, rows.requires_grad_(), batch)
    leaves = [rows, *part.parameters()]
    early, whole = (torch.autograd.grad(value, leaves, retain_graph=True) for value in (found[:2].sum(), found.sum()))
    late = torch.autograd.grad(found[2:].sum(), leaves)
    for first, second, both in zip(early, late, whole, strict=True):
        torch.testing.assert_close(first + second, both)


def test_gradients_are_slopes() -> None:
    part, rows, batch = make(bidirectional=True)
    assert torch.autograd.gradcheck(lambda rows: over_turns(part, rows, batch), rows.requires_grad_())


def test_dropout_in_training_alone() -> None:
    part, rows, batch = make(bidirectional=True)
    still = over_turns(part, rows, batch)
    part.dropout.p = 0.5
    torch.testing.assert_close(over_turns(part.eval(), rows, batch), still)
    assert (over_turns(part.train(), rows, batch) == 0).double().mean() > 0.2
