"""The loop over turns: where rows and pairs stand, and its written gradient."""

from __future__ import annotations

from typing import cast

import pytest
import torch

from erc_graph.conv.directed_turns import NOTHING, Order, Recurrence, order_of
from erc_graph.data.batch import Batch
from erc_graph.graphs.edge_list import EdgeList, Listed
from erc_graph.graphs.edges import edges_of
from tests.conv.loops import PAST, SPEAKERS, make_batch, make_nodes


def ordered(name: str, batch: Batch) -> tuple[Order, Listed]:
    """The order of the edges of a recipe, some nodes absent."""
    edges = cast(EdgeList, edges_of(PAST[name], make_nodes(batch, ("turn",)), batch, layout="list")).edges
    return order_of(batch, edges, len(PAST[name].relations)), edges


@pytest.mark.parametrize("name", PAST)
def test_rows_stand_turn_by_turn_and_every_edge_has_a_slot(name: str) -> None:
    batch = make_batch()
    order, edges = ordered(name, batch)
    assert order.counts == (4, 3, 3, 3, 2, 1, 1)  # dialogues of 7, 1, 5 and 4 turns
    assert torch.equal(batch.turn[order.rows], torch.arange(7).repeat_interleave(torch.tensor(order.counts)))
    assert torch.equal(order.rows[order.back], torch.arange(batch.utterances))
    pairs = sum(n * (t - first) for t, (n, first) in enumerate(zip(order.counts, order.first, strict=True)))
    assert len(order.score) == pairs
    lonely = torch.ones(pairs, dtype=torch.bool)
    lonely[order.pair] = False
    assert bool((order.score[lonely] == NOTHING).all())
    times = torch.ones(len(order.pair)) if edges.times is None else edges.times
    for e, pair in enumerate(order.pair.tolist()):
        ends = (edges.target == edges.target[e]) & (edges.source == edges.source[e])
        assert float(order.number[e]) == float(times[ends].sum())
        assert order.score[pair].exp().isclose(order.number[e])
    assert len(set(order.slot.tolist())) == len(order.slot)


@pytest.mark.parametrize("speakers", [SPEAKERS, SPEAKERS[1:2]])
def test_gradients(speakers: tuple[tuple[int, ...], ...]) -> None:
    width, batch = 2, make_batch(speakers)
    order, _ = ordered("dag", batch)
    shapes = ((batch.utterances, width), (6 * width, width), (8 * width,), (width, 6 * width), (2 * width, width), (width,))
    given = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in (*shapes, (2 * len(order.score),))]
    assert torch.autograd.gradcheck(lambda *values: Recurrence.apply(*values, order)[0], given)
