from __future__ import annotations

import pytest
import torch

from erc_graph.encoders.dropout import Dropout, dropped


@pytest.mark.parametrize("share", [0.1, 0.5, 0.6, 0.999])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_share_is_lost_and_the_rest_makes_up_for_it(share: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    values = torch.full((1001, 203), 3.0, dtype=dtype)
    result = dropped(values, share)
    assert result.shape == values.shape and result.dtype == dtype
    lost = result == 0
    count = values.numel()
    assert abs(float(lost.double().mean()) - share) < 4 * (share * (1 - share) / count) ** 0.5
    torch.testing.assert_close(result[~lost], values[~lost] / (1 - share))


def test_decisions_are_independent() -> None:
    """Neighbours in a row, which share a number, and rows: no correlation beyond chance."""
    torch.manual_seed(1)
    lost = (dropped(torch.ones(4000, 8), 0.3) == 0).double()
    correlation = torch.corrcoef(lost.T) - torch.eye(8)
    assert correlation.abs().max() < 5 / 4000**0.5
    assert abs(float(torch.corrcoef(torch.stack([lost[:-1].flatten(), lost[1:].flatten()]))[0, 1])) < 5 / 32000**0.5


def test_gradient_goes_where_values_went() -> None:
    values = torch.randn(7, 5, dtype=torch.float64, requires_grad=True)
    result = dropped(values, 0.4)
    result.sum().backward()
    assert values.grad is not None
    torch.testing.assert_close(values.grad, torch.where(result == 0, 0.0, 1 / 0.6).double())


def test_same_seed_same_mask_and_in_place() -> None:
    values = torch.randn(9, 3)
    torch.manual_seed(4)
    one = dropped(values, 0.5)
    torch.manual_seed(4)
    other = values.clone()
    assert dropped(other, 0.5, inplace=True) is other
    assert torch.equal(one, other)
    assert not torch.equal(dropped(values, 0.5), one)


@pytest.mark.parametrize("share", [0.0, 1.0, 1 - 1e-9])
def test_ends(share: float) -> None:
    result = dropped(torch.ones(50, 50), share)
    assert result.isfinite().all()
    assert torch.equal(result, torch.full((50, 50), float(share == 0))) or share not in (0.0, 1.0)
    assert dropped(torch.ones(0, 4), share).shape == (0, 4)


def test_the_module_drops_in_training_alone() -> None:
    values = torch.ones(30, 30)
    layer = Dropout(0.5)
    assert (layer(values) == 0).any()
    assert layer.eval()(values) is values
    assert Dropout(0.0)(values) is values
    with pytest.raises(ValueError, match="between 0 and 1"):
        Dropout(1.5)(values)
