"""Moving averages of weights, which are evaluated and saved in place of the weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor


@contextmanager
def averaged(parameters: Sequence[Tensor], averages: Sequence[Tensor]) -> Iterator[None]:
    """Put averages in place of parameters within a block, without copying.

    Args:
        parameters: The trained parameters.
        averages: One average per parameter, or none: then nothing changes.
    """
    _swap(parameters, averages)
    try:
        yield
    finally:
        _swap(parameters, averages)


def _swap(parameters: Sequence[Tensor], averages: Sequence[Tensor]) -> None:
    for parameter, average in zip(parameters, averages, strict=bool(averages)):
        parameter.data, average.data = average.data, parameter.data
