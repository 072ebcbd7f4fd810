"""The two baselines of every method: the most frequent class, and a BiGRU on the same inputs."""

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
    """Return the test metrics of a constant prediction: the most frequent class of each fold's training data, or their median score.

    It is evaluated on the test utterances of `like`.
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
    """Return the plan of the baseline BiGRU of a run; empty if the baseline is switched off, or if the method is the BiGRU."""
    if not experiment.run.baseline or experiment.method == "bigru":
        return []
    return [Plan(experiment=baseline_of(experiment, corpus), folder=folder / "bigru", name="BiGRU")]


def baseline_of(experiment: Experiment, corpus: Corpus) -> Experiment:
    """Return the BiGRU with the same inputs, prior, protocol, seeds and number of networks.

    Its hyperparameters are in `experiments/bigru/default.toml`, or in `default-last.toml` if the number of epochs is fixed in advance. They
    are the same for all corpora and were not tuned. The BiGRU reads a second text feature as a further modality; it does not use
    speaker vectors.

    Raises:
        ConfigError: one of these files is missing or broken.
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
    """Return the committed settings of the BiGRU: for epochs selected on development data, or for a fixed number.

    Raises:
        ConfigError: the file is missing.
    """
    path = experiment_file("bigru", "default-last" if experiment.training.selection == "last" else "default")
    if path is None:
        raise ConfigError(
            "experiments/bigru: expected default.toml and default-last.toml, the settings of the baseline; reinstall erc_graph"
        )
    return path
