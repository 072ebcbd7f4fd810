"""The device and the numerical precision of a training run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from erc_graph.errors import ConfigError
from erc_graph.training.config import TrainingConfig

if TYPE_CHECKING:
    from accelerate import Accelerator


def make_accelerator(config: TrainingConfig, device: str) -> Accelerator:
    """Return an `Accelerator` of the library accelerate with the requested device and precision.

    Raises:
        ConfigError: the device or precision is not available.
    """
    from accelerate import Accelerator, DistributedDataParallelKwargs
    from accelerate.state import AcceleratorState

    if device not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"device: expected one of auto, cpu, cuda, found {device!r}")
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device: expected a visible CUDA device, found none; use 'cpu' or 'auto'")
    alone = not (torch.distributed.is_available() and torch.distributed.is_initialized())
    # An earlier run in this process may have had another device or precision.
    AcceleratorState._reset_state(reset_partial_state=alone)
    handlers = [DistributedDataParallelKwargs(find_unused_parameters=True)]
    try:
        accelerator = Accelerator(cpu=device == "cpu", mixed_precision=config.mixed_precision, kwargs_handlers=handlers)
        if config.mixed_precision == "fp16" and accelerator.device.type == "cpu":
            raise ValueError("fp16 needs a GPU; use 'bf16' or 'no'")
    except ValueError as error:
        found = config.mixed_precision
        raise ConfigError(f"training.mixed_precision: expected a precision that the device supports, found {found!r}: {error}") from error
    return accelerator
