"""Metrics of predictions; scikit-learn computes the standard metrics."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from erc_graph.data.batch import Batch
from erc_graph.data.tasks import Task
from erc_graph.errors import ConfigError, CorpusError
from erc_graph.methods.stage import Prediction, infer

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Kind of task → its metrics; classification has `f1/<label>` besides.
METRICS = {
    "classification": (
        "accuracy", "weighted_f1", "macro_f1", "weighted_accuracy", "unweighted_accuracy", "calibration_error", "loss",
    ),
    "score": ("accuracy", "weighted_f1", "acc2", "acc2_nonzero", "f1", "f1_nonzero", "acc7", "mae", "pearson", "loss"),
}  # fmt: skip


def evaluate(scores: Tensor, target: Tensor, task: Task) -> dict[str, float]:
    """Compute the metrics of predictions; utterances without a target are ignored.

    Classification:

    - `accuracy`, also under the name `weighted_accuracy` (WA); `unweighted_accuracy` (UA): mean recall of the classes that occur;
    - `weighted_f1`: F1 weighted by class frequency; `f1/<label>`: F1 of a class;
    - `macro_f1`: mean F1 over the classes that occur among targets or predictions;
    - `calibration_error`: expected calibration error (see the function `calibration_error`); `loss`: mean cross entropy.

    Score:

    - `acc2`, `f1`: accuracy and weighted F1 of two classes, negative and not negative;
    - `acc2_nonzero`, `f1_nonzero`: accuracy and weighted F1 of two classes, negative and positive, without utterances with target zero;
    - `acc7`: accuracy of seven classes, which are the scores rounded to whole numbers in [-3, 3];
    - `mae`: mean absolute error, also under the name `loss`; `pearson`: Pearson correlation, 0 if predictions or targets are constant;
    - `accuracy`, `weighted_f1`: equal to `acc2` and `f1`, so that these two names exist for all tasks.

    Args:
        scores: `(N, C)` logits, or `(N, 1)` for a score task.
        target: `(N,)` label index (-1: unlabelled) or score (NaN: unlabelled).
        task: The task, which defines the kind of target and the label names.

    Raises:
        CorpusError: no utterance has a target.
        ConfigError: the shapes of scores and targets do not fit, or the scores, or the loss of these scores, contain NaN or infinity.
    """
    width = len(task.labels) if task.kind == "classification" else 1
    if target.ndim != 1 or scores.shape != (len(target), width):
        columns = f"one column for each of {width} labels" if task.kind == "classification" else "one column"
        raise ConfigError(
            f"task {task.name}: expected a target (N,) and scores (N, {width}), {columns}, found a target {tuple(target.shape)} and scores "
            f"{tuple(scores.shape)}; give one row of scores per target, in the same order"
        )
    known = target >= 0 if task.kind == "classification" else ~target.isnan()
    if not known.any():
        raise CorpusError(f"task {task.name}: expected utterances with a target, found none among {len(target)}; nothing to evaluate")
    scores, target = scores[known].detach().float().cpu(), target[known].cpu()
    wrong = int((~scores.isfinite()).any(1).sum())
    metrics = {} if wrong else _classification(scores, target, task) if task.kind == "classification" else _score(scores[:, 0], target)
    if wrong or not math.isfinite(metrics["loss"]):
        found = f"NaN or inf in {wrong} of {len(target)} utterances" if wrong else f"a loss of {metrics['loss']}"
        raise ConfigError(
            f"task {task.name}: expected finite scores, found {found}; lower training.learning_rate, set training.clip, or check "
            "whether features are much larger than in training"
        )
    return metrics


def _classification(scores: Tensor, target: Tensor, task: Task) -> dict[str, float]:
    from sklearn.metrics import precision_recall_fscore_support

    truth, guess = target.numpy(), scores.argmax(-1).numpy()
    _, recall, f1, support = precision_recall_fscore_support(truth, guess, labels=range(len(task.labels)), zero_division=0)
    occurs = (support > 0) | (np.bincount(guess, minlength=len(task.labels)) > 0)
    accuracy = float((truth == guess).mean())
    return {
        "accuracy": accuracy,
        "weighted_f1": float(np.average(f1, weights=support)),
        "macro_f1": float(f1[occurs].mean()),
        "weighted_accuracy": accuracy,
        "unweighted_accuracy": float(recall[support > 0].mean()),
        "calibration_error": calibration_error(scores.softmax(-1).numpy(), truth),
        "loss": float(F.cross_entropy(scores, target)),
        **{f"f1/{label}": float(value) for label, value in zip(task.labels, f1, strict=True)},
    }


def _score(scores: Tensor, target: Tensor) -> dict[str, float]:
    from sklearn.metrics import f1_score, mean_absolute_error

    truth, guess = target.double().numpy(), scores.double().numpy()
    acc2 = float(((truth >= 0) == (guess >= 0)).mean())
    f1 = float(f1_score(truth >= 0, guess >= 0, average="weighted", zero_division=0))
    signed = truth != 0
    mae = float(mean_absolute_error(truth, guess))
    return {
        "accuracy": acc2,
        "weighted_f1": f1,
        "acc2": acc2,
        "acc2_nonzero": float(((truth > 0) == (guess > 0))[signed].mean()) if signed.any() else 0.0,
        "f1": f1,
        "f1_nonzero": float(f1_score(truth[signed] > 0, guess[signed] > 0, average="weighted", zero_division=0)) if signed.any() else 0.0,
        "acc7": float((seven(truth) == seven(guess)).mean()),
        "mae": mae,
        "pearson": float(np.corrcoef(truth, guess)[0, 1]) if np.ptp(truth) > 0 and np.ptp(guess) > 0 else 0.0,
        "loss": mae,
    }


def seven(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Round scores to the seven sentiment classes -3 … 3."""
    return np.clip(np.round(values), -3, 3).astype(np.int64)


