"""Moving averages of the weights, which are evaluated and saved instead of the weights of the last step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor


@contextmanager
def averaged(parameters: Sequence[Tensor], averages: Sequence[Tensor]) -> Iterator[None]:
    """Replace parameters by their averages within a `with` block, without copying.

    Args:
        parameters: The trained parameters.
        averages: One average per parameter; if empty, nothing is replaced.
    """
    _swap(parameters, averages)
    try:
        yield
    finally:
        _swap(parameters, averages)


def _swap(parameters: Sequence[Tensor], averages: Sequence[Tensor]) -> None:
    for parameter, average in zip(parameters, averages, strict=bool(averages)):
        parameter.data, average.data = average.data, parameter.data
