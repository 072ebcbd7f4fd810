r"""Reliability diagram and expected calibration error, which compare the probabilities of predictions with the accuracy.

Predictions are divided into bins of equal width by the probability of the predicted class (Guo et al., ICML 2017). A bin includes its upper
limit.
Bin :math:`b` has :math:`n_b` of the :math:`N` predictions, with accuracy :math:`\mathrm{acc}_b` and mean probability
:math:`\mathrm{conf}_b`:

.. math:: \mathrm{ECE} = \sum_b \frac{n_b}{N} |\mathrm{acc}_b - \mathrm{conf}_b|
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from erc_graph.errors import ConfigError
from erc_graph.report.figure import FAINT, SOFT, picture

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

ACCURACY, GAP = "#006699", "#D55E00"


@dataclass(frozen=True, eq=False)
class Reliability:
    """Accuracy and confidence of the predictions in each of `B` bins.

    Attributes:
        edges: `(B + 1,)` limits of the bins, from 0 to 1.
        count: `(B,)` number of predictions per bin.
        confidence: `(B,)` mean probability of the predicted class; NaN for an empty bin.
        accuracy: `(B,)` share of correct predictions; NaN for an empty bin.
    """

    edges: NDArray[np.float64]
    count: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]

    @property
    def error(self) -> float:
        """Return the expected calibration error."""
        gap = np.abs(np.nan_to_num(self.accuracy - self.confidence))
        return float((gap * self.count).sum() / max(self.count.sum(), 1))

    @property
    def overconfidence(self) -> float:
        """Return the mean confidence minus the accuracy; a positive difference means that the method is overconfident."""
        return float((np.nan_to_num(self.confidence - self.accuracy) * self.count).sum() / max(self.count.sum(), 1))


def reliability(probabilities: ArrayLike, target: ArrayLike, bins: int = 15) -> Reliability:
    """Divide predictions into bins of confidence, and compute accuracy and mean confidence per bin.

    Args:
        probabilities: `(N, C)` class probabilities.
        target: `(N,)` label indices.
        bins: Number of bins of equal width from 0 to 1.

    Raises:
        ConfigError: `probabilities` and `target` do not have the shapes `(N, C)` and `(N,)`.

    >>> reliability([[0.9, 0.1], [0.8, 0.2]], [0, 1], bins=2).accuracy.tolist()
    [nan, 0.5]
    """
    values, truth = np.asarray(probabilities, dtype=np.float64), np.asarray(target)
    if values.ndim != 2 or truth.shape != (len(values),):
        raise ConfigError(f"reliability: expected (N, C) probabilities and (N,) labels, found {values.shape} and {truth.shape}")
    confidence = values.max(-1, initial=0)
    right = values.argmax(-1) == truth
    interval = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    count = np.bincount(interval, minlength=bins)
    with np.errstate(invalid="ignore"):
        mean, share = (np.bincount(interval, weights=weights, minlength=bins) / count for weights in (confidence, right))
    return Reliability(np.linspace(0, 1, bins + 1), count, mean, share)


def plot_calibration(found: Reliability, path: str | Path) -> Path:
    """Draw the reliability diagram (accuracy by confidence, with the diagonal), and below it the number of predictions per bin.

    Raises:
        ConfigError: the file type is unknown.
        StorageError: the file cannot be written.
    """
    middle, width = (found.edges[1:] + found.edges[:-1]) / 2, found.edges[1] - found.edges[0]
    some = found.count > 0
    with picture(path, 4.6, 4.4) as figure:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3.2, 1))
        at = middle[some]
        above.bar(at, found.accuracy[some], width=0.86 * width, color=ACCURACY, label="accuracy")
        miss = found.confidence[some] - found.accuracy[some]
        above.bar(
            at, miss, bottom=found.accuracy[some], width=0.86 * width, color=GAP, alpha=0.35, edgecolor=GAP, label="gap to confidence"
        )
        above.plot([0, 1], [0, 1], color=SOFT, linewidth=1, linestyle=(0, (3, 2)), label="perfect")
        above.set_ylim(0, 1)
        above.set_ylabel("accuracy")
        above.legend(loc="upper left", fontsize=8)
        below.bar(middle, found.count, width=0.86 * width, color=SOFT)
        below.set_ylabel("turns")
        below.set_xlabel("confidence in the predicted class")
        below.set_xlim(0, 1)
        for axes in (above, below):
            axes.grid(axis="y", color=FAINT, linewidth=0.8)
            axes.set_axisbelow(True)
    return Path(path)
