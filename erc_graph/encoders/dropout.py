"""Dropout with fast random masks on a CPU.

On a CPU, PyTorch draws one number from a slow generator per value, which takes a fifth of the time of a training step. This module uses
sixteen random bits per value instead.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STEPS = 2**16  # of the share: four values have their decision from one 64-bit number


def passes(shape: Sequence[int], share: float) -> Tensor:
    """Draw a dropout mask on a CPU: bool of any shape, false with the probability `share`, rounded to a multiple of 1 / 65536."""
    count = math.prod(shape)
    bits = torch.empty((count + 3) // 4, dtype=torch.int64, device="cpu").random_(-(2**63), None).view(torch.int16)
    lost = min(round(share * STEPS), STEPS - 1)
    return (bits[:count] >= lost - STEPS // 2).view(*shape)


def dropped(values: Tensor, share: float, *, inplace: bool = False) -> Tensor:
    """Set each value to zero with the probability `share`, and divide the other values by `1 - share`.

    Args:
        values: Values of any shape.
        share: Dropout rate, at most 1; on a CPU rounded to a multiple of 1 / 65536.
        inplace: Whether `values` is changed in place.
    """
    if values.device.type != "cpu" or not 0 < share < 1:
        return F.dropout(values, share, inplace=inplace)
    factor = passes(values.shape, share).to(values.dtype).mul_(1 / (1 - share))
    return values.mul_(factor) if inplace else values * factor


class Dropout(nn.Module):
    """Dropout with the rate `p` in training (`dropped`); no change in evaluation mode."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, values: Tensor) -> Tensor:
        """Apply dropout to values of any shape."""
        return dropped(values, self.p) if self.training and self.p else values
