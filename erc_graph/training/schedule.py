"""The schedule of an epoch: the dialogues and the learning rate of each training step."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from erc_graph.training.config import TrainingConfig

POOL = 8  # batches among which dialogues are sorted by length: little padding, and still another mix in every epoch


def batch_order(lengths: Tensor, batch_size: int, seed: Sequence[int], batch_tokens: int = 0) -> list[Tensor]:
    """Return the dialogues of every step of an epoch, in random order; the dialogues of a step have similar lengths.

    Args:
        lengths: `(D,)` number of utterances per dialogue, on the CPU.
        batch_size: Largest number of dialogues per step. Without `batch_tokens`, the numbers of dialogues of any two steps differ by at
            most one.
        seed: Integers that seed the order of this epoch.
        batch_tokens: Largest number of utterances per step, padding included; 0: no limit. A longer dialogue is alone in its step.
    """
    batch_size = min(batch_size, len(lengths))  # any larger number is the same, but may be too large for a tensor
    generator = torch.Generator().manual_seed(int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0] >> 1))
    order = torch.randperm(len(lengths), generator=generator)
    pool = torch.arange(len(order)) // (POOL * batch_size)
    if batch_tokens:
        pool = torch.maximum(pool, (lengths[order].cumsum(0) - 1) // (POOL * min(batch_tokens, int(lengths.sum()))))
    rank = lengths[order]
    if batch_tokens:  # up and down in turns, so that a step over the end of a pool has similar lengths as well
        rank = torch.where(pool % 2 == 0, rank, lengths.max() - rank)
    order = order[(pool * (lengths.max() + 1) + rank).argsort(stable=True)]
    if batch_tokens:
        batches = order.split(_budget(lengths[order].tolist(), batch_size, batch_tokens))
    else:
        batches = order.tensor_split(math.ceil(len(order) / batch_size))
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


def _budget(lengths: Sequence[int], batch_size: int, batch_tokens: int) -> list[int]:
    """Return the number of dialogues of every step.

    A step has as many consecutive dialogues as `batch_size` and `batch_tokens` allow; all are padded to the longest dialogue of the step.
    """
    counts, count, longest = [], 0, 0
    for length in lengths:
        if count and (count == batch_size or (count + 1) * max(longest, length) > batch_tokens):
            counts.append(count)
            count, longest = 0, 0
        count, longest = count + 1, max(longest, length)
    return [*counts, count]


def rate(step: int, steps: int, config: TrainingConfig) -> float:
    """Return the factor of the learning rate in step number `step` of a stage with `steps` training steps."""
    warm = config.warmup * steps
    if step < warm:
        return (step + 1) / (warm + 1)
    progress = (step - warm) / max(1.0, steps - warm)
    return {"step": 1.0 if progress < 0.5 else 0.1, "linear": 1 - progress, "cosine": 0.5 + 0.5 * math.cos(math.pi * progress)}.get(
        config.schedule, 1.0
    )


def plateau(figures: Sequence[float], *, lower: bool, wait: int, factor: float) -> float:
    """Return the factor of the learning rate after the given epochs, as in `torch.optim.lr_scheduler.ReduceLROnPlateau` with threshold 0.

    The factor is computed from all epochs, so that the checkpoint of a run needs no state of the schedule.

    Args:
        figures: Value of the metric after each epoch.
        lower: Whether lower values are better.
        wait: Number of consecutive epochs without improvement that are allowed. After one more epoch without improvement, the rate is
            reduced and the count starts again at zero.
        factor: Factor of each reduction.

    >>> plateau([0.5, 0.6, 0.6, 0.6], lower=False, wait=1, factor=0.1)
    0.1
    """
    best, waited, scale = math.inf, 0, 1.0
    for figure in figures:
        value = figure if lower else -figure
        waited = 0 if value < best else waited + 1
        best = min(best, value)
        if waited > wait:
            scale, waited = scale * factor, 0
    return scale
