"""Losses that papers add on their states."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

Reduction = Literal["mean", "sum"]


def density(states: Tensor, reduction: Reduction = "mean") -> Tensor:
    r"""Density loss of fused features, :math:`\|E\|_1` (pairwise fusion, Eqs. (6) and (14)).

    Args:
        states: Any shape.
        reduction: `mean` over the entries, or `sum`, the printed norm, which grows with the batch and the width.
    """
    magnitude = states.abs()
    return magnitude.mean() if reduction == "mean" else magnitude.sum()
