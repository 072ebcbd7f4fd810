"""Train and judge one experiment: over seeds, over the folds of its protocol; every fold leaves a checkpoint that can be continued."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from erc_graph.data.batch import Batch
from erc_graph.data.corpus import Corpus
from erc_graph.data.splits import Fold, folds, judged_rows
from erc_graph.errors import ConfigError, CorpusError
from erc_graph.experiments.config import Experiment
from erc_graph.pipelines import PIPELINES
from erc_graph.pipelines.base import Pipeline, Schema
from erc_graph.pipelines.stage import infer
from erc_graph.training.history import History
from erc_graph.training.loop import check_fit, fit
from erc_graph.training.metrics import evaluate, majority


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
    """A fresh pipeline; its first weights depend on the seed.

    Raises:
        ConfigError: it does not fit the corpus, or not into memory.
    """
    torch.manual_seed(seed)
    try:
        return PIPELINES[experiment.method](schema(experiment, corpus), experiment.pipeline)
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
        CorpusError: a part of a fold has nothing to learn from or to judge.
    """
    unknown = [name for name in getattr(experiment.pipeline, "swap_noise", ()) if name not in corpus.features]
    if unknown:
        raise ConfigError(f"pipeline.swap_noise: expected modalities of the corpus ({', '.join(corpus.modalities)}), found {unknown[0]!r}")
    modalities = tuple(build(experiment, corpus, 0).schema.widths)
    for fold in folds(corpus, experiment.run.protocol):
        train = part(corpus, fold.train, None, modalities)
        dev = part(corpus, fold.dev, fold.dev_speakers, modalities)
        check_fit(corpus.task, train, dev, experiment.training, experiment.run.device)
        if not judged_rows(corpus, fold.test, fold.test_speakers).any():
            raise CorpusError(f"test part of fold {fold.name}: expected labelled utterances, found none in {len(fold.test)} dialogues")


def schema(experiment: Experiment, corpus: Corpus) -> Schema:
    """What the experiment reads of the corpus."""
    return Schema.of(corpus, tuple(experiment.run.modalities) if experiment.run.modalities else None)


def part(corpus: Corpus, ids: tuple[str, ...], speakers: frozenset[str] | None, modalities: tuple[str, ...]) -> Batch:
    """Some dialogues as one batch; only the given speakers are judged, the others are context."""
    chosen = corpus.subset(ids)
    return replace(chosen.batch(modalities), judged=judged_rows(chosen, ids, speakers), row=corpus.rows(corpus.position[i] for i in ids))


def run_fold(
    experiment: Experiment,
    corpus: Corpus,
    fold: Fold,
    seed: int,
    folder: Path | None,
    *,
    resume: bool = False,
    description: str = "",
) -> tuple[Pipeline, History, Batch]:
    """Train on one fold; returns the pipeline with its chosen weights, what happened, and the test part."""
    pipeline = build(experiment, corpus, seed)
    modalities = tuple(pipeline.schema.widths)
    train = part(corpus, fold.train, None, modalities)
    dev = part(corpus, fold.dev, fold.dev_speakers, modalities)
    pipeline.fit_inputs(train)
    history = fit(
        pipeline,
        train,
        dev,
        experiment.training,
        seed=seed,
        folder=folder,
        resume=resume,
        device=experiment.run.device,
        description=description,
    )
    return pipeline, history, part(corpus, fold.test, fold.test_speakers, modalities).to(pipeline.device)


def fold_folder(folder: Path, divisions: list[Fold], fold: Fold) -> Path:
    """Where a fold's checkpoints go: the seed's own folder where it is the only fold."""
    return folder / fold.name.replace(" ", "-") if len(divisions) > 1 else folder


def run_seed(
    experiment: Experiment, corpus: Corpus, seed: int, folder: Path | None, *, resume: bool = False, description: str = ""
) -> SeedResult:
    """Train and judge all folds with one seed."""
    divisions = folds(corpus, experiment.run.protocol)
    rows, scores, states, histories, devs = [], [], [], [], []
    for fold in divisions:
        several = len(divisions) > 1
        place = fold_folder(folder, divisions, fold) if folder else None
        text = f"{description} {fold.name}" if several else description
        pipeline, history, test = run_fold(experiment, corpus, fold, seed, place, resume=resume, description=text)
        answer = infer(pipeline, test)
        rows.append(test.row[test.judged].cpu())
        scores.append(answer.scores[test.judged].cpu())
        if answer.states is not None:
            states.append(answer.states[test.judged].cpu())
        histories.append(history)
        devs.append(history.dev)
    pooled, at = torch.cat(scores), torch.cat(rows)
    return SeedResult(
        seed=seed,
        test=evaluate(pooled, corpus.target[at], corpus.task),
        dev={name: float(np.mean([dev[name] for dev in devs])) for name in devs[0]} if all(devs) else {},
        rows=at,
        scores=pooled,
        states=torch.cat(states) if states and not several else None,
        histories=histories,
        device=str(pipeline.device),
        parameters=sum(p.numel() for p in pipeline.parameters()),
    )


def run_experiment(
    experiment: Experiment,
    corpus: Corpus,
    folder: Path | None = None,
    *,
    resume: bool = False,
    name: str = "",
) -> Outcome:
    """Train and judge all seeds.

    Args:
        experiment: What to run.
        corpus: On what.
        folder: Where each seed's checkpoints go, in `seed-N`; unset: nowhere.
        resume: Continue what stands in `folder`.
        name: In front of the progress bars.

    Raises:
        ConfigError: the protocol does not fit the corpus, or a modality is not there.
    """
    results = []
    bar = tqdm(range(experiment.run.seeds), desc=f"{name or experiment.method}: seeds", disable=None if experiment.run.seeds > 1 else True)
    for seed in bar:
        place = folder / f"seed-{seed}" if folder else None
        results.append(run_seed(experiment, corpus, seed, place, resume=resume, description=f"{name or experiment.method} seed {seed}"))
    return Outcome(experiment=experiment, corpus=corpus, seeds=results)


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
    """The plain BiGRU on the same inputs, protocol and seeds. Its settings are its own, everywhere the same, and not tuned.

    Only how an epoch is chosen follows the experiment: on the development split (40 epochs at most), or fixed beforehand (10).
    """
    from erc_graph.pipelines.bigru import BiGRUConfig
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
    modalities = [name for name in experiment.run.modalities or corpus.modalities if name != "speaker"]
    relative = [name for name in getattr(experiment.pipeline, "speaker_relative", []) if name in modalities]
    baseline = BiGRUConfig(speaker_relative=relative)
    return Experiment(method="bigru", run=replace(experiment.run, modalities=modalities), pipeline=baseline, training=own)
