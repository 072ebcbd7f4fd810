"""Weights of the modalities of an utterance (`erc_graph.methods.hff`, Equations (17)–(20)); a missing modality has weight zero.

For `N` utterances, the argument `states` is `(N, modalities, width)`, and the argument `present` is `(N, modalities)` bool.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DynamicWeights(nn.Module):
    r"""Weights :math:`\alpha = \mathrm{softmax}(W_{dyn} [\hat f_s, \hat f_t, \hat f_v])`, from the states of speech, text and vision.

    Args:
        modalities: Number of modalities.
        width: Width of the state of each modality.
    """

    def __init__(self, modalities: int, width: int) -> None:
        super().__init__()
        self.score = nn.Linear(modalities * width, modalities)

    def forward(self, states: Tensor, present: Tensor) -> Tensor:
        """Compute weights `(N, modalities)`, which sum to one over the present modalities of an utterance, or are zero without any."""
        scores = self.score((states * present[..., None]).flatten(1))
        return scores.masked_fill(~present, torch.finfo(scores.dtype).min).softmax(-1) * present


def equal_weights(present: Tensor, dtype: torch.dtype) -> Tensor:
    """Return equal weights for all present modalities, `(N, modalities)`."""
    return present.to(dtype) / present.sum(1, keepdim=True).clamp(min=1)


def precision_weights(variance: Tensor, present: Tensor, epsilon: float) -> Tensor:
    r"""Compute weights :math:`w_m / \sum w` from the precision :math:`w_m = 1 / (\sigma_m^2 + \epsilon)` of each modality `m`.

    Args:
        variance: `(N, modalities, width)` variances; a missing modality is treated as if its variance were infinite.
        present: `(N, modalities)` bool.
        epsilon: Constant that is added to the variance, so that the precision is finite; larger values make the weights more equal.

    Returns:
        Weights `(N, modalities, width)`. For each channel, the weights sum to one over the present modalities; without any modality, all
            weights are zero.

    >>> precision_weights(torch.tensor([[[1.0], [3.0], [0.1]]]), torch.tensor([[True, True, False]]), 0.0).flatten().tolist()
    [0.75, 0.25, 0.0]
    """
    weights = present[..., None] / (variance + epsilon)
    total = weights.sum(1, keepdim=True)
    return weights / torch.where(total > 0, total, 1.0)
