"""Weights of modalities against a loop over the printed equations; what is missing has none and no gradient."""

from __future__ import annotations

import math

import pytest
import torch

from erc_graph.encoders.weighting import DynamicWeights, equal_weights, precision_weights

PRESENT = torch.tensor([[True, True, True], [True, False, True], [False, True, False], [False, False, False]])


def test_precision_weights_equal_a_loop() -> None:
    variance = torch.rand(4, 3, 5, dtype=torch.double) + 0.01
    shares = precision_weights(variance, PRESENT, 0.1)
    for row in range(4):
        for channel in range(5):
            weights = [1 / (float(variance[row, m, channel]) + 0.1) if PRESENT[row, m] else 0.0 for m in range(3)]
            total = sum(weights)
            expected = [weight / total if total else 0.0 for weight in weights]
            assert shares[row, :, channel].tolist() == pytest.approx(expected, abs=1e-12)
    assert torch.equal(shares == 0, ~PRESENT[..., None].expand_as(shares))


@pytest.mark.parametrize("value", [0.0, 1e-30, 1e30, math.inf])
def test_variances_at_the_ends(value: float) -> None:
    """Infinitely unsure of all that is there: the same as nothing; else finite shares."""
    shares = precision_weights(torch.full((4, 3, 2), value), PRESENT, 1e-6)
    assert shares.isfinite().all()
    torch.testing.assert_close(shares.sum(1)[:3], torch.full((3, 2), 0.0 if math.isinf(value) else 1.0))


def test_dynamic_weights_equal_a_loop() -> None:
    weigh, states = DynamicWeights(3, 2).double(), torch.randn(4, 3, 2, dtype=torch.double)
    shares = weigh(states, PRESENT)
    matrix, bias = weigh.score.weight.tolist(), weigh.score.bias.tolist()
    for row in range(4):
        joined = [float(states[row, m, c]) if PRESENT[row, m] else 0.0 for m in range(3) for c in range(2)]
        scores = [bias[m] + sum(w * x for w, x in zip(matrix[m], joined, strict=True)) for m in range(3)]
        raised = [math.exp(score) if PRESENT[row, m] else 0.0 for m, score in enumerate(scores)]
        expected = [value / sum(raised) if sum(raised) else 0.0 for value in raised]
        assert shares[row].tolist() == pytest.approx(expected, abs=1e-12)
    assert torch.equal(shares == 0, ~PRESENT)


def test_what_is_missing_has_no_gradient() -> None:
    weigh, states = DynamicWeights(3, 2), torch.randn(4, 3, 2, requires_grad=True)
    variance = torch.rand(4, 3, 2, requires_grad=True)
    (weigh(states, PRESENT).square().sum() + precision_weights(variance, PRESENT, 0.1).square().sum()).backward()
    assert states.grad is not None and variance.grad is not None
    assert not states.grad[~PRESENT].any() and not variance.grad[~PRESENT].any()
    assert states.grad[0].any() and variance.grad[0].all()


def test_equal_weights() -> None:
    assert equal_weights(PRESENT, torch.double).tolist() == [pytest.approx([1 / 3] * 3), [0.5, 0, 0.5], [0, 1, 0], [0, 0, 0]]
