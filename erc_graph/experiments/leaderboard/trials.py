"""One training of a leaderboard and its record, with test predictions if the training uses the chosen hyperparameters."""

from __future__ import annotations

import gc
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from erc_graph.data.batch import Batch
from erc_graph.data.corpus import Corpus
from erc_graph.data.files.budget import content_of
from erc_graph.data.files.journal import Record
from erc_graph.data.files.storage import plain, write_json
from erc_graph.data.printable import one_line
from erc_graph.data.tasks import Task
from erc_graph.errors import CheckpointError, ErcGraphError, StorageError
from erc_graph.experiments.jobs import Job
from erc_graph.experiments.leaderboard.behaviour import behaviour
from erc_graph.experiments.leaderboard.board_rules import CRITERION
from erc_graph.experiments.memory import forget_peak, resident
from erc_graph.experiments.run import schema, train_job
from erc_graph.methods.stage import infer
from erc_graph.training.history import History
from erc_graph.training.metrics import evaluate

CONFIG, TRAININGS, TRACES, ANSWERS = "config.json", "trainings.jsonl", "test-traces.jsonl", "answers.jsonl"
WORK = "work"  # folder of what is under way
TRACE = "test-trace.json"  # of a training that is under way
Parts = Mapping[str, Mapping[str, Tensor]]  # what is told apart → name → `(U,)` bool


@dataclass(frozen=True, kw_only=True)
class Trial(Job):
    """A training job whose result is recorded.

    Attributes:
        key: Name of the training in `trainings.jsonl`, the recorded results on the corpus.
        facts: Further values of the record: index of the candidate setting, its changes, and the name of the held-out fold.
        final: Whether the training uses the chosen setting and is evaluated on the official test split. If not, the training serves to
            choose a setting, and is evaluated on held-out training or development dialogues.
        parts: Subsets of the test utterances that are also evaluated separately.
    """

    key: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    final: bool = False
    parts: Parts = field(default_factory=dict)


def carry_out(trial: Trial, corpus: Corpus, *, resume: bool = True, quiet: bool | None = None, track: str | None = None) -> Record:
    """Run a training, and return the record of its results; an error of the method is not raised but recorded.

    The record has `trace`, the test results after every epoch, and `answers`, the predictions. The caller stores `trace` and `answers` in
    separate files, because predictions may fall under the license of the corpus.

    Raises:
        StorageError: a file could not be written.
        CheckpointError: the checkpoint in the folder cannot be continued.
    """
    try:
        found = _trained(trial, corpus, quiet)
    except (StorageError, CheckpointError):
        raise
    except (MemoryError, OSError) as failure:  # of the machine, not of the method
        found = {"error": one_line(f"{type(failure).__name__}: {failure}", 400), "again": True}
    except ErcGraphError as refusal:
        found = {"error": one_line(refusal, 400)}
    except Exception as failure:  # a mistake in one method is a row of the table, not its end
        found = {"error": one_line(f"{type(failure).__name__}: {failure}", 400)}
    return record_of(trial, found)


def record_of(trial: Trial, found: Mapping[str, Any]) -> Record:
    """Return the record of a training, as values that JSON can store."""
    kept: Record = plain({"training": trial.key, **trial.facts, "seed": trial.seed, **found})
    return kept


def _trained(trial: Trial, corpus: Corpus, quiet: bool | None) -> dict[str, Any]:
    gc.collect()
    forget_peak()
    traced: dict[str, dict[str, float | None]] = {}
    assert trial.folder is not None
    place = trial.folder / TRACE

    def on_test(stage: int, epoch: int, scores: Tensor, test: Batch) -> None:
        if not traced and (stage, epoch) != (0, 1):  # it was stopped, and goes on
            traced.update(_read_trace(place))
        traced.setdefault(str(stage), {})[str(epoch)] = _figure(scores, test, corpus, trial.experiment.training.criterion)
        write_json(place, traced)

    network, history, test = train_job(trial, corpus, resume=True, quiet=quiet, on_test=on_test if trial.final else None)
    scores, found = infer(network, test).scores[test.judged], {**_cost(network, history), "dev": history.dev}
    judged = evaluate(scores, test.target[test.judged], corpus.task)
    if not trial.final:
        return {**found, "held_out": judged}
    values = trial.experiment.as_dict()
    order = test.row[test.judged].argsort()
    return {
        **found,
        "test": judged,
        **_judged_apart(scores.cpu(), test.row[test.judged].cpu(), corpus, trial.parts),
        "behaviour": behaviour(trial.experiment.method, values["pipeline"], schema(trial.experiment, corpus)),
        "answers": written(scores.cpu()[order.cpu()], corpus.task),
        "trace": traced or _read_trace(place),
    }


