"""Finished runs, read from their folders: metrics per seed, settings of the evaluation, and predictions of the first seed."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from erc_graph.data.files.budget import content_of
from erc_graph.errors import CheckpointError
from erc_graph.experiments.result import PREDICTIONS, RESULT
from erc_graph.experiments.settings import checked, in_words, read_object

# What has to be the same so that two figures can be compared at all.
SAME = ("dataset", "task", "labels", "protocol")


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """A finished run.

    Attributes:
        name: Path of the run that the user gave.
        method: Name of the method.
        facts: Settings of the evaluation: data set, task, protocol, modalities, SHA-256 of the data, and versions of packages.
        values: Metric → seed → result on the test split.
        folder: Folder of the predictions; `None` if there are no predictions.
    """

    name: str
    method: str
    facts: Mapping[str, Any]
    values: Mapping[str, Mapping[int, float]]
    folder: Path | None = None

    @property
    def seeds(self) -> list[int]:
        """Return the seeds in the order of training; `predictions` belong to the first seed."""
        return list(self.facts["seeds"])

    @property
    def kind(self) -> str:
        """Return the kind of the task: `classification` or `score`."""
        return "classification" if self.facts["labels"] else "score"

    @cached_property
    def predictions(self) -> Predictions | None:
        """Return the predictions of the first seed, or `None` if the run has no predictions."""
        path = self.folder / PREDICTIONS if self.folder else None
        return read_predictions(path, self.facts["labels"]) if path and path.exists() else None


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """Predictions of one seed on the test split.

    Attributes:
        keys: Dialogue, utterance and label of each row of `predictions.csv`, in sorted order.
        sums: One row per test dialogue: its flattened confusion matrix, or for a score task the sums from which metrics are computed.
    """

    keys: tuple[tuple[str, str, str], ...]
    sums: np.ndarray


def load_run(path: str | Path) -> Run:
    """Read a finished run from its folder or its `result.json`; from its subfolder `bigru`, read the baseline of the run.

    Raises:
        CheckpointError: the result is missing or damaged.
    """
    path = Path(path)
    file = path if path.suffix == ".json" else path / RESULT
    baseline = not file.exists() and path.name == "bigru" and (path.parent / RESULT).is_file()
    if baseline:
        file = path.parent / RESULT
    try:
        return _read(read_object(file), str(path), None if file == path else path, baseline)
    except CheckpointError:
        raise
    except (FileNotFoundError, NotADirectoryError):
        raise CheckpointError(
            f"{file}: no such file; expected the folder of a finished run; if the run was stopped, finish it with --resume"
        ) from None
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"{file}: expected the result of a run, found an invalid file ({in_words(error)}); continue the run with --resume "
            "to write the file again"
        ) from None


def _read(result: Mapping[str, Any], name: str, folder: Path | None, baseline: bool) -> Run:
    from erc_graph.experiments.result_form import Environment, ResultForm

    form = checked(ResultForm, result)
    figures = result["baselines"]["bigru"] if baseline else result["metrics"]["test"]
    seeds, environment = form.seeds, form.environment or Environment()
    values = {
        metric: {seed: float(v) for seed, v in zip(seeds, entry["values"], strict=True) if v is not None}
        for metric, entry in figures.items()
        if isinstance(entry, Mapping) and "values" in entry
    }
    if not seeds or not values:
        raise ValueError("a result without seeds or without metrics")
    facts = {
        **{key: result[key] for key in (*SAME, "selection", "data_sha256")},
        "seeds": seeds,
        "modalities": sorted(form.modalities),
        "members": form.members,
        "extractors": form.data.extractors if form.data else None,
        "strict": (form.config or {}).get("strict"),
        "torch": environment.packages.get("torch"),
        **{key: getattr(environment, key) for key in ("erc_graph", "git_commit", "device")},
    }
    return Run(name=name, method="bigru" if baseline else form.method, facts=facts, values=values, folder=folder)


def read_predictions(path: Path, labels: Sequence[str]) -> Predictions:
    """Return the predictions in a run's `predictions.csv`.

    Raises:
        CheckpointError: the file is damaged, or is not a file of predictions.
    """
    from erc_graph.training.resampling import class_sums, score_sums

    try:
        file = io.StringIO(content_of(path, CheckpointError).decode("utf-8"), newline="")
        rows = sorted((row["dialogue"], row["utterance"], row["label"], row["prediction"]) for row in csv.DictReader(file))
        if not rows:
            raise ValueError("no rows")
        if len({row[:2] for row in rows}) < len(rows):
            raise ValueError("two rows for the same utterance")
        units = [row[0] for row in rows]
        if labels:
            index = {name: i for i, name in enumerate(labels)}
            if other := sorted({name for row in rows for name in row[2:]} - index.keys()):
                raise ValueError(f"the label {other[0]!r}")
            truth, guess = (np.array([index[row[column]] for row in rows]) for column in (2, 3))
            sums = class_sums(units, truth, guess, len(labels))
        else:
            true, guessed = (np.array([float(row[column]) for row in rows]) for column in (2, 3))
            sums = score_sums(units, true, guessed)
    except CheckpointError:
        raise
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise CheckpointError(
            f"{path}: expected the predictions of a run, found an invalid file ({in_words(error)}); continue the run with "
            "--resume to write the file again"
        ) from None
    return Predictions(keys=tuple(row[:3] for row in rows), sums=sums)
