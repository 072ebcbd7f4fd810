"""Matching attention: every utterance attends to the utterances of its dialogue that are similar to it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from erc_graph.data.batch import Batch
from erc_graph.data.window import Window
from erc_graph.encoders.turns import OverRows


class MatchingAttention(OverRows):
    r"""Attention between the utterances of a dialogue, with the utterances themselves as values.

    .. math::
        y_i = \sum_j \mathrm{softmax}_j \big( \tanh(x_j \cdot (T x_i + t)) \big)\, x_j

    :math:`x_i` is the vector of utterance `i`; `T` and `t` are learned. DialogueRNN (Majumder et al., AAAI 2019) and the public
    implementations of later methods use this attention.

    Args:
        width: Width of the input and output vectors.
        causal: Whether an utterance attends only to itself and to earlier utterances.
        bounded: Whether the tanh is applied to the scores; the scores of DialogueRNN have no tanh.
        bias: Whether the scores have the bias `t`; DialogueGCN has no bias.
    """

    def __init__(self, width: int, *, causal: bool = False, bounded: bool = True, bias: bool = True) -> None:
        super().__init__()
        self.width, self.causal, self.bounded = width, causal, bounded
        self.transform = nn.Linear(width, width, bias=bias)

    def read(self, rows: Tensor, batch: Batch) -> Tensor:
        """Compute the attention output of every utterance: `(N, width)` → `(N, width)`."""
        x = batch.pad(rows)  # (D, L, width)
        score = self._score(x, x)  # (D, L, L): asked by, of
        turn = torch.arange(batch.longest, device=batch.device)
        mask = turn[:, None] >= turn if self.causal else batch.mask[:, None]
        return batch.unpad(score.masked_fill(~mask, -torch.inf).softmax(-1) @ x)

    def read_next(self, row: Tensor, batch: Batch, memory: Window | None) -> tuple[Tensor, Window]:
        """Process the next utterance in evaluation mode: `(1, width)` → `(1, width)`. `memory` contains all earlier utterances."""
        memory = memory or Window(None)
        rows = memory.push(row).flatten(0, -2)  # (turns, width)
        return self._score(row, rows).softmax(-1) @ rows, memory

    def _score(self, asking: Tensor, asked: Tensor) -> Tensor:
        score = self.transform(asking) @ asked.transpose(-1, -2)
        return score.tanh() if self.bounded else score
