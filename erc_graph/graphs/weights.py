r"""Angular similarity of node states, used as edge weight in equations (3) and (4) of `erc_graph.methods.pairwise`, and in MMGCN.

.. math:: W_{ij} = 1 - \arccos(\cos(n_i, n_j)) / \pi

The derivative of arccos is infinite at ±1. The code therefore uses arcsin of the cosine times a factor `s` just below one, which has a
bounded derivative. The weights for the cosines 1, 0 and −1 are still exactly 1, ½ and 0:

.. math:: W = \tfrac12 + \arcsin(s \cos) / (2 \arcsin s), \quad s = 1 - 10^{-5}

The weights differ from the first equation by less than 0.0015; the difference is largest at cos ≈ ±0.998. The derivative is at most 72.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

SQUEEZE = 1 - 1e-5
_SCALE = 0.5 / math.asin(SQUEEZE)
TINY = 1e-8  # added to squared norms: a state of zeros has cosine 0 to everything and a finite gradient


def directions(states: Tensor) -> Tensor:
    """Scale states `(..., d)` to length one; a state of zeros stays zero.

    States with 16 bits are first converted to float32, because the derivative of arccos near one needs this precision.
    """
    states = states.float() if states.dtype in (torch.float16, torch.bfloat16) else states
    return states * torch.rsqrt(states.square().sum(-1, keepdim=True) + TINY)


def angular(cosine: Tensor) -> Tensor:
    """Compute angular similarities, from 0 to 1, from a tensor of cosines, from -1 to 1; the tensor may have any shape.

    >>> angular(torch.tensor([1.0, 0.0, -1.0])).round(decimals=4).tolist()
    [1.0, 0.5, 0.0]
    """
    return 0.5 + _SCALE * torch.asin(SQUEEZE * cosine)
