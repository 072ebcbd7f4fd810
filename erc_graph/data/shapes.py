"""Creation of a module without memory for its weights, for example before the weights are loaded from a file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_RANDOM = {
    "normal_", "uniform_", "trunc_normal_", "kaiming_uniform_", "kaiming_normal_", "xavier_uniform_", "xavier_normal_", "orthogonal_",
}  # fmt: skip


class _NotDrawn(TorchFunctionMode):
    """Skip random initialisation of meta tensors, which have no memory. Otherwise, PyTorch imports its compiler, which takes 2 s."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in _RANDOM:
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


@contextmanager
def shapes_only() -> Iterator[None]:
    """Create all tensors within a `with` block on the meta device, so that they have a shape and a type but no memory.

    After the block, `load_state_dict(weights, assign=True)` sets the weights of a module.

    >>> with shapes_only():
    ...     layer = torch.nn.Linear(10**9, 10**9)
    >>> layer.weight.is_meta
    True
    """
    with torch.device("meta"), _NotDrawn():
        yield
