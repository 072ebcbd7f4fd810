"""Normalisation of features, fitted on the training split and stored with the model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class _Rows(Protocol):
    """A corpus or a batch: features and their presence."""

    @property
    def features(self) -> Mapping[str, Tensor]: ...

    @property
    def present(self) -> Mapping[str, Tensor]: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Scaling:
    """Mean and standard deviation per column of every modality.

    Attributes:
        mean: modality → `(d,)` float32.
        std: modality → `(d,)` float32, 1 for a column that does not vary.
    """

    mean: Mapping[str, Tensor]
    std: Mapping[str, Tensor]

    @classmethod
    def fit(cls, rows: _Rows, modalities: Iterable[str] | None = None) -> Scaling:
        """Statistics of the rows that are present in `rows`, a corpus or a batch of the training split.

        A modality that no row has gets mean 0 and standard deviation 1.
        """
        mean, std = {}, {}
        for name in rows.features if modalities is None else modalities:
            values = rows.features[name][rows.present[name]].double()  # sums over 10^4 rows lose digits in float32
            if not len(values):
                values = values.new_zeros(1, values.shape[1])
            mean[name] = values.mean(0).float()
            spread = values.std(0, correction=0)
            # A constant column has a spread of rounding errors: dividing by it would turn them into the loudest feature.
            std[name] = torch.where(spread > 1e-6 * (1 + values.mean(0).abs()), spread, 1.0).float()
        return cls(mean=mean, std=std)

    def apply(self, features: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """z-scores `(N, d)` per fitted modality; zero, the mean, where a row is absent.

        >>> one = {"text": torch.tensor([[1.0], [3.0], [9.0]])}
        >>> there = {"text": torch.tensor([True, True, False])}
        >>> Scaling(mean={"text": torch.tensor([2.0])}, std={"text": torch.tensor([1.0])}).apply(one, there)["text"].tolist()
        [[-1.0], [1.0], [0.0]]
        """
        return {name: scale(features[name], present[name], mean, self.std[name]) for name, mean in self.mean.items()}


def scale(values: Tensor, present: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """`(values - mean) / std` in the rows `(N,)` that are present, zero elsewhere."""
    return torch.where(present[:, None], (values - mean) / std, 0.0)
