"""Building a module without allocating its weights, for example before a checkpoint is loaded."""

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
    """Skips random initialisation: meta tensors have no memory, and PyTorch would import its compiler (2 s) for them."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in _RANDOM:
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


@contextmanager
def shapes_only() -> Iterator[None]:
    """Create tensors with shape and type but without memory within a `with` block.

    Afterwards, `load_state_dict(assign=True)` sets the weights.

    >>> with shapes_only():
    ...     layer = torch.nn.Linear(10**9, 10**9)
    >>> layer.weight.is_meta
    True
    """
    with torch.device("meta"), _NotDrawn():
        yield
