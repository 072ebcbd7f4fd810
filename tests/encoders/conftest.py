from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from erc_graph.data.batch import Batch


def make_batch(*lengths: int) -> Batch:
    """Random features in float64 of two widths; every third text and every fourth audio vector is missing."""
    length = torch.tensor(lengths)
    rows = int(length.sum())
    row = torch.arange(rows)
    return Batch(
        ptr=torch.cat([length.new_zeros(1), length.cumsum(0)]),
        speaker=row % 3,
        target=torch.zeros(rows, dtype=torch.long),
        judged=torch.ones(rows, dtype=torch.bool),
        row=row,
        features={"text": torch.randn(rows, 5, dtype=torch.float64), "audio": torch.randn(rows, 3, dtype=torch.float64)},
        present={"text": row % 3 != 1, "audio": row % 4 != 2},
    )


@pytest.fixture
def batches() -> Callable[..., Batch]:
    return make_batch
