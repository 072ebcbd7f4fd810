"""Paired bootstrap that draws whole dialogues; it also works for metrics such as F1, which are not means over utterances."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from erc_graph.errors import ConfigError
from erc_graph.training.significance import Comparison

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

Figure = Callable[["NDArray[np.float64]"], "NDArray[np.float64]"]


def bootstrap_dialogues(
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    figure: Figure,
    *,
    confidence: float = 0.95,
    resamples: int = 9999,
    seed: int = 0,
) -> Comparison:
    """Compute the paired percentile bootstrap of `figure(first) - figure(second)`, with dialogues as sampling units.

    A bootstrap sample has as many dialogues as the split, drawn with replacement. Both methods get the same dialogues. The metric must
    depend only on sums over utterances, such as the counts in a confusion matrix. One matrix product then computes the sums of all samples.

    Args:
        first: `(dialogues, K)`: `K` sums for every dialogue, from the predictions of the first method.
        second: `(dialogues, K)`: the sums of the second method for the same dialogues.
        figure: Function that computes the metric from the sums of every bootstrap sample, `(draws, K)` → `(draws,)`.
        confidence: Confidence level of the interval.
        resamples: Number of bootstrap samples.
        seed: Seed of the bootstrap samples.

    Raises:
        ConfigError: `first` and `second` have different shapes, or there are fewer than two dialogues.
    """
    if first.shape != second.shape or first.ndim != 2 or len(first) < 2:
        raise ConfigError(
            f"comparison: expected the same dialogues for both methods, at least two, found values of shape {first.shape} and "
            f"{second.shape}"
        )
    random, units = np.random.default_rng(seed), len(first)
    drawn = np.empty(resamples)
    step = max(1, 10**7 // units)
    for start in range(0, resamples, step):
        times = random.multinomial(units, np.full(units, 1 / units), size=min(step, resamples - start)).astype(np.float64)
        drawn[start : start + step] = figure(times @ first) - figure(times @ second)
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    tail = min((drawn <= 0).mean(), (drawn >= 0).mean())
    whole = [float(figure(sums.sum(0, keepdims=True))[0]) for sums in (first, second)]
    return Comparison(
        difference=whole[0] - whole[1],
        p_value=float(min(1.0, 2 * max(tail, 1 / (resamples + 1)))),
        low=float(low),
        high=float(high),
        pairs=units,
    )


def class_sums(units: ArrayLike, true: NDArray[np.int64], guessed: NDArray[np.int64], classes: int) -> NDArray[np.float64]:
    """Compute one flattened confusion matrix (true × predicted class) per sampling unit, `(units, classes²)`, as input of `class_figures`.

    Args:
        units: `(n,)` sampling unit of each utterance, for example its dialogue.
        true: `(n,)` true classes.
        guessed: `(n,)` predicted classes.
        classes: Number of classes.
    """
    unit = np.unique(np.asarray(units), return_inverse=True)[1]
    sums = np.zeros((unit.max() + 1, classes**2))
    np.add.at(sums, (unit, true * classes + guessed), 1)
    return sums


def score_sums(units: ArrayLike, true: NDArray[np.float64], guessed: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the sums `(units, 6)` per sampling unit that `score_figures` needs, from true and predicted scores `(n,)`."""
    from erc_graph.training.metrics import seven

    unit = np.unique(np.asarray(units), return_inverse=True)[1]
    sums = np.zeros((unit.max() + 1, 6))
    np.add.at(sums, (unit, 2 * (true >= 0) + (guessed >= 0)), 1)
    sums[:, 4] = np.bincount(unit, seven(true) == seven(guessed))
    sums[:, 5] = np.bincount(unit, np.abs(true - guessed))
    return sums


def class_figures(classes: int) -> dict[str, Figure]:
    """Return the metrics of a classification, as functions of `(draws, classes²)` flattened confusion matrices (true × predicted class).

    `metrics.evaluate` defines the metrics and their names. Only the F1 of a class has another name: `f1/<index>`.
    """

    def counts(sums: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
        table = sums.reshape(-1, classes, classes)
        return np.einsum("rcc->rc", table), table.sum(2), table.sum(1)  # right, true, predicted

    def f1(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        right, true, guessed = counts(sums)
        return 2 * right / np.maximum(true + guessed, 1)

    def accuracy(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        right, true, _ = counts(sums)
        return right.sum(1) / true.sum(1)

    def weighted_f1(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        _, true, _ = counts(sums)
        return (f1(sums) * true).sum(1) / true.sum(1)

    def macro_f1(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        _, true, guessed = counts(sums)
        occurs = (true + guessed) > 0
        return (f1(sums) * occurs).sum(1) / occurs.sum(1)

    def recall(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        right, true, _ = counts(sums)
        return (right / np.maximum(true, 1)).sum(1) / (true > 0).sum(1)

    def of_class(index: int) -> Figure:
        return lambda sums: f1(sums)[:, index]

    figures: dict[str, Figure] = {
        "accuracy": accuracy,
        "weighted_accuracy": accuracy,
        "weighted_f1": weighted_f1,
        "macro_f1": macro_f1,
        "unweighted_accuracy": recall,
    }
    return figures | {f"f1/{index}": of_class(index) for index in range(classes)}


def score_figures() -> dict[str, Figure]:
    """Return the metrics of a score task, as functions of `(draws, 6)` sums.

    The sums are a 2×2 confusion matrix of signs, the number of correct predictions among seven classes, and the absolute errors.
    """
    signs = class_figures(2)
    figures = {name: lambda sums, f=f: f(sums[:, :4]) for name, f in signs.items() if name in ("accuracy", "weighted_f1")}

    def share(column: int) -> Figure:
        return lambda sums: sums[:, column] / sums[:, :4].sum(1)

    return {**figures, "acc2": figures["accuracy"], "f1": figures["weighted_f1"], "acc7": share(4), "mae": share(5)}
