"""Loss functions.

The loss of a task is the mean loss of the utterances with a target. Utterances in short and long dialogues therefore have the same weight.
Utterances that are only context for other utterances (`Batch.judged` is false) are left out.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from erc_graph.data.batch import Batch
from erc_graph.data.tasks import Task
from erc_graph.training.config import TrainingConfig


def counted(batch: Batch, task: Task) -> Tensor:
    """Return the mask `(N,)` of the utterances that count in the loss: `batch.judged` is true, and the target is known."""
    return batch.judged & (batch.target >= 0 if task.kind == "classification" else ~batch.target.isnan())


def class_weights(target: Tensor, classes: int, kind: Literal["none", "balanced", "sqrt"]) -> Tensor | None:
    """Return one weight per class from the inverse class frequency, scaled so that the mean weight over all targets is one.

    Args:
        target: `(n,)` label indices of the training split.
        classes: Number of classes; a class that does not occur has weight one.
        kind: `balanced`: inverse frequency; `sqrt`: square root of the inverse frequency; `none`: no weights.

    >>> class_weights(torch.tensor([0, 0, 1]), 2, "balanced").tolist()
    [0.75, 1.5]
    """
    if kind == "none":
        return None
    count = torch.bincount(target, minlength=classes).float()
    weight = count.clamp_min(1).reciprocal()
    weight = weight.sqrt() if kind == "sqrt" else weight
    return torch.where(count > 0, weight * count.sum() / (weight * count).sum(), 1.0)


def cross_entropy(scores: Tensor, target: Tensor, weight: Tensor | None = None, label_smoothing: float = 0.0) -> Tensor:
    """Compute the cross entropy per utterance from scores `(N, C)` and targets `(N,)`; a target of -1 gives zero."""
    return F.cross_entropy(scores, target, weight, ignore_index=-1, reduction="none", label_smoothing=label_smoothing)


def focal(scores: Tensor, target: Tensor, gamma: float = 2.0, weight: Tensor | None = None, label_smoothing: float = 0.0) -> Tensor:
    r"""Compute the focal loss :math:`-(1-p)^\gamma \log p` per utterance from scores `(N, C)` and targets; a target of -1 gives zero.

    `p` is the probability of the true class. The loss tends to zero as `p` tends to one; `legacy_focal` does not have this property.
    """
    log_p = scores.log_softmax(-1).gather(-1, target.clamp_min(0)[:, None]).squeeze(-1)
    doubt = -torch.expm1(log_p)  # 1 - p, exact where p is close to one
    return doubt.clamp_min(1e-8) ** gamma * cross_entropy(scores, target, weight, label_smoothing)


def legacy_focal(scores: Tensor, target: Tensor, gamma: float = 2.5) -> Tensor:
    r"""Compute the focal loss of the public code of MMGCN and M3NET per utterance; a target of -1 gives zero.

    The loss is :math:`-\frac1C \sum_c (1 - y_c \log p_c)^\gamma \log p_c`, with the one-hot target `y`. The focal loss has p instead of
    log p in the factor, and only the term of the true class. This loss therefore *rises* as the probability of the true class tends to
    one. Use this loss only to reproduce published results.
    """
    log_p = scores.log_softmax(-1)
    right = F.one_hot(target.clamp_min(0), scores.shape[-1])
    return -((1 - right * log_p) ** gamma * log_p).mean(-1) * (target >= 0)


def absolute_error(scores: Tensor, target: Tensor) -> Tensor:
    """Compute the absolute error per utterance from predicted scores `(N, 1)` and targets `(N,)`; a target of NaN gives zero."""
    known = ~target.isnan()
    return (scores.squeeze(-1) - target.nan_to_num()).abs() * known


class Criterion:
    """The loss function of a task: the sum of the losses of all counted utterances, with class weights from the training split."""

    def __init__(self, task: Task, config: TrainingConfig, train: Batch) -> None:
        self.task = task
        self.config = config
        self.weight: Tensor | None = None
        if task.kind == "classification":
            self.weight = class_weights(train.target[counted(train, task)], len(task.labels), config.class_weights)

    def __call__(self, scores: Tensor, batch: Batch) -> Tensor:
        """Compute the sum of the losses of the counted utterances from scores `(N, C)`, without synchronising with the GPU."""
        scores, keep = scores.float(), counted(batch, self.task)
        if self.task.kind == "score":
            return absolute_error(scores, batch.target.masked_fill(~keep, float("nan"))).sum()
        target, smoothing = batch.target.masked_fill(~keep, -1), self.config.label_smoothing
        if self.config.loss == "focal":
            return focal(scores, target, self.config.focal_gamma, self.weight, smoothing).sum()
        if self.config.loss == "legacy_focal":
            return legacy_focal(scores, target, self.config.focal_gamma).sum()
        return cross_entropy(scores, target, self.weight, smoothing).sum()
