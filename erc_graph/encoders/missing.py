"""Learned vectors that replace missing modalities."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class Missing(nn.Module):
    """One learned vector per modality, which replaces missing input.

    Args:
        widths: Modality → width of its vectors.
    """

    def __init__(self, widths: Mapping[str, int]) -> None:
        super().__init__()
        self.names = tuple(widths)  # in this order, which a ParameterDict does not keep
        self.vectors = nn.ParameterDict({name: nn.Parameter(torch.zeros(width)) for name, width in widths.items()})

    def forward(self, values: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Replace missing input in the modalities of the module: modality → `(N, width)`; other modalities are left out.

        Args:
            values: Modality → `(N, width)` vectors.
            present: Modality → `(N,)` bool, presence of the vectors.
        """
        return {name: torch.where(present[name][:, None], values[name], self.vectors[name]) for name in self.names}
