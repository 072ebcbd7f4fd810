"""Position encodings: the position of an utterance in the dialogue as a fixed vector (Vaswani et al., NIPS 2017)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.encoders.turns import OverTurns


class Positions(OverTurns):
    """Sinusoidal position encodings of utterances, added to the states of all modalities: sines in even channels, cosines in odd channels.

    The encoding of an utterance depends on the number of preceding utterances; therefore, `Positions` is a module over dialogues
    (`OverTurns`).
    """

    causal = True

    def forward(self, nodes: Nodes, batch: Batch) -> Nodes:
        """Add the position encodings to node states: `(N, S, width)` → `(N, S, width)`."""
        return nodes.with_states(nodes.states + sines(batch.turn, nodes.states)[:, None])

    def step(self, nodes: Nodes, batch: Batch, memory: Any) -> tuple[Nodes, int]:
        """Process the next utterance of a live dialogue; `memory` is the number of preceding utterances, as returned by the last call."""
        turn = memory or 0
        return nodes.with_states(nodes.states + sines(torch.tensor([turn], device=batch.device), nodes.states)[:, None]), turn + 1


def sines(turn: Tensor, like: Tensor) -> Tensor:
    """Return the encodings of positions `(n,)`: `(n, width)`, with the width and data type of `like`.

    >>> [round(value, 4) for value in sines(torch.tensor([1]), torch.zeros(1, 3))[0].tolist()]
    [0.8415, 0.5403, 0.0022]
    """
    width = like.shape[-1]
    rate = torch.exp(torch.arange(0, width, 2, device=turn.device, dtype=torch.float64) * (-math.log(10_000.0) / width))
    angle = turn[:, None] * rate
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(1)[:, :width].to(like.dtype)
