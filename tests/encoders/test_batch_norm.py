import pytest
import torch

from erc_graph.encoders.batch_norm import MaskedBatchNorm

ROWS = torch.tensor([[1.0, 2.0], [3.0, 6.0], [100.0, 100.0]])


def test_missing_rows_count_nowhere_and_stay_zero():
    norm, present = MaskedBatchNorm(2), torch.tensor([True, True, False])
    found = norm(ROWS, present)
    assert torch.allclose(found, torch.tensor([[-1.0, -1.0], [1.0, 1.0], [0.0, 0.0]]), atol=1e-4)
    assert norm.running_mean.tolist() == pytest.approx([0.2, 0.4])  # a tenth of the means 2 and 4


@pytest.mark.parametrize("present", [[True, False, False], [False, False, False]])
def test_fewer_than_two_rows_take_the_running_figures(present):
    norm = MaskedBatchNorm(2)
    norm.running_mean.copy_(torch.tensor([1.0, 0.0]))
    found = norm(ROWS, torch.tensor(present))
    assert torch.allclose(found, torch.tensor([[0.0, 2.0], [0.0, 0.0], [0.0, 0.0]]) * torch.tensor(present)[:, None], atol=1e-4)
    assert norm.running_mean.tolist() == [1.0, 0.0]


def test_in_evaluation_every_row_is_alone():
    norm, everywhere = MaskedBatchNorm(2).eval(), torch.ones(3, dtype=torch.bool)
    assert torch.equal(norm(ROWS, everywhere)[1:2], norm(ROWS[1:2], everywhere[1:2]))
