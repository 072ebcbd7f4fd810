"""A linear layer of distributions: its moments against draws of the weights, its divergence against PyTorch's."""

from __future__ import annotations

import torch
from torch import distributions

from erc_graph.encoders.variational import VariationalLinear


def layer() -> VariationalLinear:
    made = VariationalLinear(4, 3).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_()
    return made


def test_divergence_is_that_of_the_distributions() -> None:
    made = layer()
    expected = torch.zeros((), dtype=torch.double)
    for mean, log in ((made.mean, made.log_variance), (made.bias_mean, made.bias_log_variance)):
        posterior = distributions.Normal(mean, (log / 2).exp())
        prior = distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
        expected = expected + distributions.kl_divergence(posterior, prior).sum()
    torch.testing.assert_close(made.divergence(), expected)


def test_moments_are_those_of_drawn_weights() -> None:
    """Weights themselves are drawn, many times; the printed moments lie within five standard errors."""
    made, states, draws = layer(), torch.randn(5, 4, dtype=torch.double), 40_000
    with torch.no_grad():
        weights = made.mean + (made.log_variance / 2).exp() * torch.randn(draws, 3, 4, dtype=torch.double)
        biases = made.bias_mean + (made.bias_log_variance / 2).exp() * torch.randn(draws, 3, dtype=torch.double)
        outputs = torch.einsum("ni,koi->kno", states, weights) + biases[:, None]
        mean, variance = made(states)
    assert ((outputs.mean(0) - mean).abs() < 5 * (variance / draws).sqrt()).all()
    torch.testing.assert_close(outputs.var(0), variance, rtol=0.05, atol=0)


@torch.no_grad()
def test_at_first_it_is_nearly_sure() -> None:
    mean, variance = VariationalLinear(128, 64)(torch.randn(200, 128))
    assert 0.2 < float(mean.std()) < 1.0
    assert 0.2 < float(variance.mean()) < 0.5


def test_gradients_reach_means_and_variances() -> None:
    made = layer()
    mean, variance = made(torch.randn(5, 4, dtype=torch.double))
    (mean + torch.randn_like(mean) * variance.sqrt()).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().min() > 0 for p in made.parameters())
