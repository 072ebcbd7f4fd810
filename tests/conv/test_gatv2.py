"""The compiled scores against those in PyTorch; these against a loop in `tests/methods/reference/test_graphcfc.py`."""

from __future__ import annotations

import ctypes
import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from erc_graph.conv import gatv2
from erc_graph.conv.compiler import COMPILERS, library
from erc_graph.conv.gatv2 import GATv2, kinds_of
from erc_graph.graphs.edges import Layout
from erc_graph.graphs.recipe import load_recipe
from tests.conv.loops import make_batch, make_nodes

POSSIBLE = any(map(shutil.which, COMPILERS))


@pytest.mark.skipif(not POSSIBLE, reason="no C compiler")
@pytest.mark.parametrize("layout", ["list", "blocks"])
@pytest.mark.parametrize("width", [3, 70])  # more than the channels that a thread takes at a time
def test_compiled_scores_are_those_of_pytorch(layout: Layout, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, batch = load_recipe("graphcfc"), make_batch()
    vectors = nn.Embedding(max(kinds_of(recipe)) + 1, width)
    conv, asked = GATv2(width, recipe, vectors, heads=2), list[Path]()
    conv.layout = layout
    nodes = make_nodes(batch, width=width)

    def outcome(dtype: torch.dtype) -> list[Tensor]:
        x = nodes.states.detach().to(dtype).requires_grad_()
        conv.to(dtype).zero_grad()
        vectors.to(dtype).zero_grad()
        found = conv(nodes.with_states(x), batch).states
        found.square().sum().backward()
        return [found.detach(), x.grad, vectors.weight.grad, *(value.grad for value in conv.parameters())]

    def asking(source: Path, trial: str) -> ctypes.CDLL | None:
        asked.append(source)
        return library(source, trial)

    monkeypatch.setattr(gatv2, "library", asking)
    compiled = outcome(torch.float32)
    assert len(asked) == 2 and library(asked[0], "scores") is not None
    precise = outcome(torch.float64)
    assert len(asked) == 2
    for one, other in zip(compiled, precise, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-4 * float(other.abs().max()))