def calibration_error(probabilities: NDArray[np.float32], target: NDArray[np.int64], bins: int = 15) -> float:
    r"""Compute the expected calibration error: :math:`\sum_b \frac{n_b}{N} |\mathrm{acc}_b - \mathrm{conf}_b|`.

    Predictions are divided into `bins` intervals of equal width, closed on the right, by the probability of the predicted class.

    Args:
        probabilities: `(N, C)` class probabilities.
        target: `(N,)` label indices.
        bins: Number of intervals of [0, 1].
    """
    confidence = probabilities.max(-1).astype(np.float64)
    correct = probabilities.argmax(-1) == target
    interval = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    return float(np.abs(np.bincount(interval, weights=correct - confidence, minlength=bins)).sum() / len(target))


def confusion(scores: Tensor, target: Tensor, task: Task) -> NDArray[np.int64]:
    """Compute the confusion matrix (true class × predicted class); utterances without a target are ignored.

    Returns:
        `(C, C)` counts for the labels of the task; `(7, 7)` counts for the classes -3 … 3 of a score task.
    """
    from sklearn.metrics import confusion_matrix

    if task.kind == "score":
        known = ~target.isnan()
        truth, guess = (seven(value[known].double().cpu().numpy()) for value in (target, scores[:, 0]))
        return confusion_matrix(truth, guess, labels=range(-3, 4))
    known = target >= 0
    return confusion_matrix(target[known].cpu(), scores[known].argmax(-1).cpu(), labels=range(len(task.labels)))


def predict(method: nn.Module, batch: Batch, batch_size: int = 32, *, forward: Callable[[Batch], Prediction] | None = None) -> Tensor:
    """Compute the scores of all utterances, in the order of `batch`; see `erc_graph.methods.stage.infer`."""
    return infer(method, batch, batch_size, forward=forward).scores


def majority(train: Tensor, rows: int, classes: int) -> Tensor:
    """Return the scores `(rows, classes)` of the majority baseline: 1 for the most frequent class, 0 for all other classes.

    Args:
        train: Label indices of the training split (-1: unlabelled).
        rows: Number of utterances to predict.
        classes: Number of classes.
    """
    best = torch.bincount(train[train >= 0], minlength=classes).argmax()
    return F.one_hot(best, classes).float().expand(rows, classes)
