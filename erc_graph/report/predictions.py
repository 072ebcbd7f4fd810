"""The predictions of a training run: the content of `predictions.csv` as arrays, and metrics per class."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from erc_graph.data.files.budget import content_of
from erc_graph.errors import CheckpointError

SEVEN = tuple(f"{value:+d}" for value in range(-3, 4))  # classes of a score in [-3, 3], rounded


@dataclass(frozen=True, eq=False, kw_only=True)
class Predictions:
    """The `N` evaluated test utterances of one seed.

    Attributes:
        labels: `C` names of the classes; `-3` … `+3` for a score.
        dialogue: Dialogue id of each evaluated utterance.
        utterance: Utterance id of each evaluated utterance.
        target: `(N,)` true class.
        guess: `(N,)` predicted class.
        probabilities: `(N, C)` class probabilities; `None` for a score task.
        scores: `(N, 2)` true and predicted score; `None` for a classification.
    """

    labels: tuple[str, ...]
    dialogue: tuple[str, ...]
    utterance: tuple[str, ...]
    target: NDArray[np.int64]
    guess: NDArray[np.int64]
    probabilities: NDArray[np.float64] | None = None
    scores: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.target)

    @property
    def confusion(self) -> NDArray[np.int64]:
        """Return the confusion matrix, `(C, C)` counts; rows are true classes, columns are predicted classes."""
        size = len(self.labels)
        return np.bincount(self.target * size + self.guess, minlength=size * size).reshape(size, size)

    def per_class(self) -> list[tuple[float, float, float, int]]:
        """Return precision, recall, F1 and number of true utterances of every class; an undefined metric is 0."""
        counts = self.confusion
        hits, true, found = counts.diagonal(), counts.sum(1), counts.sum(0)
        rates = (hits / np.maximum(found, 1), hits / np.maximum(true, 1), 2 * hits / np.maximum(true + found, 1))
        return list(zip(*(rate.tolist() for rate in rates), true.tolist(), strict=True))

    def worst(self, most: int = 12, each: int = 3) -> list[int]:
        """Return the indices of the most confident wrong predictions, or of the largest errors of a score task.

        The result has at most `most` utterances, and at most `each` utterances per pair of true and predicted class.
        """
        if self.probabilities is not None:
            wrong = np.flatnonzero(self.guess != self.target)
            size = self.probabilities[wrong, self.guess[wrong]]
        elif self.scores is not None:
            size = np.abs(self.scores[:, 0] - self.scores[:, 1])
            wrong = np.flatnonzero(self.guess != self.target)
            size = size[wrong]
        else:
            return []
        kinds: Counter[tuple[int, int]] = Counter()
        chosen: list[int] = []
        for row in wrong[np.argsort(-size, kind="stable")].tolist():
            kind = (int(self.target[row]), int(self.guess[row]))
            kinds[kind] += 1
            if kinds[kind] <= each:
                chosen.append(row)
            if len(chosen) == most:
                break
        return chosen


def read_predictions(path: Path, labels: Sequence[str]) -> Predictions:
    """Read the predictions.csv of a run.

    Args:
        path: The file.
        labels: Names of the classes in index order; empty for a score.

    Raises:
        CheckpointError: the file is missing, damaged, or has another label set.
    """
    expected = ["dialogue", "utterance", "label", "prediction", *(f"p({label})" for label in labels)]
    try:
        header, *rows = csv.reader(io.StringIO(content_of(path, CheckpointError).decode("utf-8"), newline=""))
        if header != expected:
            raise ValueError(f"columns {', '.join(header)[:80]}")
        if not rows or any(len(row) != len(expected) for row in rows):
            raise ValueError("no row" if not rows else "a row that is too short or too long")
        names: tuple[tuple[str, ...], tuple[str, ...]] = tuple(r[0] for r in rows), tuple(r[1] for r in rows)
        if len(set(zip(*names, strict=True))) < len(rows):
            raise ValueError("two rows for the same utterance")
        if not labels:
            scores = np.array([[float(row[2]), float(row[3])] for row in rows])
            seven = np.clip(np.round(np.nan_to_num(scores)), -3, 3).astype(np.int64) + 3
            return Predictions(labels=SEVEN, dialogue=names[0], utterance=names[1], target=seven[:, 0], guess=seven[:, 1], scores=scores)
        chances = np.array([[float(value) for value in row[4:]] for row in rows])
        if not np.isfinite(chances).all():
            raise ValueError("a probability that is not a number")
        index = {label: i for i, label in enumerate(labels)}
        if other := sorted({name for row in rows for name in row[2:4]} - index.keys()):
            raise ValueError(f"the label {other[0]!r}")
        return Predictions(
            labels=tuple(labels),
            dialogue=names[0],
            utterance=names[1],
            target=np.array([index[row[2]] for row in rows]),
            guess=np.array([index[row[3]] for row in rows]),
            probabilities=chances,
        )
    except CheckpointError:
        raise
    except FileNotFoundError:
        raise CheckpointError(f"{path}: expected the predictions of a finished run, found no such file; finish it with --resume") from None
    except (OSError, ValueError, csv.Error) as error:
        raise CheckpointError(
            f"{path}: expected predictions of {', '.join(labels) or 'a score'}, found an invalid file ({error}); continue the "
            "run with --resume to write the file again"
        ) from None
