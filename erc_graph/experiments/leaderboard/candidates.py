"""The candidate settings (sets of hyperparameter values) of a method: its settings file or its defaults, and random settings.

Every method has the same number of random settings. The random settings are drawn from ranges that all methods share, and from up to two
ranges of the method itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from erc_graph.data.corpus import Corpus
from erc_graph.data.files.toml import read_toml
from erc_graph.experiments.experiment import Experiment, experiment_file, from_dict, settings_name
from erc_graph.experiments.leaderboard.board_rules import CRITERION, Rules
from erc_graph.training.search import Range, SearchSpace

OWN = 2  # ranges of a method's own settings file that count


def settings_file(method: str, dataset: str, selection: str) -> Path | None:
    """Return the settings file of a method for a corpus, or the default settings file of the method; `None` if neither exists.

    Args:
        method: Name of the method.
        dataset: Name of the corpus.
        selection: `dev` if the epoch is selected on the development split; `last` if the number of epochs is fixed.

    >>> settings_file("lmf", "no corpus with this name", "dev") is None
    True
    """
    return experiment_file(method, dataset) or experiment_file(method, "default-last" if selection == "last" else "default")


def committed(method: str, corpus: Corpus, rules: Rules, changes: Mapping[str, Any] | None = None) -> Experiment:
    """Return the experiment of a method on a corpus: the method's settings file or defaults, overridden by the rules of the leaderboard.

    Args:
        method: Name of the method.
        corpus: The corpus.
        rules: Rules of the leaderboard.
        changes: Settings that differ from the settings file: key → value.

    Raises:
        ConfigError: the settings file is invalid, or the method is unknown.
    """
    own = rules.of(corpus.name)
    path = settings_file(method, corpus.name, own.selection)
    experiment = from_dict(method, read_toml(path), settings_name(path)) if path else from_dict(method, {}, method)
    values = experiment.as_dict()
    values |= {"data": corpus.name, "task": corpus.task.name, "modalities": own.modalities, "protocol": "official", "seeds": rules.seeds}
    values |= {"members": rules.members, "baseline": False, "inputs": asdict(own.inputs), "prior": asdict(own.prior)}
    values["training"] |= {"selection": own.selection, "criterion": CRITERION}
    made = from_dict(method, values, "leaderboard")
    return made.changed(changes) if changes else made


def ranges(experiment: Experiment, rules: Rules) -> dict[str, Range]:
    """Return key of a setting → range, for the random settings of a method.

    The ranges are those of `rules` for settings that the method has, and the first two ranges of the method's own table `[search]`.
    """
    values, found = experiment.as_dict(), {}
    for key, span in SearchSpace.from_dict(rules.ranges).ranges.items() if rules.ranges else ():
        whole = key if "." in key else f"pipeline.{key}"
        if _has(values, whole):
            found[whole] = span
    own = SearchSpace.from_dict(experiment.search).ranges if experiment.search else {}
    return found | dict([(key, span) for key, span in own.items() if key not in found and key.startswith("pipeline.")][:OWN])


def _has(values: Mapping[str, Any], key: str) -> bool:
    node: Any = values
    for part in key.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return False
        node = node[part]
    return node is not None and not isinstance(node, Mapping)


def candidates(experiment: Experiment, rules: Rules) -> list[dict[str, Any]]:
    """Return `1 + budget` candidate settings, each as changes of the experiment; the first candidate has no changes.

    All other candidates are a Latin hypercube sample of the ranges, with the same sample points for every method.

    >>> candidates(from_dict("bigru", {}, "example"), Rules())
    [{}]
    """
    from scipy.stats import qmc

    if not rules.budget:
        return [{}]
    spans = ranges(experiment, rules)
    points = qmc.LatinHypercube(len(rules.ranges) + OWN, seed=np.random.default_rng(0)).random(rules.budget)
    names = [key if "." in key else f"pipeline.{key}" for key in rules.ranges]
    column = {name: i for i, name in enumerate(names)}
    free = iter(range(len(names), len(names) + OWN))
    columns = {key: column[key] if key in column else next(free) for key in spans}
    return [{}, *({key: value(span, float(point[columns[key]])) for key, span in spans.items()} for point in points)]


def value(span: Range, share: float) -> Any:
    """Return the value of a range at a relative position between 0 (lowest value) and 1 (highest value).

    >>> value(Range(low=1e-4, high=1e-2, log=True), 0.5), value(Range(low=1, high=4), 0.99), value(Range(choices=(8, 16)), 0.2)
    (0.001, 4, 8)
    """
    if span.choices:
        return span.choices[min(int(share * len(span.choices)), len(span.choices) - 1)]
    low, high = span.low or 0.0, span.high or 0.0
    if isinstance(span.low, int) and isinstance(span.high, int):
        return min(int(low + share * (high - low + 1)), span.high)
    found = float(np.exp(np.log(low) + share * np.log(high / low))) if span.log else low + share * (high - low)
    return float(f"{found:.3g}")
