r"""Learnable visual centre (WavFusion, Equation (3)): a gate on the channels of frames, from distances between frames and a codebook.

The original module is described by Quan et al., "Centralized feature pyramid for object detection", IEEE Transactions on Image Processing
2023. Here, convolutions are over time instead of over the image. For the `T` frames :math:`f_t` of an utterance:

.. math::
    x &= \mathrm{ReLU}(\mathrm{Conv}_{1,3,1}(f) + W f) \\
    h &= \mathrm{ReLU}(\mathrm{norm}(\mathrm{Conv}_1(x))) \\
    a_{tk} &= \mathrm{softmax}_k(-s_k \|h_t - b_k\|^2), \quad e_k = \frac{1}{T} \sum_t a_{tk} (h_t - b_k) \\
    g &= \sigma(W_g \tfrac{1}{K} \textstyle\sum_k \mathrm{ReLU}(\mathrm{norm}(e_k))) \\
    y_t &= \mathrm{ReLU}(x_t + g \odot x_t)

:math:`\mathrm{Conv}_{1,3,1}` are three convolutions with the kernel sizes 1, 3 and 1. The `K` vectors :math:`b_k` of the codebook and the
scales :math:`s_k` are learned. There are two other differences from the original module. Layer norm (norm) replaces batch norm, so that the
output for an utterance does not depend on its batch. :math:`e_k` is a mean over time, because utterances differ in length.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class LearnableVisualCentre(nn.Module):
    """Encoder of frames, with a gate on the channels that is computed from the residuals between frames and a learned codebook.

    Args:
        inputs: Width of the input frames.
        width: Width of the output frames.
        codes: Number of vectors in the codebook.
    """

    def __init__(self, inputs: int, width: int, *, codes: int = 16) -> None:
        super().__init__()
        middle = max(4, width // 4)  # a norm over one channel leaves nothing
        self.narrow, self.across, self.wide = nn.Linear(inputs, middle), nn.Conv1d(middle, middle, 3, padding=1), nn.Linear(middle, width)
        self.norms = nn.ModuleList(nn.LayerNorm(size) for size in (middle, middle, width))
        self.carry = nn.Linear(inputs, width)
        self.encode, self.encode_norm = nn.Linear(width, width, bias=False), nn.LayerNorm(width)
        bound = (codes * width) ** -0.5
        self.codebook = nn.Parameter(torch.empty(codes, width).uniform_(-bound, bound))
        self.scale = nn.Parameter(torch.rand(codes))
        self.code_norm, self.gate = nn.LayerNorm(width), nn.Linear(width, width)

    def residuals(self, states: Tensor, mask: Tensor) -> Tensor:
        """Compute the mean residual to each vector of the codebook: `(n, L, width)` with the mask `(n, L)` bool → `(n, codes, width)`."""
        distance = states.square().sum(-1, keepdim=True) - 2 * states @ self.codebook.T + self.codebook.square().sum(-1)  # (n, L, codes)
        share = (-self.scale * distance.clamp(min=0)).softmax(-1) * mask[..., None]
        total = share.transpose(1, 2) @ states - share.sum(1)[..., None] * self.codebook
        return total / mask.sum(1).clamp(min=1)[:, None, None]

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Encode padded frames: `(n, L, inputs)` with the mask `(n, L)` bool → `(n, L, width)`, zero at padding."""
        real = mask[..., None]
        states = F.relu(self.norms[0](self.narrow(frames))) * real  # the convolution reads silence behind the end, not padding
        states = F.relu(self.norms[1](self.across(states.transpose(1, 2)).transpose(1, 2)))
        states = F.relu(self.norms[2](self.wide(states)) + self.carry(frames)) * real
        codes = self.residuals(F.relu(self.encode_norm(self.encode(states))), mask)
        gate = torch.sigmoid(self.gate(F.relu(self.code_norm(codes)).mean(1)))[:, None]
        return F.relu(states + gate * states)
