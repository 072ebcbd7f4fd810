"""Attention in one go gives what dot, softmax and spread give one after the other."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from erc_graph.graphs.edge_blocks import EdgeBlocks
from erc_graph.graphs.edges import edges_of
from erc_graph.graphs.messages import Edges
from tests.conv.loops import RECIPES, make_batch, make_nodes


def half(values: Tensor) -> Tensor:
    """A dropout without chance."""
    return 0.5 * values


@pytest.mark.parametrize("absent", [False, True])
@pytest.mark.parametrize("drop", [None, half])
@pytest.mark.parametrize("name", RECIPES)
def test_the_same_as_step_by_step(name: str, drop: Callable[[Tensor], Tensor] | None, absent: bool) -> None:
    batch = make_batch()
    nodes = make_nodes(batch, absent=absent)
    edges = edges_of(RECIPES[name], nodes, batch, layout="blocks")
    assert isinstance(edges, EdgeBlocks)
    x = torch.randn(*nodes.present.shape, 3, 2, 5, dtype=torch.float64, requires_grad=True)
    found, expected = edges.attend(x, drop), Edges.attend(edges, x, drop)
    assert torch.allclose(found, expected, atol=1e-12)
    given = torch.randn_like(found)
    (mine,), (theirs,) = (torch.autograd.grad(out, x, given) for out in (found, expected))
    assert torch.allclose(mine, theirs, atol=1e-12)


def test_dropped_weights_send_nothing() -> None:
    batch = make_batch()
    nodes = make_nodes(batch)
    edges = edges_of(RECIPES["complete"], nodes, batch, layout="blocks")
    x = torch.randn(*nodes.present.shape, 3, 2, 5, requires_grad=True)
    out = edges.attend(x, torch.zeros_like)
    assert not out.any()
    assert not torch.autograd.grad(out.sum(), x)[0].any()
