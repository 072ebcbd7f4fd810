"""Learned vectors in place of missing modalities in a sequence."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class Missing(nn.Module):
    """A learned vector per modality that replaces missing input.

    Args:
        widths: Modality → width of its vectors.
    """

    def __init__(self, widths: Mapping[str, int]) -> None:
        super().__init__()
        self.names = tuple(widths)  # in this order, which a ParameterDict does not keep
        self.vectors = nn.ParameterDict({name: nn.Parameter(torch.zeros(width)) for name, width in widths.items()})

    def forward(self, values: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return modality → `(N, width)`, for the modalities that the module knows.

        Args:
            values: Modality → `(N, width)`.
            present: Modality → `(N,)` bool.
        """
        return {name: torch.where(present[name][:, None], values[name], self.vectors[name]) for name in self.names}
