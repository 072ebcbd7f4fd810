"""Training and evaluation of one job (one seed on one fold), of one seed on all folds, or of an experiment with all seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from erc_graph.data.batch import Batch
from erc_graph.data.corpus import Corpus
from erc_graph.data.progress import Progress
from erc_graph.data.splits import Fold, judged_rows
from erc_graph.errors import ConfigError
from erc_graph.experiments.experiment import Experiment
from erc_graph.experiments.jobs import Job, Outcome, Plan, SeedResult
from erc_graph.inference.saved import Network
from erc_graph.methods.ensemble import Ensemble
from erc_graph.methods.own_file import find_method
from erc_graph.methods.schema import Schema
from erc_graph.methods.stage import Prediction, infer
from erc_graph.training.history import History
from erc_graph.training.loop import fit
from erc_graph.training.metrics import evaluate
from erc_graph.training.tracking import tracked


def schema(experiment: Experiment, corpus: Corpus) -> Schema:
    """Return the schema of the experiment's network: the modalities that it uses, their feature widths, and the task."""
    chosen = tuple(experiment.run.modalities) if experiment.run.modalities else None
    return Schema.of(corpus, chosen, find_method(experiment.method).reads)


def build(experiment: Experiment, corpus: Corpus, seed: int) -> Network:
    """Return a new network, or an ensemble of networks, with initial weights that depend on the seed.

    The first network of an ensemble has the same initial weights as a single network.

    Raises:
        ConfigError: the method cannot be used with the corpus, or the network is too large for the memory.
    """
    kind, reads = find_method(experiment.method), schema(experiment, corpus)
    torch.manual_seed(seed)
    try:
        members = [
            kind(reads, experiment.pipeline, inputs=experiment.inputs, prior=experiment.prior) for _ in range(experiment.run.members)
        ]
        return Ensemble(members) if len(members) > 1 else members[0]
    except (MemoryError, OverflowError) as error:
        raise ConfigError(
            "pipeline: expected a network that fits into memory; choose smaller widths in the settings of the method"
        ) from error
    except RuntimeError as error:
        if "memory" not in str(error) and "overflow" not in str(error).lower():
            raise
        raise ConfigError(
            "pipeline: expected a network that fits into memory; choose smaller widths in the settings of the method"
        ) from error


@dataclass(frozen=True)
class Parts:
    """The three splits of a fold, each as one batch of all its dialogues."""

    train: Batch
    dev: Batch
    test: Batch

    @classmethod
    def of(cls, corpus: Corpus, fold: Fold, schema: Schema) -> Parts:
        """Build one batch per split.

        If the fold names speakers for a split, only utterances of these speakers are evaluated. Other utterances are context.
        """

        def cut(ids: tuple[str, ...], speakers: frozenset[str] | None) -> Batch:
            chosen = corpus.subset(ids)
            rows = corpus.rows(corpus.position[i] for i in ids)
            return replace(schema.batch(chosen), judged=judged_rows(chosen, ids, speakers), row=rows)

        return cls(cut(fold.train, None), cut(fold.dev, fold.dev_speakers), cut(fold.test, fold.test_speakers))


def train_job(
    job: Job,
    corpus: Corpus,
    *,
    resume: bool = False,
    quiet: bool | None = None,
    on_epoch: Callable[[History], None] | None = None,
    on_test: Callable[[int, int, Tensor, Batch], None] | None = None,
) -> tuple[Network, History, Batch]:
    """Train one seed on one fold; return the network with the weights of the selected epoch, the training history, and the test batch.

    After every epoch, `on_test` is called with the index of the training stage, the epoch, the test scores, and the test batch.
    """
    network = build(job.experiment, corpus, job.seed)
    parts = Parts.of(corpus, job.fold, network.schema)
    network.fit_inputs(parts.train)

    def watch(stage: int, epoch: int, ask: Callable[[Batch], Tensor]) -> None:
        here = parts.test.to(network.device)
        on_test(stage, epoch, ask(here), here)  # type: ignore[misc]

    history = fit(
        network,
        parts.train,
        parts.dev,
        job.experiment.training,
        seed=job.seed,
        folder=job.folder,
        resume=resume,
        device=job.experiment.run.device,
        quiet=quiet,
        description=job.name,
        on_epoch=on_epoch,
        watch=watch if on_test else None,
    )
    return network, history, parts.test.to(network.device)


def run_job(
    job: Job, corpus: Corpus, *, resume: bool = False, quiet: bool | None = None, track: str | None = None
) -> tuple[Network, History, Batch, Prediction]:
    """Train one seed on one fold, and predict the test split; with `resume`, a finished training is loaded and not repeated.

    Args:
        job: The job.
        corpus: The corpus.
        resume: Continue from the checkpoint in the folder of the job.
        quiet: Show no progress; default: show a progress bar on a terminal, or else one line per minute.
        track: Send metrics to `tensorboard`, `wandb` or `mlflow`.
    """
    if resume and job.finished:
        track = None  # it was told when it was trained
    project, settings = f"erc_graph-{job.experiment.method}-{corpus.name}", {"seed": job.seed, **job.experiment.as_dict()}
    with tracked(track, project, job.name, job.folder, settings) as tracker:
        network, history, test = train_job(job, corpus, resume=resume, quiet=quiet, on_epoch=tracker.epoch if tracker else None)
        answer = infer(network, test)
        if tracker:
            rows = test.judged
            tracker.test(evaluate(answer.scores[rows], test.target[rows], corpus.task))
    return network, history, test, answer


def run_seed(todo: Sequence[Job], corpus: Corpus, *, resume: bool = False, track: str | None = None) -> SeedResult:
    """Train and evaluate all folds of one seed."""
    rows, scores, states, histories, devs = [], [], [], [], []
    for job in todo:
        network, history, test, answer = run_job(job, corpus, resume=resume, track=track)
        rows.append(test.row[test.judged].cpu())
        scores.append(answer.scores[test.judged].cpu())
        if answer.states is not None:
            states.append(answer.states[test.judged].cpu())
        histories.append(history)
        devs.append(history.dev)
    pooled, at = torch.cat(scores), torch.cat(rows)
    return SeedResult(
        seed=todo[0].seed,
        test=evaluate(pooled, corpus.target[at], corpus.task),
        dev={name: float(np.mean([dev[name] for dev in devs])) for name in devs[0]} if all(devs) else {},
        rows=at,
        scores=pooled,
        states=torch.cat(states) if states and len(todo) == 1 else None,
        histories=histories,
        device=str(network.device),
        parameters=sum(p.numel() for p in network.parameters()),
        utterance_level=network.utterance_level,
    )


def run_experiment(plan: Plan, corpus: Corpus, *, resume: bool = False, track: str | None = None) -> Outcome:
    """Train and evaluate all seeds, one after the other.

    Args:
        plan: The experiment and its folder.
        corpus: The corpus.
        resume: Continue from the checkpoints in the folder of the plan.
        track: Send metrics to `tensorboard`, `wandb` or `mlflow`.

    Raises:
        ConfigError: the protocol does not fit the corpus, or the corpus lacks a modality.
    """
    results = []
    seeds = [list(group) for _, group in groupby(plan.jobs(corpus), key=lambda job: job.seed)]
    for todo in Progress(seeds, desc=f"{plan.title}: seeds", disable=len(seeds) == 1):
        results.append(run_seed(todo, corpus, resume=resume, track=track))
    return Outcome(experiment=plan.experiment, corpus=corpus, seeds=results)
