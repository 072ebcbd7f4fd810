"""Weights of the modalities of an utterance (hierarchical feature fusion, Eqs. (17)–(20)); a missing modality has weight zero.

Rows are utterances; `states` are `(N, modalities, width)`, `present` is `(N, modalities)` bool.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DynamicWeights(nn.Module):
    r"""Weights from all modalities together, :math:`\alpha = \mathrm{softmax}(W_{dyn} [\hat f_s, \hat f_t, \hat f_v])`.

    Args:
        modalities: Number of modalities.
        width: Width of each modality.
    """

    def __init__(self, modalities: int, width: int) -> None:
        super().__init__()
        self.score = nn.Linear(modalities * width, modalities)

    def forward(self, states: Tensor, present: Tensor) -> Tensor:
        """Compute shares `(N, modalities)` that sum to one over the present modalities; all zero if none is present."""
        scores = self.score((states * present[..., None]).flatten(1))
        return scores.masked_fill(~present, torch.finfo(scores.dtype).min).softmax(-1) * present


def equal_weights(present: Tensor, dtype: torch.dtype) -> Tensor:
    """Return equal shares for all present modalities, `(N, modalities)`."""
    return present.to(dtype) / present.sum(1, keepdim=True).clamp(min=1)


def precision_weights(variance: Tensor, present: Tensor, epsilon: float) -> Tensor:
    r"""Compute shares by precision, :math:`w_m / \sum w` with :math:`w_m = 1 / (\sigma_m^2 + \epsilon)`; a missing modality has infinite
    variance.

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
