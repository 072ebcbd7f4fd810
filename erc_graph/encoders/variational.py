r"""A linear layer with random weights, which estimates the uncertainty of its output (`erc_graph.methods.hff`, Equations (19), (20)).

Every weight has a normal distribution with learned mean and variance. Each output then also has a normal distribution:

.. math:: \mu = M x + m, \qquad \sigma^2 = e^{S} x^2 + e^{s}

`M` and `m` are the means of weights and biases; `S` and `s` are the logarithms of their variances.

The output is sampled instead of the weights, so that each utterance has independent noise. Source: Kingma, Salimans and Welling,
"Variational dropout and the local reparameterization trick", NeurIPS 2015.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LOG_VARIANCE = -6.0
"""Initial log variance of every weight: a standard deviation of 0.05, about half of the largest initial mean for 128 inputs."""


class VariationalLinear(nn.Module):
    """A linear layer with normally distributed weights: `(N, inputs)` → mean and variance of the outputs, `(N, outputs)` each.

    Args:
        inputs: Width of the input vectors.
        outputs: Width of the output vectors.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(inputs)  # as `torch.nn.Linear`
        self.mean = nn.Parameter(torch.empty(outputs, inputs).uniform_(-bound, bound))
        self.log_variance = nn.Parameter(torch.full((outputs, inputs), LOG_VARIANCE))
        self.bias_mean = nn.Parameter(torch.empty(outputs).uniform_(-bound, bound))
        self.bias_log_variance = nn.Parameter(torch.full((outputs,), LOG_VARIANCE))

    def forward(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Compute mean and variance of the outputs under the distribution of the weights."""
        mean = F.linear(states, self.mean, self.bias_mean)
        return mean, F.linear(states.square(), self.log_variance.exp(), self.bias_log_variance.exp())

    def divergence(self) -> Tensor:
        r"""Compute the Kullback–Leibler divergence of the weights from a standard normal prior, in nats, summed over all weights.

        .. math:: \tfrac12 \sum (\sigma^2 + \mu^2 - 1 - \log \sigma^2)
        """
        pairs = ((self.mean, self.log_variance), (self.bias_mean, self.bias_log_variance))
        return torch.stack([0.5 * (log.exp() + mean.square() - 1 - log).sum() for mean, log in pairs]).sum()
