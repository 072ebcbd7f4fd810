"""The two baselines of every method: the most frequent class, and a BiGRU with the inputs of the method."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from erc_graph.data.corpus import Corpus
from erc_graph.data.files.toml import read_toml
from erc_graph.data.splits import folds, judged_rows
from erc_graph.errors import ConfigError
from erc_graph.experiments.experiment import Experiment, experiment_file, from_dict, settings_name
from erc_graph.experiments.jobs import Plan, SeedResult
from erc_graph.experiments.run import schema
from erc_graph.training.metrics import evaluate, majority


def majority_metrics(experiment: Experiment, corpus: Corpus, like: SeedResult) -> dict[str, float]:
    """Return the test metrics of the majority baseline, which predicts one constant for all test utterances of a cross-validation fold.

    The constant is the most frequent class of the training split. For a score task, it is the median training score.

    Args:
        experiment: Experiment of the method, whose protocol defines the folds.
        corpus: The corpus.
        like: Result of the method; the baseline is evaluated on the test utterances of this result.
    """
    scores = []
    for fold in folds(corpus, experiment.run.protocol):
        train = corpus.target[judged_rows(corpus, fold.train)]
        count = int(judged_rows(corpus, fold.test, fold.test_speakers).sum())
        if corpus.task.kind == "score":
            scores.append(train.median().expand(count, 1))
        else:
            scores.append(majority(train, count, len(corpus.task.labels)))
    return evaluate(torch.cat(scores), corpus.target[like.rows], corpus.task)


def baseline_plans(experiment: Experiment, corpus: Corpus, folder: Path) -> list[Plan]:
    """Return a list with the plan (experiment, seeds and folds) of the baseline BiGRU.

    The list is empty if the option `baseline` is off, or if the method itself is the BiGRU.
    """
    if not experiment.run.baseline or experiment.method == "bigru":
        return []
    return [Plan(experiment=baseline_of(experiment, corpus), folder=folder / "bigru", name="BiGRU")]


def baseline_of(experiment: Experiment, corpus: Corpus) -> Experiment:
    """Return the experiment of the baseline BiGRU, with the settings `inputs`, `prior`, protocol, seeds and ensemble size of `experiment`.

    The hyperparameters are in `experiments/bigru/default.toml`, or in `default-last.toml` if the number of epochs is fixed in advance. The
    hyperparameters are the same for all corpora and were not tuned. The BiGRU uses a second text feature set as a further modality. The
    BiGRU does not use speaker vectors.

    Raises:
        ConfigError: the file of hyperparameters is missing or invalid.
    """
    path = baseline_file(experiment)
    own = from_dict("bigru", read_toml(path), settings_name(path))
    modalities = [name for name in schema(experiment, corpus).modalities if name != "speaker"]
    relative = [name for name in experiment.inputs.speaker_relative if name in modalities]
    return replace(
        own,
        run=replace(experiment.run, modalities=modalities),
        training=replace(own.training, selection=experiment.training.selection, criterion=experiment.training.criterion),
        inputs=replace(experiment.inputs, speaker_relative=relative, second_text=None, given_speakers=False),
        prior=experiment.prior,
    )


def baseline_file(experiment: Experiment) -> Path:
    """Return the path of the BiGRU's settings file, which depends on `training.selection` of the experiment.

    Raises:
        ConfigError: the file is missing.
    """
    path = experiment_file("bigru", "default-last" if experiment.training.selection == "last" else "default")
    if path is None:
        raise ConfigError(
            "experiments/bigru: expected default.toml and default-last.toml, the settings files of the baseline BiGRU, found "
            "only one or none; reinstall erc_graph"
        )
    return path
