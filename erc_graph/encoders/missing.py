"""Learned vectors that replace missing modalities."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class Missing(nn.Module):
    """One learned vector per modality, which replaces the vector of an utterance without this modality.

    Args:
        widths: Modality → width of its vectors.
    """

    def __init__(self, widths: Mapping[str, int]) -> None:
        super().__init__()
        self.names = tuple(widths)  # in this order, which a ParameterDict does not keep
        self.vectors = nn.ParameterDict({name: nn.Parameter(torch.zeros(width)) for name, width in widths.items()})

    def forward(self, values: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Replace the vectors of missing modalities with the learned vectors.

        Args:
            values: Modality → `(N, width)` vectors of `N` utterances.
            present: Modality → `(N,)` bool, whether the utterance has the modality.

        Returns:
            Modality → `(N, width)`, for all modalities of `widths` in the constructor.
        """
        return {name: torch.where(present[name][:, None], values[name], self.vectors[name]) for name in self.names}
