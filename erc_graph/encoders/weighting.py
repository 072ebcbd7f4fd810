"""How much each modality counts in an utterance (hierarchical feature fusion, Eqs. (17)–(20)); one that is missing, exactly nothing.

Rows are utterances; `states` are `(N, modalities, width)`, `present` is `(N, modalities)` bool.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DynamicWeights(nn.Module):
    r"""Shares by what all modalities say together, :math:`\alpha = \mathrm{softmax}(W_{dyn} [\hat f_s, \hat f_t, \hat f_v])`.

    Args:
        modalities: How many.
        width: Of each.
    """

    def __init__(self, modalities: int, width: int) -> None:
        super().__init__()
        self.score = nn.Linear(modalities * width, modalities)

    def forward(self, states: Tensor, present: Tensor) -> Tensor:
        """Return `(N, modalities)`: shares that sum to one, over what is present; all zero where nothing is."""
        scores = self.score((states * present[..., None]).flatten(1))
        return scores.masked_fill(~present, torch.finfo(scores.dtype).min).softmax(-1) * present


def equal_weights(present: Tensor, dtype: torch.dtype) -> Tensor:
    """Return `(N, modalities)`: the same share for all that is present."""
    return present.to(dtype) / present.sum(1, keepdim=True).clamp(min=1)


def precision_weights(variance: Tensor, present: Tensor, epsilon: float) -> Tensor:
    r"""Shares by precision, :math:`w_m / \sum w` with :math:`w_m = 1 / (\sigma_m^2 + \epsilon)`; what is missing has an infinite variance.

    Args:
        variance: `(N, modalities, width)`.
        present: `(N, modalities)` bool.
        epsilon: Keeps the weight finite; the larger beside the variances, the more alike the shares.

    Returns:
        `(N, modalities, width)`; each channel sums to one over what is present, to zero where nothing is.

    >>> precision_weights(torch.tensor([[[1.0], [3.0], [0.1]]]), torch.tensor([[True, True, False]]), 0.0).flatten().tolist()
    [0.75, 0.25, 0.0]
    """
    weights = present[..., None] / (variance + epsilon)
    total = weights.sum(1, keepdim=True)
    return weights / torch.where(total > 0, total, 1.0)
