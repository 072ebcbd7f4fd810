"""A bottleneck adapter after a layer, which adds information from a second input to the states (UniMSE, Hu et al., EMNLP 2022)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Adapter(nn.Module):
    r"""The adapter :math:`W_o (x + W_{up}\, \sigma(W_{down} x))` with :math:`x = [h ; b]`. The initial output is close to `h`.

    Args:
        width: Width of the states `h`.
        beside: Width of the second input `b`.
        bottleneck: Width of the bottleneck.
    """

    def __init__(self, width: int, beside: int, bottleneck: int) -> None:
        super().__init__()
        wide = width + beside
        self.down, self.up, self.output = nn.Linear(wide, bottleneck), nn.Linear(bottleneck, wide), nn.Linear(wide, width)
        for part in (self.down, self.up):
            nn.init.normal_(part.weight, std=0.001)
        nn.init.eye_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, h: Tensor, beside: Tensor) -> Tensor:
        """Apply the adapter to states `h`, `(..., width)`, and the second input `b`, `(..., beside)` → `(..., width)`."""
        x = torch.cat([h, beside], -1)
        return self.output(x + self.up(self.down(x).sigmoid()))
