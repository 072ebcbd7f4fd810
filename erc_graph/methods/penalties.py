"""Additional losses on states, from several papers."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Reduction = Literal["mean", "sum"]


def density(states: Tensor, reduction: Reduction = "mean") -> Tensor:
    r"""Compute the density loss of fused features, :math:`\|E\|_1` (pairwise fusion, Eqs. (6) and (14)).

    Args:
        states: Fused features of any shape.
        reduction: `mean` over all numbers in `states`, or `sum`, as printed in the paper. The sum grows with the batch size and the width.
    """
    magnitude = states.abs()
    return magnitude.mean() if reduction == "mean" else magnitude.sum()


def discrepancy(z: Tensor, g: Tensor) -> Tensor:
    """Compute the maximum mean discrepancy between `n` vectors `(n, d)` and `n` Gaussian samples `(n, d)` (MFM, Eq. (6))."""
    both = torch.cat([g, z])
    squares = both.square().sum(1)
    kernel = (-(squares[:, None] + squares - 2 * both @ both.T) / z.shape[1] ** 2).exp()
    sign = both.new_tensor([1.0, -1.0]).repeat_interleave(len(z)) / len(z)
    return sign @ kernel @ sign


def margin_loss(states: Tensor, modality: Tensor, target: Tensor, margin: float = 0.2) -> Tensor:
    r"""Compute the margin loss of WavFusion, Eq. (13), over pairs of modalities and classes.

    A sample must be closer to samples of its class in other modalities than to samples of other classes in its own modality.

    .. math:: \frac{1}{|M|} \sum_{(i,j,k) \in M} \max(0, \alpha - \cos(x_i, x_j) + \cos(x_i, x_k)), \quad
        M = \{m_i \ne m_j, m_i = m_k, c_i = c_j, c_i \ne c_k\}

    Here :math:`m_i` is the modality and :math:`c_i` the class of sample i. Triples (i, j, k) are not enumerated. For given i and j, a
    sample k contributes if :math:`\cos(x_i, x_k)` exceeds :math:`\cos(x_i, x_j) - \alpha`. The cosines of each sample are sorted once. A
    binary search then gives the number of contributing samples, and prefix sums give the sum of their cosines. The computation needs
    `n² log n` time for up to `n³` triples.

    Args:
        states: `(n, d)`, one row per sample, which is an utterance in one modality.
        modality: `(n,)` int64 modality of each sample.
        target: `(n,)` int64 class of each sample.
        margin: Margin α.

    Returns:
        Mean over all triples; zero without triples.

    >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    >>> round(float(margin_loss(x, modality=torch.tensor([0, 1, 0]), target=torch.tensor([0, 0, 1]))), 4)  # one triple: 0.2 - 0 + 1
    1.2
    """
    with torch.autocast(states.device.type, enabled=False):
        unit = F.normalize(states.to(torch.promote_types(states.dtype, torch.float32)), dim=-1)
        cosine = unit @ unit.T
    alike, together = target[:, None] == target, modality[:, None] == modality
    positive, negative = alike & ~together, together & ~alike
    need = margin - cosine  # of pair (i, j): what k adds its cosine to
    against, _ = torch.where(negative, -cosine, margin + 3).sort(1)  # the others stand behind all that can count
    count = torch.searchsorted(against.detach(), need.detach())
    sums = F.pad(against.cumsum(1), (1, 0)).gather(1, count)
    total = ((count * need - sums) * positive).sum()
    return total / (positive.sum(1) * negative.sum(1)).sum().clamp(min=1)
