r"""Pooling of frames or words to one vector per utterance (`erc_graph.methods.hff`, Equations (10)–(12), (24)–(28)).

The inputs are padded sequences `(n, L, width)` with a mask `(n, L)` bool. Every sequence has at least one frame or word that is not
padding. Padding does not change the result.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from erc_graph.encoders.sequences import masked_mean


class AttentiveSum(nn.Module):
    r"""Attention pooling: a weighted sum of the states :math:`h_t` over time, with learned parameters `u` and `U`.

    .. math:: f = \sum_t \beta_t h_t, \qquad \beta = \mathrm{softmax}_t(u^\top \tanh(U h_t))

    Args:
        width: Width of the states.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.score = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1, bias=False))

    def shares(self, states: Tensor, mask: Tensor) -> Tensor:
        """Compute the attention weights β of the states, `(n, L)`, zero at padding."""
        scores = self.score(states).squeeze(-1)
        return scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(-1) * mask

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Pool states `(n, L, width)` with the mask `(n, L)` to `(n, width)`."""
        return (self.shares(states, mask)[..., None] * states).sum(1)


class AttentiveGRU(nn.Module):
    """A forward GRU over the words or frames of an utterance, followed by attention pooling of the GRU states.

    Args:
        width: Width of the input states and of the output vector.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gru = nn.GRU(width, width, batch_first=True)
        self.pool = AttentiveSum(width)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Encode words or frames `(n, L, width)` with the mask `(n, L)` as vectors `(n, width)`."""
        return self.pool(self.gru(states)[0], mask)


def first_and_mean(states: Tensor, mask: Tensor) -> Tensor:
    """Concatenate the first state, of the token `[CLS]`, and the mean over all tokens: `(n, L, width)`, mask `(n, L)` → `(n, 2 width)`."""
    return torch.cat([states[:, 0], masked_mean(states, mask)], -1)
