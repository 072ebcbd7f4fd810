"""The content of `result.json`: the results of a finished experiment."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np

from erc_graph.errors import CorpusError
from erc_graph.experiments.baseline import majority_metrics
from erc_graph.experiments.environment import environment
from erc_graph.experiments.jobs import Outcome
from erc_graph.experiments.run import schema
from erc_graph.methods.own_file import short_name
from erc_graph.training.significance import paired_permutation


def spread(values: list[float]) -> dict[str, Any]:
    """Return values over seeds with their mean and standard deviation (denominator n - 1; 0.0 for one seed)."""
    return {"mean": float(np.mean(values)), "std": float(np.std(values, ddof=1)) if len(values) > 1 else 0.0, "values": values}


def summary(outcome: Outcome, baseline: Outcome | None) -> dict[str, Any]:
    """Return the content of `result.json`: metrics, baselines, settings and environment of a finished experiment."""
    from erc_graph.data.digest import corpus_sha256

    experiment, corpus = outcome.experiment, outcome.corpus
    modalities = list(schema(experiment, corpus).modalities)
    metrics = {part: {m: spread(outcome.values(m, part)) for m in getattr(outcome.seeds[0], part)} for part in ("test", "dev")}
    result = {
        "method": short_name(experiment.method),
        "dataset": corpus.name,
        "task": corpus.task.name,
        "labels": list(corpus.task.labels),
        "modalities": modalities,
        "protocol": experiment.run.protocol,
        "selection": experiment.training.selection,
        "seeds": [seed.seed for seed in outcome.seeds],
        "members": experiment.run.members,
        "metrics": metrics,
        "baselines": compared(outcome, baseline),
        "seconds_per_epoch": outcome.seconds_per_epoch,
        "parameters": outcome.seeds[0].parameters,
        "epochs": [
            [{"stage": s.name, "chosen": s.chosen, "run": len(s.epochs)} for h in seed.histories for s in h.stages]
            for seed in outcome.seeds
        ],
        "environment": environment(outcome.seeds[0].device),
        "config": experiment.as_dict(),
        "data_sha256": corpus_sha256(corpus),
        "data": {key: corpus.provenance[key] for key in ("format", "extractors", "notes") if key in corpus.provenance},
    }
    if "sample" in corpus.provenance and corpus.task.name == "sample6" and experiment.run.protocol == "official":
        from erc_graph.data.sample.bayes_limit import sample_bayes_limit

        with suppress(CorpusError):  # features of the user's own, of which nothing is known
            context = not outcome.seeds[0].utterance_level
            limit = sample_bayes_limit(corpus, modalities=modalities, context=context)
            result["bayes_limit"], result["bayes_limit_of"] = limit, "conversations" if context else "single utterances"
            result["accuracy_over_bayes_limit"] = metrics["test"]["accuracy"]["mean"] / limit
    return result


def baselines(outcome: Outcome, baseline: Outcome | None) -> dict[str, Any]:
    """Return the test metrics of the majority baseline and, if `baseline` is given, of the BiGRU."""
    most = majority_metrics(outcome.experiment, outcome.corpus, outcome.seeds[0])
    found: dict[str, Any] = {"majority": {name: spread([value]) for name, value in most.items()}}
    if baseline:
        found["bigru"] = {name: spread(baseline.values(name)) for name in baseline.seeds[0].test}
    return found


def compared(outcome: Outcome, baseline: Outcome | None) -> dict[str, Any]:
    """Return the metrics of the baselines, size and speed of the BiGRU, and a paired test of the method against the BiGRU."""
    found = baselines(outcome, baseline)
    if baseline:
        found["bigru"]["parameters"] = baseline.seeds[0].parameters
        found["bigru"]["seconds_per_epoch"] = baseline.seconds_per_epoch
        if len(outcome.seeds) > 1:
            p = paired_permutation(outcome.values("weighted_f1"), baseline.values("weighted_f1")).p_value
            found["p_value_against_bigru"] = {"weighted_f1": p, "test": "two-sided paired permutation over seeds"}
    return found
