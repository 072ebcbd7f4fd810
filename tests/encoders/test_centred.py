"""Features minus the mean of their dialogue: by loop, whole and turn by turn."""

from __future__ import annotations

import pytest
import torch

from erc_graph.data.nodes import Nodes
from erc_graph.encoders.centred import Centred
from tests.laws.cases import conversations


@pytest.mark.parametrize("causal", [False, True])
def test_by_loop(causal: bool) -> None:
    batch = conversations(None, (5, 1, 3))
    states, present = torch.randn(batch.utterances, 2, 4).double(), torch.rand(batch.utterances, 2) > 0.3
    found = Centred(causal=causal)(Nodes(states, present, ("a", "b")), batch).states
    for first, last in zip(batch.ptr[:-1].tolist(), batch.ptr[1:].tolist(), strict=True):
        for i in range(first, last):
            for stream in range(2):
                near = [states[j, stream] for j in range(first, i + 1 if causal else last) if present[j, stream]]
                wanted = states[i, stream] - sum(near) / len(near) if present[i, stream] else torch.zeros(4).double()
                torch.testing.assert_close(found[i, stream], wanted, rtol=0, atol=1e-12)


def test_turn_by_turn() -> None:
    batch = conversations(None, (6,))
    part, memory = Centred(causal=True), None
    nodes = Nodes(torch.randn(6, 1, 4), torch.rand(6, 1) > 0.3, ("turn",))
    whole = part(nodes, batch).states
    for i in range(6):
        one = Nodes(nodes.states[i : i + 1], nodes.present[i : i + 1], nodes.streams)
        state, memory = part.step(one, batch, memory)
        torch.testing.assert_close(state.states, whole[i : i + 1])
