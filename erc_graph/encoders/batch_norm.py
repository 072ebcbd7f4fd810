"""Batch norm over the rows that are there."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MaskedBatchNorm(nn.BatchNorm1d):
    """Batch norm of rows of which some are missing: those count nowhere.

    In training the rows of a batch share mean and deviation; a batch of one row takes the running ones. In evaluation every row is alone.
    """

    def forward(self, rows: Tensor, present: Tensor) -> Tensor:  # type: ignore[override]
        """`(N, width)` rows and `(N,)` bool → `(N, width)`, zero where a row is missing."""
        place = present.nonzero().squeeze(1)
        here = rows[place]
        if len(here) > 1 or not self.training:
            here = super().forward(here)
        else:
            here = nn.functional.batch_norm(here, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return torch.zeros_like(rows).index_copy(0, place, here)
