"""Hyperparameter search (`--search N`) on the development split, over the ranges in the table `[search]` of the settings file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from erc_graph.data.corpus import Corpus
from erc_graph.data.digest import corpus_sha256
from erc_graph.data.splits import folds
from erc_graph.errors import ConfigError
from erc_graph.experiments.checks import check
from erc_graph.experiments.experiment import Experiment
from erc_graph.experiments.jobs import Job
from erc_graph.experiments.run import train_job
from erc_graph.training.config import LOWER_IS_BETTER
from erc_graph.training.search import SearchSpace, run_search

TABLES = ("inputs", "pipeline", "prior", "training")  # what a search may change


def check_search(experiment: Experiment, corpus: Corpus) -> SearchSpace:
    """Check whether the search can run, and return its ranges.

    Raises:
        ConfigError: the experiment has no ranges, a range is for an unknown setting, or no development split can be used.
        CorpusError: the corpus cannot be used for training; see `erc_graph.experiments.checks.check`.
    """
    if not experiment.search:
        raise ConfigError("--search: expected ranges, found none; give [search] in --config FILE.toml, for example "
                          '"training.learning_rate" = {low = 1e-4, high = 1e-3, log = true}')  # fmt: skip
    divisions = folds(corpus, experiment.run.protocol)
    if len(divisions) > 1:
        raise ConfigError(
            f"--search: expected a protocol with one fold, found the protocol {experiment.run.protocol} with {len(divisions)} "
            "folds: development dialogues of one fold are test dialogues of another; search with --protocol official, then "
            "train all folds with the best settings, given with --config"
        )
    space = SearchSpace.from_dict(experiment.search)
    for key, span in space.ranges.items():
        if key.partition(".")[0] not in TABLES:
            raise ConfigError(
                f"search.{key}: expected the key of a setting in one of the tables {', '.join(TABLES)}, such as training.learning_rate"
            )
        experiment.changed({key: span.choices[0] if span.choices else span.low})  # a wrong key is refused before the first trial
    check(experiment, corpus)
    if experiment.training.selection != "dev":
        raise ConfigError(
            "--search: expected training.selection 'dev', because a search compares results on the development split, found "
            "'last', which computes none"
        )
    return space


def search(experiment: Experiment, corpus: Corpus, folder: Path, trials: int) -> Experiment:
    """Evaluate `trials` combinations of settings, record results in `folder/trials.json`, and return the experiment with the best one.

    Raises:
        ErcGraphError: the search cannot run; see `check_search`.
    """
    space = check_search(experiment, corpus)
    (fold,) = folds(corpus, experiment.run.protocol)
    criterion = experiment.training.criterion

    def objective(changes: dict[str, Any]) -> float:
        changed = experiment.changed(changes)
        return train_job(Job(experiment=changed, seed=0, fold=fold, name="trial"), corpus)[1].dev[criterion]

    settings = {key: value for key, value in experiment.as_dict().items() if key in (*TABLES, "modalities", "protocol", "members")}
    context = {"data_sha256": corpus_sha256(corpus), "method": experiment.method, **settings}
    direction: Literal["minimize", "maximize"] = "minimize" if criterion in LOWER_IS_BETTER else "maximize"
    found = run_search(objective, space, trials, 0, folder, direction=direction, context=context)
    return experiment.changed(found.best.parameters)
