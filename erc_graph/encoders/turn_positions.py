"""The number of a turn as sines and cosines, as in the Transformer (Vaswani et al., NeurIPS 2017)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.encoders.turns import OverTurns


def sinusoids(turn: Tensor, width: int) -> Tensor:
    """Sines and cosines in turn: `(n,)` → `(n, width)`."""
    rate = 10000.0 ** (-torch.arange(0, width, 2, device=turn.device, dtype=torch.double) / width)
    angle = turn[:, None] * rate
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(1)[:, :width]


class TurnPositions(OverTurns):
    """Adds the sinusoids of its turn to every state."""

    @property
    def causal(self) -> bool:
        """Yes: the number of a turn is that of earlier ones."""
        return True

    def forward(self, nodes: Nodes, batch: Batch) -> Nodes:
        """`(N, S, width)` → `(N, S, width)`"""
        return nodes.with_states(nodes.masked() + sinusoids(batch.turn, nodes.width).to(nodes.states)[:, None])

    def step(self, nodes: Nodes, batch: Batch, memory: Any) -> tuple[Nodes, Any]:
        """One more turn; the number of turns so far is handed on."""
        turn = torch.zeros_like(batch.turn) if memory is None else memory + 1
        return nodes.with_states(nodes.masked() + sinusoids(turn, nodes.width).to(nodes.states)[:, None]), turn
