from __future__ import annotations

import pytest
import torch

from erc_graph.training.averages import averaged


def test_averages_stand_in_inside_the_block_and_also_where_it_fails() -> None:
    weights, means = [torch.nn.Parameter(torch.ones(2))], [torch.zeros(2)]
    with averaged(weights, means):
        assert weights[0].tolist() == [0, 0] and means[0].tolist() == [1, 1]
    with pytest.raises(RuntimeError), averaged(weights, means):
        raise RuntimeError
    assert weights[0].tolist() == [1, 1] and means[0].tolist() == [0, 0]


def test_without_averages_nothing_is_done() -> None:
    weights = [torch.nn.Parameter(torch.ones(2))]
    with averaged(weights, []):
        assert weights[0].tolist() == [1, 1]
