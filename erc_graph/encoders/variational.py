r"""A linear layer whose weights are distributions: it says how sure it is of what comes out (hierarchical feature fusion, Eqs. (19), (20)).

Every weight is normal, with a mean and a variance that are learned. Over the weights, each output is then normal as well,

.. math:: \mu = M x + m, \qquad \sigma^2 = e^{S} x^2 + e^{s}

and is drawn itself, in place of the weights: each utterance has noise of its own (local reparametrisation: Kingma, Salimans and Welling,
"Variational dropout and the local reparameterization trick", NeurIPS 2015).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LOG_VARIANCE = -6.0
"""Of every weight at first: a deviation of 0.05, about half a weight's own size at width 128."""


class VariationalLinear(nn.Module):
    """A linear layer with random weights: `(N, inputs)` → mean and variance of the outputs, `(N, outputs)` each.

    Args:
        inputs: Width of the input rows.
        outputs: Width of the output rows.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(inputs)  # as `torch.nn.Linear`
        self.mean = nn.Parameter(torch.empty(outputs, inputs).uniform_(-bound, bound))
        self.log_variance = nn.Parameter(torch.full((outputs, inputs), LOG_VARIANCE))
        self.bias_mean = nn.Parameter(torch.empty(outputs).uniform_(-bound, bound))
        self.bias_log_variance = nn.Parameter(torch.full((outputs,), LOG_VARIANCE))

    def forward(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Compute mean and variance of the outputs over the distribution of the weights."""
        mean = F.linear(states, self.mean, self.bias_mean)
        return mean, F.linear(states.square(), self.log_variance.exp(), self.bias_log_variance.exp())

    def divergence(self) -> Tensor:
        r"""Compute the Kullback–Leibler divergence from a unit normal prior, in nats, summed over all weights.

        .. math:: \tfrac12 \sum (\sigma^2 + \mu^2 - 1 - \log \sigma^2)
        """
        pairs = ((self.mean, self.log_variance), (self.bias_mean, self.bias_log_variance))
        return torch.stack([0.5 * (log.exp() + mean.square() - 1 - log).sum() for mean, log in pairs]).sum()
