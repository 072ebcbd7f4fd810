"""Train and judge one experiment: over seeds, over the folds of its protocol.

The unit is the job: one seed on one fold, in a folder of its own, where it leaves a checkpoint that can be continued. Jobs share
nothing, so that they can be trained in any order and anywhere (`launch.train_all`); what is read from a finished one is the same.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from erc_graph.data.batch import Batch
from erc_graph.data.corpus import Corpus
from erc_graph.data.splits import Fold, folds, judged_rows
from erc_graph.errors import ConfigError, CorpusError
from erc_graph.experiments.experiment import Experiment
from erc_graph.methods import PIPELINES
from erc_graph.methods.base import Pipeline, Schema
from erc_graph.methods.committee import Committee
from erc_graph.methods.prior import prior_names
from erc_graph.methods.stage import Prediction, infer
from erc_graph.training.checkpoint import LAST, State
from erc_graph.training.history import History
from erc_graph.training.loop import check_fit, fit
from erc_graph.training.metrics import evaluate, majority
from erc_graph.training.tracking import tracked


@dataclass(frozen=True, kw_only=True)
class Job:
    """One training: a seed on a fold.

    Attributes:
        experiment: What is trained.
        seed: Of the first weights, the order of the dialogues and dropout.
        fold: Who is trained on, selected on and judged.
        folder: Where its checkpoints go; unset: nowhere.
        name: In front of progress bars and errors.
    """

    experiment: Experiment
    seed: int
    fold: Fold
    folder: Path | None = None
    name: str = ""

    @property
    def finished(self) -> bool:
        """Whether nothing is left to train.

        Raises:
            CheckpointError: what stands in the folder is damaged, or of another version.
        """
        path = self.folder / LAST if self.folder else None
        return path is not None and path.exists() and State.load(path).finished


@dataclass(frozen=True, kw_only=True)
class Plan:
    """An experiment with all its seeds and folds.

    Attributes:
        experiment: What to run.
        folder: Where each seed's checkpoints go, in `seed-N`, in a folder per fold in it where there are several; unset: nowhere.
        name: In front of progress bars and errors; unset: the method.
    """

    experiment: Experiment
    folder: Path | None = None
    name: str = ""

    @property
    def title(self) -> str:
        """What it is called."""
        return self.name or self.experiment.method

    def jobs(self, corpus: Corpus) -> list[Job]:
        """All seeds on all folds, seed after seed.

        Raises:
            ConfigError: the protocol does not fit the corpus.
        """
        divisions = folds(corpus, self.experiment.run.protocol)
        found = []
        for seed in range(self.experiment.run.seeds):
            place = self.folder / f"seed-{seed}" if self.folder else None
            for fold in divisions:
                own = fold_folder(place, divisions, fold) if place else None
                name = f"{self.title} seed {seed}" + (f" {fold.name}" if len(divisions) > 1 else "")
                found.append(Job(experiment=self.experiment, seed=seed, fold=fold, folder=own, name=name))
        return found


@dataclass
class SeedResult:
    """One seed: test predictions pooled over the folds.

    Attributes:
        seed: The seed.
        test: Metrics on all judged test utterances of all folds together.
        dev: Metrics on the development parts, mean over folds.
        rows: `(n,)` corpus rows of the judged test utterances.
        scores: `(n, C)` logits, or the score.
        states: `(n, k)` states in front of the classifier, or `None`.
        histories: One per fold.
        device: Where it was trained.
        parameters: Number of weights of the pipeline.
    """

    seed: int
    test: dict[str, float]
    dev: dict[str, float]
    rows: Tensor
    scores: Tensor
    states: Tensor | None
    histories: list[History] = field(default_factory=list)
    device: str = "cpu"
    parameters: int = 0


@dataclass
class Outcome:
    """All seeds of one experiment."""

    experiment: Experiment
    corpus: Corpus
    seeds: list[SeedResult]

    def values(self, metric: str, part: str = "test") -> list[float]:
        """A metric per seed."""
        return [getattr(seed, part)[metric] for seed in self.seeds]

    @property
    def seconds_per_epoch(self) -> float:
        """Mean over seeds, folds and stages."""
        return float(np.mean([history.seconds_per_epoch for seed in self.seeds for history in seed.histories]))


def build(experiment: Experiment, corpus: Corpus, seed: int) -> Pipeline:
    """A fresh pipeline, or a committee of them; the first weights depend on the seed, those of the first member on it alone.

    Raises:
        ConfigError: it does not fit the corpus, or not into memory.
    """
    kind, reads = PIPELINES[experiment.method], schema(experiment, corpus)
    torch.manual_seed(seed)
    try:
        members = [kind(reads, experiment.pipeline) for _ in range(experiment.run.members)]
        return Committee(members) if len(members) > 1 else members[0]
    except (MemoryError, OverflowError) as error:
        raise ConfigError("pipeline: expected widths that fit into memory; make them smaller") from error
    except RuntimeError as error:
        if "memory" not in str(error) and "overflow" not in str(error).lower():
            raise
        raise ConfigError("pipeline: expected widths that fit into memory; make them smaller") from error


def check(experiment: Experiment, corpus: Corpus) -> None:
    """Refuse what cannot run, before anything is trained or written.

    Raises:
        ConfigError: the pipeline, the training or the protocol does not fit the corpus or the machine.
        CorpusError: no labels, or one alone; a part of a fold has nothing to learn from or to judge; with `strict`, sequences longer than
            the pipeline reads.
    """
    unknown = [name for name in getattr(experiment.pipeline, "swap_noise", ()) if name not in corpus.features]
    if unknown:
        raise ConfigError(f"pipeline.swap_noise: expected modalities of the corpus ({', '.join(corpus.modalities)}), found {unknown[0]!r}")
    _check_learnable(experiment, corpus)
    pipeline = build(experiment, corpus, 0)
    read = pipeline.schema
    for sentence in pipeline.cut(read.batch(corpus)):
        if experiment.run.strict:
            raise CorpusError(f"{corpus.name}: {sentence}; leave out --strict to read the beginning of them")
        logging.getLogger(__name__).warning("  note: %s; the rest of them is not read", sentence)
    prior = prior_names(getattr(experiment.pipeline, "prior", None))
    if corpus.task.kind == "classification":
        _check_prior(corpus, prior)
    for fold in folds(corpus, experiment.run.protocol):
        parts = Parts.of(corpus, fold, read)
        check_fit(corpus.task, parts.train, parts.dev, experiment.training, experiment.run.device)
        if not parts.test.judged.any():
            raise CorpusError(f"test part of fold {fold.name}: expected labelled utterances, found none in {len(fold.test)} dialogues")
        _check_fitted(corpus, fold, (*read.modalities, *prior))


def _check_learnable(experiment: Experiment, corpus: Corpus) -> None:
    """Refuse what any network would learn nothing from.

    Raises:
        CorpusError: no labels at all, or a training part with one of them alone, or without any features.
    """
    if not corpus.labelled.any():
        raise CorpusError(
            f"{corpus.name}: expected labels to learn from, found none in {corpus.utterances} utterances; add a `label` column "
            "(or `sentiment`)"
        )
    read = schema(experiment, corpus)
    for fold in folds(corpus, experiment.run.protocol):
        found = corpus.target[judged_rows(corpus, fold.train)].unique()
        if len(found) == 1:
            value = found.item()
            label = repr(corpus.task.labels[int(value)]) if corpus.task.kind == "classification" else value
            raise CorpusError(f"train part of fold {fold.name}: expected two labels or more, found {label} alone; label others, too")
        rows = corpus.rows(corpus.position[name] for name in fold.train)
        here = [*(corpus.present[name] for name in read.widths), *(corpus.sequences[name].present for name in read.sequences)]
        if not any(present[rows].any() for present in here):
            raise CorpusError(
                f"train part of fold {fold.name}: expected features, found {', '.join(read.modalities)} missing, or with NaN or inf, in "
                f"all {len(rows)} utterances; look at the feature files"
            )


def _check_prior(corpus: Corpus, names: Iterable[str]) -> None:
    """Refuse what cannot be the log-probabilities of classes.

    Raises:
        CorpusError: probabilities that do not add up to one.
    """
    for name in names:
        if name not in corpus.features:
            continue  # the pipeline says so
        values = corpus.features[name][corpus.present[name]]
        off = (values.float().logsumexp(-1).exp() - 1).abs() > 0.05
        if off.any():
            where = corpus.utterance_ids[int(corpus.present[name].nonzero()[:, 0][off][0])]
            raise CorpusError(
                f"pipeline.prior: expected log-probabilities in {name!r}, found {int(off.sum())} of {len(values)} utterances (first: "
                f"{where}) whose probabilities do not add up to one; make them with `erc-graph features --fine-tune --output "
                "log-probabilities`"
            )


def _check_fitted(corpus: Corpus, fold: Fold, modalities: Iterable[str]) -> None:
    """Features that were fitted to the labels of dialogues which a fold judges are refused; where they are cross-fitted, it is said.

    Raises:
        ConfigError: features of a modality know the labels of test dialogues.
    """
    for name in dict.fromkeys(modalities):
        fitted = corpus.provenance.get("fitted", {}).get(name, {})
        known = set(fitted.get("dialogues", ()))
        judged = {part: [one for one in ids if one in known] for part, ids in (("test", fold.test), ("development", fold.dev))}
        if judged["test"] and not fitted.get("cross_fit"):
            raise ConfigError(
                f"{name}: its encoder was tuned on the labels of {len(judged['test'])} of the {len(fold.test)} test dialogues of fold "
                f"{fold.name} (first: {judged['test'][0]}); leave it out (--modalities), or use the protocol that it was tuned for"
            )
        for part, ids in judged.items():
            if ids:
                logging.getLogger(__name__).warning(
                    "  note: %s: its encoders were tuned on the labels of %d %s dialogues of fold %s%s",
                    name, len(ids), part, fold.name, ", each read by one that never saw it" if fitted.get("cross_fit") else "",
                )  # fmt: skip


def schema(experiment: Experiment, corpus: Corpus) -> Schema:
    """What the experiment reads of the corpus."""
    chosen = tuple(experiment.run.modalities) if experiment.run.modalities else None
    return Schema.of(corpus, chosen, PIPELINES[experiment.method].reads)


@dataclass(frozen=True)
class Parts:
    """A fold as batches of all its dialogues."""

    train: Batch
    dev: Batch
    test: Batch

    @classmethod
    def of(cls, corpus: Corpus, fold: Fold, schema: Schema) -> Parts:
        """Cut the corpus; where a part has speakers of its own only these are judged, the others are context."""

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
) -> tuple[Pipeline, History, Batch]:
    """Train; returns the pipeline with its chosen weights, what happened, and the test part."""
    pipeline = build(job.experiment, corpus, job.seed)
    parts = Parts.of(corpus, job.fold, pipeline.schema)
    pipeline.fit_inputs(parts.train)
    history = fit(
        pipeline,
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
    )
    return pipeline, history, parts.test.to(pipeline.device)


def run_job(
    job: Job, corpus: Corpus, *, resume: bool = False, quiet: bool | None = None, track: str | None = None
) -> tuple[Pipeline, History, Batch, Prediction]:
    """Train and ask about the test part; what is finished is read, not trained again.

    Args:
        job: What to train.
        corpus: On what.
        resume: Continue what stands in the job's folder.
        quiet: No progress bar; unset: none where standard error is no terminal.
        track: Send figures to `tensorboard`, `wandb` or `mlflow`.
    """
    if resume and job.finished:
        track = None  # it was told when it was trained
    project, settings = f"erc_graph-{job.experiment.method}-{corpus.name}", {"seed": job.seed, **job.experiment.as_dict()}
    with tracked(track, project, job.name, job.folder, settings) as tracker:
        pipeline, history, test = train_job(job, corpus, resume=resume, quiet=quiet, on_epoch=tracker.epoch if tracker else None)
        answer = infer(pipeline, test)
        if tracker:
            rows = test.judged
            tracker.test(evaluate(answer.scores[rows], test.target[rows], corpus.task))
    return pipeline, history, test, answer


def fold_folder(folder: Path, divisions: list[Fold], fold: Fold) -> Path:
    """Where a fold's checkpoints go: the seed's own folder where it is the only fold."""
    return folder / fold.name.replace(" ", "-") if len(divisions) > 1 else folder


def run_seed(todo: Sequence[Job], corpus: Corpus, *, resume: bool = False, track: str | None = None) -> SeedResult:
    """Train and judge all folds of one seed."""
    rows, scores, states, histories, devs = [], [], [], [], []
    for job in todo:
        pipeline, history, test, answer = run_job(job, corpus, resume=resume, track=track)
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
        device=str(pipeline.device),
        parameters=sum(p.numel() for p in pipeline.parameters()),
    )


def run_experiment(plan: Plan, corpus: Corpus, *, resume: bool = False, track: str | None = None) -> Outcome:
    """Train and judge all seeds, one after the other.

    Args:
        plan: What to run, and where.
        corpus: On what.
        resume: Continue what stands in the folder.
        track: Send figures to `tensorboard`, `wandb` or `mlflow`.

    Raises:
        ConfigError: the protocol does not fit the corpus, or a modality is not there.
    """
    results = []
    seeds = [list(group) for _, group in groupby(plan.jobs(corpus), key=lambda job: job.seed)]
    for todo in tqdm(seeds, desc=f"{plan.title}: seeds", disable=None if len(seeds) > 1 else True):
        results.append(run_seed(todo, corpus, resume=resume, track=track))
    return Outcome(experiment=plan.experiment, corpus=corpus, seeds=results)


def majority_metrics(experiment: Experiment, corpus: Corpus, like: SeedResult) -> dict[str, float]:
    """The class that is most frequent in training (or the median score), on the same test utterances, fold by fold."""
    scores = []
    for fold in folds(corpus, experiment.run.protocol):
        train = corpus.target[judged_rows(corpus, fold.train)]
        count = int(judged_rows(corpus, fold.test, fold.test_speakers).sum())
        if corpus.task.kind == "score":
            scores.append(train.median().expand(count, 1))
        else:
            scores.append(majority(train, count, len(corpus.task.labels)))
    return evaluate(torch.cat(scores), corpus.target[like.rows], corpus.task)


def baseline_of(experiment: Experiment, corpus: Corpus) -> Experiment:
    """The plain BiGRU on the same inputs, protocol and seeds, with as many members.

    Its settings are its own, everywhere the same, and not tuned. What is about the inputs it has from the experiment: figures relative to
    the speaker, the prior, swap noise; and how an epoch is chosen: on the development split (40 epochs at most), or fixed beforehand (10).
    """
    from erc_graph.methods.bigru import BiGRUConfig
    from erc_graph.training.config import TrainingConfig

    own = TrainingConfig(
        epochs=10 if experiment.training.selection == "last" else 40,
        learning_rate=1e-3,
        weight_decay=1e-5,
        batch_size=16,
        patience=10,
        selection=experiment.training.selection,
        criterion=experiment.training.criterion,
    )
    modalities = [name for name in schema(experiment, corpus).modalities if name != "speaker"]
    relative = [name for name in getattr(experiment.pipeline, "speaker_relative", []) if name in modalities]
    noise = {name: share for name, share in getattr(experiment.pipeline, "swap_noise", {}).items() if name in modalities}
    prior, around = getattr(experiment.pipeline, "prior", None), getattr(experiment.pipeline, "prior_around", False)
    baseline = BiGRUConfig(speaker_relative=relative, prior=prior, prior_around=around, swap_noise=noise)
    return Experiment(method="bigru", run=replace(experiment.run, modalities=modalities), pipeline=baseline, training=own)
