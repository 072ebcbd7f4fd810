"""Bootstrap over whole dialogues of metrics that are not means over utterances (F1), from sums per dialogue."""

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
    """Compute the paired percentile bootstrap of `figure(first) - figure(second)` with dialogues as the units.

    A draw takes as many dialogues as the data have, with replacement, the same for both methods. A figure depends on sums over
    utterances (a confusion matrix, a sum of errors), so a draw is one row of a matrix product.

    Args:
        first: `(dialogues, K)` sums per dialogue of one method.
        second: The other's on the same dialogues.
        figure: `(draws, K)` sums → `(draws,)` figures.
        confidence: Level of the interval.
        resamples: Number of draws.
        seed: Seed of the draws.

    Raises:
        ConfigError: not the same dialogues, or fewer than two.
    """
    if first.shape != second.shape or first.ndim != 2 or len(first) < 2:
        raise ConfigError(f"comparison: expected the same two dialogues or more of both methods, found {first.shape} and {second.shape}")
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
    """Compute flat confusion matrices of every unit, true class times predicted class: `(units, classes²)`, for `class_figures`.

    Args:
        units: `(n,)` unit of each utterance, for example its dialogue.
        true: `(n,)` classes.
        guessed: `(n,)` classes.
        classes: Number of classes.
    """
    unit = np.unique(np.asarray(units), return_inverse=True)[1]
    sums = np.zeros((unit.max() + 1, classes**2))
    np.add.at(sums, (unit, true * classes + guessed), 1)
    return sums


def score_sums(units: ArrayLike, true: NDArray[np.float64], guessed: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what `score_figures` needs of every unit: `(units, 6)`; arguments as of `class_sums`, with scores."""
    from erc_graph.training.metrics import seven

    unit = np.unique(np.asarray(units), return_inverse=True)[1]
    sums = np.zeros((unit.max() + 1, 6))
    np.add.at(sums, (unit, 2 * (true >= 0) + (guessed >= 0)), 1)
    sums[:, 4] = np.bincount(unit, seven(true) == seven(guessed))
    sums[:, 5] = np.bincount(unit, np.abs(true - guessed))
    return sums


def class_figures(classes: int) -> dict[str, Figure]:
    """Compute the metrics of a classification from `(draws, classes²)` flat confusion matrices, true class times predicted class.

    Named and defined as in `metrics.evaluate`; `f1/<index>` per class.
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
    """Compute the metrics of a score task from `(draws, 6)` sums: the 2×2 table of signs, the right ones of seven classes, absolute
    errors.
    """
    signs = class_figures(2)
    figures = {name: lambda sums, f=f: f(sums[:, :4]) for name, f in signs.items() if name in ("accuracy", "weighted_f1")}

    def share(column: int) -> Figure:
        return lambda sums: sums[:, column] / sums[:, :4].sum(1)

    return {**figures, "acc2": figures["accuracy"], "f1": figures["weighted_f1"], "acc7": share(4), "mae": share(5)}
