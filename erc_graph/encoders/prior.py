"""What another classifier said of each utterance alone, as the scores that the conversation then corrects."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from erc_graph.data.batch import Batch


class Prior(nn.Module):
    r"""Scores with log-probabilities behind them.

    .. math:: s_i = f_i + w \log p_i

    A product of experts (Hinton, Neural Computation 14, 2002) one of which is fixed: the model :math:`f` need not learn again what is known
    of the utterance by itself, and starts from it. :math:`w` is learned: how far that is to be trusted. The features must not be fitted to
    the labels of the training utterances (`erc-graph features --cross-fit`), or :math:`w` is learned on what the model never meets again.

    Args:
        name: The feature set: log-probabilities in label order (for a score task the score), as wide as the model's own scores.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, scores: Tensor, batch: Batch) -> Tensor:
        """`(N, C)` → `(N, C)`; unchanged where the feature set is missing."""
        return scores + self.weight * torch.where(batch.present[self.name][:, None], batch.features[self.name], 0.0)
