"""Moving averages of weights, which are evaluated and kept in place of the weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor


@contextmanager
def averaged(parameters: Sequence[Tensor], averages: Sequence[Tensor]) -> Iterator[None]:
    """Put averages in place of parameters inside the block; nothing is copied.

    Args:
        parameters: What is trained.
        averages: One for each, or none at all: then nothing is done.
    """
    _swap(parameters, averages)
    try:
        yield
    finally:
        _swap(parameters, averages)


def _swap(parameters: Sequence[Tensor], averages: Sequence[Tensor]) -> None:
    for parameter, average in zip(parameters, averages, strict=bool(averages)):
        parameter.data, average.data = average.data, parameter.data
