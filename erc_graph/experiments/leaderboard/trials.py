"""One training of a leaderboard, and what is kept of it: a record, and of the chosen setting what it says of the test part."""

from __future__ import annotations

import gc
import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from erc_graph.data.batch import Batch
from erc_graph.data.corpus import Corpus
from erc_graph.data.files.budget import content_of
from erc_graph.data.files.storage import load_tensors, save_tensors, write_json
from erc_graph.data.printable import one_line
from erc_graph.errors import CheckpointError, ErcGraphError, StorageError
from erc_graph.experiments.jobs import Job
from erc_graph.experiments.leaderboard.behaviour import behaviour
from erc_graph.experiments.memory import forget_peak, resident
from erc_graph.experiments.run import schema, train_job
from erc_graph.methods.stage import infer
from erc_graph.training.history import History
from erc_graph.training.metrics import evaluate

CONFIG = "config.json"
WORK, TRACES = "work", "test-traces"  # folders: of what is under way; of what no choice may read


@dataclass(frozen=True, kw_only=True)
class Trial(Job):
    """A job that leaves a record, and nothing else, when it is done.

    Attributes:
        record: The file; scores of the test part stand beside it.
        facts: What it is, for the record: setting, changes, part.
        final: Its fold is the official one, and it is asked about the test part, for its trace after every epoch, too. Otherwise the
            fold judges training or development dialogues, and settings are chosen by that.
    """

    record: Path
    facts: Mapping[str, Any] = field(default_factory=dict)
    final: bool = False

    @property
    def finished(self) -> bool:
        """Whether its record is there, and not of a machine that failed: then it is trained again."""
        return self.record.is_file() and not read_record(self.record).get("again")

    @property
    def scores(self) -> Path:
        """Where its scores of the test part are."""
        return self.record.with_suffix(".safetensors")

    @property
    def trace(self) -> Path:
        """Where its figures of the test part after every epoch are."""
        return self.record.parent / TRACES / self.record.name


def carry_out(trial: Trial, corpus: Corpus, *, resume: bool = True, quiet: bool | None = None, track: str | None = None) -> None:
    """Train, and write the record; what goes wrong in a method is in its record.

    Raises:
        StorageError: a file could not be written.
        CheckpointError: what stands in its folder cannot be gone on with.
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
    write_json(trial.record, {**trial.facts, "seed": trial.seed, **found})
    if trial.folder:
        shutil.rmtree(trial.folder, ignore_errors=True)


def _trained(trial: Trial, corpus: Corpus, quiet: bool | None) -> dict[str, Any]:
    gc.collect()
    forget_peak()
    traced: dict[str, dict[str, float | None]] = {}

    def on_test(stage: int, epoch: int, scores: Tensor, test: Batch) -> None:
        if not traced and (stage, epoch) != (0, 1):  # it was stopped, and goes on
            traced.update(_read_trace(trial.trace))
        traced.setdefault(str(stage), {})[str(epoch)] = _figure(scores, test, corpus, trial.experiment.training.criterion)
        trial.trace.parent.mkdir(parents=True, exist_ok=True)
        write_json(trial.trace, traced)

    network, history, test = train_job(trial, corpus, resume=True, quiet=quiet, on_test=on_test if trial.final else None)
    scores, found = infer(network, test).scores[test.judged], {**_cost(network, history), "dev": history.dev}
    judged = evaluate(scores, test.target[test.judged], corpus.task)
    if not trial.final:
        return {**found, "held_out": judged}
    save_tensors(trial.scores, {"rows": test.row[test.judged].cpu(), "scores": scores.cpu()})
    reads, values = schema(trial.experiment, corpus), trial.experiment.as_dict()
    return {
        **found,
        "settings": {name: values[name] for name in ("pipeline", "training", "inputs", "prior")},
        "reads": {"widths": dict(reads.widths), "sequences": {name: list(item) for name, item in reads.sequences.items()}},
        "behaviour": behaviour(trial.experiment.method, values["pipeline"], reads),
    }


def _figure(scores: Tensor, test: Batch, corpus: Corpus, criterion: str) -> float | None:
    try:
        return evaluate(scores[test.judged], test.target[test.judged], corpus.task)[criterion]
    except ErcGraphError:  # no numbers: a matter of the test part alone, which ends no training
        return None


def _read_trace(path: Path) -> dict[str, dict[str, float | None]]:
    """Epochs that were traced before a training was stopped; they are told again where it had gone no further."""
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


def read_record(path: Path) -> dict[str, Any]:
    """What a trial left.

    Raises:
        CheckpointError: it is damaged.
    """
    try:
        found = json.loads(content_of(path))
        if not isinstance(found, dict):
            raise TypeError("no object")
        return found
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(
            f"{path}: expected the record of a training, found something else ({error}); delete it to train again"
        ) from None


def read_scores(trial: Trial) -> tuple[Tensor, Tensor]:
    """`(n,)` rows of the corpus and `(n, C)` scores of its judged test utterances.

    Raises:
        CheckpointError: they are missing or damaged.
    """
    tensors, _ = load_tensors(trial.scores)
    if tensors.keys() != {"rows", "scores"} or len(tensors["rows"]) != len(tensors["scores"]):
        raise CheckpointError(f"{trial.scores}: expected rows and their scores, found {', '.join(tensors)}; delete {trial.record.name} too")
    return tensors["rows"], tensors["scores"].float()
