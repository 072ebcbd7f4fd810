"""What other classifiers said of each utterance, as the scores that the conversation then corrects."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from erc_graph.data.batch import Batch


def prior_names(joined: str | None) -> tuple[str, ...]:
    """The feature sets that an option `prior` names.

    >>> prior_names("text_logp+context_logp"), prior_names(None)
    (('text_logp', 'context_logp'), ())
    """
    return tuple(joined.split("+")) if joined else ()


class Prior(nn.Module):
    r"""Scores with log-probabilities behind them.

    .. math:: s_i = f_i + \sum_k w_k \log p_i^k

    A product of experts (Hinton, Neural Computation 14, 2002) all but one of which are fixed: the model :math:`f` need not learn again what
    they know, and starts from it. :math:`w` is learned: how far each is to be trusted; it begins with their mean. The features must not be
    fitted to the labels of the training utterances (`erc-graph features --cross-fit`), or :math:`w` is learned on what the model never
    meets again.

    Args:
        names: The feature sets: log-probabilities in label order (for a score task the score), as wide as the model's own scores.
    """

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.names = names
        self.weight = nn.Parameter(torch.full((len(names),), 1 / len(names)))

    def forward(self, scores: Tensor, batch: Batch) -> Tensor:
        """`(N, C)` → `(N, C)`; what is missing adds nothing."""
        for weight, name in zip(self.weight, self.names, strict=True):
            scores = scores + weight * torch.where(batch.present[name][:, None], batch.features[name], 0.0)
        return scores