def _judged_apart(scores: Tensor, rows: Tensor, corpus: Corpus, parts: Parts) -> dict[str, dict[str, float]]:
    """Compute weighted F1 on every subset of the test utterances that is not empty."""
    target = corpus.target[rows]
    found: dict[str, dict[str, float]] = {}
    for what, masks in parts.items():
        kept = {name: keep for name, mask in masks.items() if (keep := mask[rows]).any()}
        found[what] = {name: evaluate(scores[keep], target[keep], corpus.task)[CRITERION] for name, keep in kept.items()}
    if len(groups := found.pop("groups", {})) > 1:
        found["groups"] = {**groups, "gap": max(groups.values()) - min(groups.values())}
    return found


def answers_of(record: Record) -> str | None:
    """Return the name of the training of a record with predictions; `None` for a record without predictions."""
    name = record.get("training")
    return name if isinstance(name, str) and "answers" in record else None


def written(scores: Tensor, task: Task) -> str | list[float]:
    """Convert predictions to a string or a list, which JSON can store.

    Predicted classes become a string with one character per utterance (`0` for class 0). Predicted scores become a list of rounded numbers.

    >>> from erc_graph.data.tasks import get_task
    >>> written(torch.eye(6)[:3], get_task("iemocap6"))
    '012'
    """
    if task.kind == "classification":
        return "".join(chr(ord("0") + index) for index in scores.argmax(-1).tolist())
    return [round(score, 4) for score in scores[:, 0].tolist()]


def answers(record: Record, task: Task, count: int) -> Tensor:
    """Convert recorded predictions to scores `(count, C)`, with 1 for the predicted class and 0 for other classes.

    For a score task, return the predicted scores, `(count, 1)`.

    Raises:
        CheckpointError: the record does not have `count` predictions.
    """
    found = record.get("answers")
    try:
        if task.kind == "classification":
            index = [ord(character) - ord("0") for character in str(found)]
            scores = torch.nn.functional.one_hot(torch.tensor(index), len(task.labels)).float()
        else:
            scores = torch.tensor(found, dtype=torch.float32)[:, None]
        if len(scores) != count:
            raise ValueError(f"{len(scores)} predictions")
    except (RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{record['training']}: expected {count} predictions in the record of this training, "
                              f"found invalid predictions ({error}); delete the line of this training in {ANSWERS}") from None  # fmt: skip
    return scores


def _figure(scores: Tensor, test: Batch, corpus: Corpus, criterion: str) -> float | None:
    try:
        return evaluate(scores[test.judged], test.target[test.judged], corpus.task)[criterion]
    except ErcGraphError:  # no numbers: a matter of the test part alone, which ends no training
        return None


def _read_trace(path: Path) -> dict[str, dict[str, float | None]]:
    """Return the test results after every epoch that a stopped training has stored; empty if there are none."""
    try:
        return dict(json.loads(content_of(path)))
    except (ErcGraphError, OSError, ValueError):
        return {}


def _cost(network: Any, history: History) -> dict[str, Any]:
    epochs = [epoch for stage in history.stages for epoch in stage.epochs]
    seconds = sum(epoch.cpu_seconds for epoch in epochs) / len(epochs)
    return {
        "epochs": [{"stage": stage.name, "chosen": stage.chosen, "run": len(stage.epochs)} for stage in history.stages],
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "cpu_seconds_per_epoch": seconds if math.isfinite(seconds) else None,
        "peak_bytes": resident()[1],
    }
