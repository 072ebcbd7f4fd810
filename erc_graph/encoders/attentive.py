r"""One vector per utterance from its frames or words (hierarchical feature fusion, Eqs. (10)–(12), (24)–(28)).

All take `(n, L, width)` and the mask `(n, L)` bool of what is real, at least one item each; what is padded changes nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from erc_graph.encoders.sequences import masked_mean


class AttentiveSum(nn.Module):
    r"""Weighted sum over time; the weight of each state is learned.

    .. math:: f = \sum_t \beta_t h_t, \qquad \beta = \mathrm{softmax}_t(u^\top \tanh(U h_t))

    Args:
        width: Width of the states.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.score = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1, bias=False))

    def shares(self, states: Tensor, mask: Tensor) -> Tensor:
        """Compute β: `(n, L)`; zero for padding."""
        scores = self.score(states).squeeze(-1)
        return scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(-1) * mask

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Map `(n, L, width)`, `(n, L)` to `(n, width)`."""
        return (self.shares(states, mask)[..., None] * states).sum(1)


class AttentiveGRU(nn.Module):
    """A GRU over the items of an utterance, forward, and the attentive sum of its states.

    Args:
        width: Width of input and output.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gru = nn.GRU(width, width, batch_first=True)
        self.pool = AttentiveSum(width)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Map `(n, L, width)`, `(n, L)` to `(n, width)`."""
        return self.pool(self.gru(states)[0], mask)


def first_and_mean(states: Tensor, mask: Tensor) -> Tensor:
    """Concatenate the first item, which is [CLS], and the mean of all: `(n, L, width)`, `(n, L)` → `(n, 2 width)`."""
    return torch.cat([states[:, 0], masked_mean(states, mask)], -1)
