from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from erc_graph.graphs.weights import angular, directions


def angular_weight(source: Tensor, target: Tensor) -> Tensor:
    """Of pairs of rows: `(E, d)`, `(E, d)` → `(E,)`."""
    return angular((directions(source) * directions(target)).sum(-1))


def weight(a: list[float], b: list[float]) -> float:
    return float(angular_weight(torch.tensor([a], dtype=torch.float64), torch.tensor([b], dtype=torch.float64)))


def test_same_right_angle_opposite() -> None:
    assert weight([1, 2, 3], [2, 4, 6]) == pytest.approx(1, abs=1e-3)
    assert weight([1, 0], [0, 3]) == pytest.approx(0.5, abs=1e-12)
    assert weight([1, 2, 3], [-1, -2, -3]) == pytest.approx(0, abs=1e-3)
    assert angular(torch.tensor([1.0, 0.0, -1.0], dtype=torch.float64)).tolist() == pytest.approx([1, 0.5, 0], abs=1e-12)


@settings(max_examples=200, deadline=None)
@given(cosine=st.floats(-1, 1))
def test_close_to_the_printed_form_everywhere(cosine: float) -> None:
    assert float(angular(torch.tensor(cosine, dtype=torch.float64))) == pytest.approx(1 - math.acos(cosine) / math.pi, abs=0.0015)


def test_a_state_of_zeros_gives_one_half_and_a_finite_gradient() -> None:
    zeros = torch.zeros(2, 4, requires_grad=True)
    other = torch.tensor([[1.0, 2, 3, 4], [0, 0, 0, 0]], requires_grad=True)
    value = angular_weight(zeros, other)
    assert value.tolist() == [0.5, 0.5]
    value.sum().backward()
    assert zeros.grad is not None
    assert other.grad is not None
    assert zeros.grad.isfinite().all()
    assert other.grad.isfinite().all()


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_gradient_at_cosine_plus_and_minus_one_is_finite(sign: float, dtype: torch.dtype) -> None:
    a = torch.tensor([[0.3, -0.7, 1.1]], dtype=dtype, requires_grad=True)
    angular_weight(a, sign * a.detach()).sum().backward()
    assert a.grad is not None
    assert a.grad.isfinite().all()
    cosine = torch.tensor(sign, dtype=torch.float64, requires_grad=True)
    angular(cosine).backward()
    assert cosine.grad is not None
    assert 0 < float(cosine.grad) < 80
    assert torch.autograd.gradcheck(
        angular, (torch.tensor([sign * (1 - 1e-7)], dtype=torch.float64, requires_grad=True),), eps=1e-9, atol=1e-2
    )


def test_length_does_not_matter_and_order_does_not() -> None:
    torch.manual_seed(0)
    a, b = torch.randn(20, 7), torch.randn(20, 7)
    assert torch.allclose(angular_weight(a, b), angular_weight(b, a))
    assert torch.allclose(angular_weight(3 * a, b), angular_weight(a, 0.5 * b), atol=1e-6)
