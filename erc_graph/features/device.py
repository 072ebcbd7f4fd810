"""Device and precision of feature extraction."""

from __future__ import annotations

from typing import Literal

import torch

from erc_graph.errors import ConfigError


def find_device(wanted: str, local: int = 0) -> torch.device:
    """Return the device for `auto`, `cpu` or `cuda`. Several processes on one machine get different GPUs.

    Raises:
        ConfigError: a GPU is requested, but none is visible.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device: expected a visible CUDA device, found none; use 'cpu' or 'auto'")
    if wanted == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", local % torch.cuda.device_count())


def find_precision(wanted: Literal["auto", "no", "bf16"], device: torch.device) -> Literal["no", "bf16"]:
    """Return the precision of matrix products, `bf16` or `no` (32 bits). For `auto`, return `bf16` if the GPU supports `bf16`."""
    if wanted != "auto":
        return wanted
    return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "no"
