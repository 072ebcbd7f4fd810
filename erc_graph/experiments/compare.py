"""Comparison of finished runs: metrics over shared seeds, differences in settings, and paired significance tests.

Two tests answer two questions.

- *Would other seeds give the same result?* The test is an exact sign-flip permutation test over the seeds that two runs share. With `n`
  seeds, p is never below 2 / 2ⁿ. With five seeds, p is at least 0.0625, so no difference is significant at the level 0.05.
- *Would other dialogues give the same result?* The test is a paired bootstrap over the test dialogues of `predictions.csv`. The bootstrap
  uses the predictions of the first seed of each run.

Holm's correction over all comparisons is applied to both p-values.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from erc_graph.errors import ConfigError
from erc_graph.experiments.display import METRICS
from erc_graph.experiments.findings import spread
from erc_graph.experiments.recorded import SAME, Run, load_run
from erc_graph.experiments.result import PREDICTIONS, RESULT

LOWER_IS_BETTER = ("loss", "mae", "calibration_error")
ALPHA = 0.05

# What may differ where the reader knows.
_KNOWN = ("selection", "modalities", "seeds", "members", "data_sha256", "extractors", "strict")
_ENVIRONMENT = ("erc_graph", "git_commit", "torch", "device")


@dataclass(kw_only=True)
class Test:
    """One comparison of two runs in one metric. A difference is the value of the second run minus the value of the first run.

    Attributes:
        first: Index of the reference run in `RunComparison.runs`.
        second: Index of the other run in `RunComparison.runs`.
        metric: Name of the metric.
        difference: Mean difference over the seeds that the two runs share.
        seeds: Number of these shared seeds.
        p_seeds: p-value of the test over seeds; `None` with fewer than two shared seeds.
        p_seeds_holm: `p_seeds` after Holm's correction.
        dialogues: Number of test dialogues in the bootstrap.
        seed_difference: Difference between the models of the first seeds, which the bootstrap compares.
        low: Lower end of the 95 % bootstrap interval of `seed_difference`.
        high: Upper end of the 95 % bootstrap interval of `seed_difference`.
        p_dialogues: p-value of the test over dialogues.
        p_dialogues_holm: `p_dialogues` after Holm's correction.
    """

    __test__ = False  # no test class of pytest's

    first: int
    second: int
    metric: str
    difference: float | None = None
    seeds: int = 0
    p_seeds: float | None = None
    p_seeds_holm: float | None = None
    dialogues: int = 0
    seed_difference: float | None = None
    low: float | None = None
    high: float | None = None
    p_dialogues: float | None = None
    p_dialogues_holm: float | None = None


@dataclass(kw_only=True)
class RunComparison:
    """The result of `compare_runs`.

    Attributes:
        runs: The runs in the given order.
        metrics: Names of the metrics.
        seeds: Seeds that all runs share. If the list is empty, `figures` uses all seeds of each run.
        figures: For each run: metric → mean, standard deviation and values over seeds.
        tests: One test per compared pair of runs and metric.
        warnings: Differences between the runs that affect the comparison, such as different protocols or data.
        notes: Differences in software or device, and the limits of the tests.
    """

    runs: list[Run]
    metrics: list[str]
    seeds: list[int]
    figures: list[dict[str, dict[str, Any]]]
    tests: list[Test] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def letter(position: int) -> str:
    """Return the short name of a run from its index in the list of runs: A, B, … Z, then R27, R28, …"""
    return chr(ord("A") + position) if position < 26 else f"R{position + 1}"


def compare_runs(
    paths: Sequence[str | Path], *, metrics: Sequence[str] | None = None, all_pairs: bool = False, resamples: int = 9999
) -> RunComparison:
    """Compare finished runs: each run with the first run, or every pair of runs.

    Args:
        paths: Paths of two or more runs; `load_run` lists the allowed paths.
        metrics: Names of metrics in `result.json`; default: the metrics that are printed after a run.
        all_pairs: Compare every pair of runs; default: compare each run with the first run.
        resamples: Number of bootstrap samples.

    Raises:
        CheckpointError: a path has no readable result.
        ConfigError: there are fewer than two runs, a run is given twice, or a run lacks a metric.
    """
    if len(paths) < 2:
        raise ConfigError(f"compare: expected at least two runs to compare, found {len(paths)}")
    places = [os.path.realpath(path) for path in paths]  # of links in a circle, too
    twice = [path for i, path in enumerate(paths) if places[i] in places[:i]]
    if twice:
        raise ConfigError(f"compare: expected different runs, found the run {twice[0]} twice")
    runs = [load_run(path) for path in paths]
    common = [metric for metric in runs[0].values if all(metric in run.values for run in runs)]
    default = [metric for metric, _ in METRICS[runs[0].kind] if metric in common] or common[:4]
    chosen = list(dict.fromkeys(metrics or default))
    unknown = [metric for metric in chosen if metric not in common]
    if unknown or not chosen:
        raise ConfigError(
            f"metric: expected a metric that all runs have ({', '.join(common) or 'none'}), found {unknown[0] if unknown else 'none'!r}"
        )
    seeds = [seed for seed in runs[0].seeds if all(seed in run.seeds for run in runs)]
    figures = [
        {metric: spread([v for seed, v in run.values[metric].items() if not seeds or seed in seeds]) for metric in chosen} for run in runs
    ]
    comparison = RunComparison(runs=runs, metrics=chosen, seeds=seeds, figures=figures)
    _differences(comparison)
    pairs = list(combinations(range(len(runs)), 2)) if all_pairs else [(0, i) for i in range(1, len(runs))]
    for first, second in pairs:
        _test(comparison, first, second, resamples)
    _correct(comparison)
    return comparison


def _spell(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {item}" for key, item in value.items()) or "none"
    if isinstance(value, list):
        return "+".join(map(str, value)) if all(isinstance(item, str) for item in value) else ", ".join(map(str, value))
    return "unknown" if value is None else str(value)


def _differences(comparison: RunComparison) -> None:
    """Add a line to `warnings` or `notes` for every setting that differs between the runs."""
    for key in (*SAME, *_KNOWN, *_ENVIRONMENT):
        found: dict[str, list[str]] = {}
        for i, run in enumerate(comparison.runs):
            value = _spell(run.facts[key])
            found.setdefault(value[:12] if key in ("data_sha256", "git_commit") else value, []).append(letter(i))
        if len(found) > 1:
            words = "; ".join(f"{', '.join(names)}: {value}" for value, names in found.items())
            name = {"data_sha256": "data (SHA-256)", "git_commit": "commit"}.get(key, key)
            text = f"{'not comparable' if key in SAME else 'differs'}: {name} ({words})"
            (comparison.notes if key in _ENVIRONMENT else comparison.warnings).append(text)
    everyone = {seed for run in comparison.runs for seed in run.seeds}
    if not comparison.seeds:
        comparison.warnings.append("no seed is shared: each mean is over the seeds of its own run, and there is no paired test over seeds")
    elif len(comparison.seeds) < len(everyone):
        left = sorted(everyone - set(comparison.seeds))
        comparison.warnings.append(f"only results of the shared seeds are used; seeds left out: {', '.join(map(str, left))}")


def _test(comparison: RunComparison, first: int, second: int, resamples: int) -> None:
    from erc_graph.training.resampling import bootstrap_dialogues, class_figures, score_figures
    from erc_graph.training.significance import paired_permutation

    one, other = comparison.runs[first], comparison.runs[second]
    pair = f"{letter(second)} − {letter(first)}"
    tests = [Test(first=first, second=second, metric=metric) for metric in comparison.metrics]
    comparison.tests += tests
    if any(one.facts[key] != other.facts[key] for key in SAME):
        comparison.notes.append(f"{pair}: not tested, because the runs are not comparable")
        return
    asked = [one.predictions, other.predictions]
    same = None not in asked and asked[0].keys == asked[1].keys  # type: ignore[union-attr]
    if not same and None not in asked:
        comparison.warnings.append(f"not comparable: {pair}: the test utterances or their labels differ")
        comparison.notes.append(f"{pair}: not tested, because the runs were not evaluated on the same utterances")
        return
    if not same and one.facts["data_sha256"] != other.facts["data_sha256"]:
        comparison.notes.append(
            f"{pair}: not tested, because the data differ; without predictions.csv of both runs, the test utterances cannot be compared"
        )
        return
    for test in tests:
        shared = [seed for seed in one.seeds if seed in one.values[test.metric] and seed in other.values[test.metric]]
        a, b = ([run.values[test.metric][seed] for seed in shared] for run in (one, other))
        if shared:
            test.difference, test.seeds = float(np.mean(b) - np.mean(a)), len(shared)
        if len(shared) > 1:
            test.p_seeds = paired_permutation(b, a).p_value
    if not same:
        comparison.notes.append(f"{pair}: no test over dialogues, because a run has no {PREDICTIONS}")
        return
    classes = len(one.facts["labels"])
    known = class_figures(classes) if classes else score_figures()
    named = {f"f1/{i}": f"f1/{name}" for i, name in enumerate(one.facts["labels"])}
    known = {named.get(name, name): figure for name, figure in known.items()}
    sums = [predictions.sums for predictions in asked if predictions is not None]
    for run, own in zip((one, other), sums, strict=True):
        _fits(comparison, run, known, own)
    if len(sums[0]) < 2:
        comparison.notes.append(f"{pair}: no test over dialogues, because the test split has only one dialogue")
        return
    if one.seeds[0] != other.seeds[0]:
        comparison.warnings.append(f"{pair}: the test over dialogues compares seed {other.seeds[0]} with seed {one.seeds[0]}")
    for test in tests:
        if test.metric in known:
            result = bootstrap_dialogues(sums[1], sums[0], known[test.metric], resamples=resamples)
            test.seed_difference, test.low, test.high = result.difference, result.low, result.high
            test.p_dialogues, test.dialogues = result.p_value, result.pairs


def _fits(comparison: RunComparison, run: Run, known: Mapping[str, Any], sums: np.ndarray) -> None:
    """Add a warning if the accuracy in `predictions.csv` differs from the accuracy in `result.json`."""
    metric = "accuracy"
    recorded = run.values.get(metric, {}).get(run.seeds[0])
    found = float(known[metric](sums.sum(0, keepdims=True))[0])
    if recorded is not None and abs(found - recorded) > 1e-6:
        name = letter(comparison.runs.index(run))
        text = f"{name}: {PREDICTIONS} has accuracy {found:.4f}, {RESULT} has {recorded:.4f}; one of the files is older"
        if text not in comparison.warnings:
            comparison.warnings.append(text)


def _correct(comparison: RunComparison) -> None:
    """Apply Holm's correction to the p-values of each test, and add notes on the limits of the tests."""
    from erc_graph.training.significance import holm

    for kind in ("seeds", "dialogues"):
        p = {str(i): value for i, test in enumerate(comparison.tests) if (value := getattr(test, f"p_{kind}")) is not None}
        for i, value in holm(p).items():
            setattr(comparison.tests[int(i)], f"p_{kind}_holm", value)
    made = [test for test in comparison.tests if test.p_seeds is not None]
    if made:
        least = min(test.seeds for test in made)
        floor, count = 2 / 2**least, len(made)
        text = f"{least} shared seeds: no p over seeds can be below {floor:.4g}"
        if count > 1:
            text += f", and below {min(1.0, floor * count):.4g} after Holm's correction for {count} comparisons"
        if floor * count > ALPHA:
            enough = math.ceil(math.log2(2 * count / ALPHA))
            text += f"; so no difference, however large, can be significant at {ALPHA} here; a significant difference needs {enough} seeds"
        comparison.notes.append(text)
    elif any(test.seeds == 1 for test in comparison.tests):
        comparison.notes.append("one shared seed: no test over seeds; it is unknown whether another training gives the same result")
    units = {test.dialogues for test in comparison.tests if test.p_dialogues is not None}
    if units:
        size = " or ".join(map(str, sorted(units)))
        comparison.notes.append(
            f"the test over dialogues resamples the {size} test dialogues, with one trained model of each run (its first seed): "
            "it shows whether other dialogues would give the same result, but not whether other seeds would"
        )
