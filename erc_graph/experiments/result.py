"""What a finished experiment leaves in its folder: result.json, predictions.csv and pictures."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from erc_graph.data.corpus import Corpus
from erc_graph.data.files.storage import atomic_write, write_json
from erc_graph.errors import CorpusError, ErcGraphError
from erc_graph.experiments.environment import environment
from erc_graph.experiments.run import Outcome, SeedResult, build, fold_folder, majority_metrics, schema
from erc_graph.training.significance import paired_permutation

RESULT, PREDICTIONS = "result.json", "predictions.csv"


def spread(values: list[float]) -> dict[str, Any]:
    """Mean, standard deviation (over seeds, n - 1; 0.0 for one seed) and the values themselves."""
    return {"mean": float(np.mean(values)), "std": float(np.std(values, ddof=1)) if len(values) > 1 else 0.0, "values": values}


def summary(outcome: Outcome, baseline: Outcome | None) -> dict[str, Any]:
    """The content of result.json."""
    from erc_graph.data.digest import corpus_sha256

    experiment, corpus = outcome.experiment, outcome.corpus
    modalities = list(schema(experiment, corpus).modalities)
    metrics = {part: {m: spread(outcome.values(m, part)) for m in getattr(outcome.seeds[0], part)} for part in ("test", "dev")}
    result = {
        "method": experiment.method,
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
            context = not build(experiment, corpus, seed=0).alone
            limit = sample_bayes_limit(corpus, modalities=modalities, context=context)
            result["bayes_limit"], result["bayes_limit_of"] = limit, "conversations" if context else "single utterances"
            result["accuracy_over_bayes_limit"] = metrics["test"]["accuracy"]["mean"] / limit
    return result


def baselines(outcome: Outcome, baseline: Outcome | None) -> dict[str, Any]:
    """Test metrics of the majority class and, where it was run, of the plain BiGRU, on the same utterances."""
    most = majority_metrics(outcome.experiment, outcome.corpus, outcome.seeds[0])
    found: dict[str, Any] = {"majority": {name: spread([value]) for name, value in most.items()}}
    if baseline:
        found["bigru"] = {name: spread(baseline.values(name)) for name in baseline.seeds[0].test}
    return found


def compared(outcome: Outcome, baseline: Outcome | None) -> dict[str, Any]:
    """The baselines with their size and a paired test of the method against the BiGRU."""
    found = baselines(outcome, baseline)
    if baseline:
        found["bigru"]["parameters"] = baseline.seeds[0].parameters
        found["bigru"]["seconds_per_epoch"] = baseline.seconds_per_epoch
        if len(outcome.seeds) > 1:
            p = paired_permutation(outcome.values("weighted_f1"), baseline.values("weighted_f1")).p_value
            found["p_value_against_bigru"] = {"weighted_f1": p, "test": "two-sided paired permutation over seeds"}
    return found


def write_predictions(path: Path, corpus: Corpus, seed: SeedResult) -> None:
    """One row per judged test utterance: dialogue, utterance, label, prediction, one probability column per class."""
    rows = seed.rows.tolist()
    dialogue = corpus.dialogue_of.tolist()
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if corpus.task.kind == "score":
            writer.writerow(["dialogue", "utterance", "label", "prediction"])
            for row, score in zip(rows, seed.scores[:, 0].tolist(), strict=True):
                writer.writerow([corpus.dialogue_ids[dialogue[row]], corpus.utterance_ids[row], float(corpus.target[row]), score])
            return
        labels, probabilities = corpus.task.labels, seed.scores.softmax(-1)
        writer.writerow(["dialogue", "utterance", "label", "prediction", *(f"p({label})" for label in labels)])
        guesses, targets = seed.scores.argmax(-1).tolist(), corpus.target[seed.rows].tolist()
        for row, guess, target, chances in zip(rows, guesses, targets, probabilities.tolist(), strict=True):
            writer.writerow(
                [
                    corpus.dialogue_ids[dialogue[row]],
                    corpus.utterance_ids[row],
                    labels[target],
                    labels[guess],
                    *(f"{p:.6f}" for p in chances),
                ]
            )


def write_pictures(folder: Path, outcome: Outcome) -> None:
    """Confusion matrix, training curves, t-SNE of the last states, and the graph of one test conversation; all of the first seed.

    A picture that cannot be drawn is said on standard error; it costs no result.
    """
    from erc_graph.report.confusion import plot_confusion
    from erc_graph.report.curves import plot_curves
    from erc_graph.report.projection import plot_projection
    from erc_graph.training.metrics import confusion, seven

    corpus, seed = outcome.corpus, outcome.seeds[0]
    target = corpus.target[seed.rows]
    score = corpus.task.kind == "score"
    names = [f"{value:+d}" for value in range(-3, 4)] if score else list(corpus.task.labels)
    index = seven(target.double().numpy()) + 3 if score else target.numpy()
    pictures: dict[str, Callable[[Path], object]] = {
        "confusion.png": lambda path: plot_confusion(confusion(seed.scores, target, corpus.task), names, path),
        "curves.png": lambda path: plot_curves(seed.histories[0], path),
        "graph.png": lambda path: draw_conversation(path, outcome),
    }
    if seed.states is not None:
        states = seed.states.numpy()
        pictures["tsne.png"] = lambda path: plot_projection(states, index, names, path)
    for name, draw in pictures.items():
        try:
            draw(folder / name)
        except ErcGraphError as error:
            print(f"not drawn: {name}: {error}", file=sys.stderr)


def draw_conversation(path: Path, outcome: Outcome, turns: int = 24) -> bool:
    """Draw the test conversation whose length is nearest to `turns`, with the weights of the trained pipeline; false without a graph."""
    from erc_graph.data.splits import folds
    from erc_graph.methods.base import Pipeline
    from erc_graph.report.draw import draw_graph
    from erc_graph.training.checkpoint import BEST

    experiment, corpus, seed = outcome.experiment, outcome.corpus, outcome.seeds[0]
    division = folds(corpus, experiment.run.protocol)
    test = corpus.subset(division[0].test)
    dialogue = test[int((test.lengths - turns).abs().argmin())]
    pipeline = Pipeline.from_pretrained(fold_folder(path.parent / f"seed-{seed.seed}", division, division[0]) / BEST)
    graph = pipeline.graph(dialogue)
    if graph is None:
        return False
    draw_graph(graph, path, predictions=[row.emotion for row in pipeline.predict(dialogue)], title=f"{corpus.name}, {dialogue.id}")
    return True


def write_result(folder: Path, outcome: Outcome, baseline: Outcome | None) -> dict[str, Any]:
    """Write predictions, result and pictures, in this order: no picture can cost a result."""
    result = summary(outcome, baseline)
    write_predictions(folder / PREDICTIONS, outcome.corpus, outcome.seeds[0])
    if baseline:
        write_predictions(folder / "bigru" / PREDICTIONS, baseline.corpus, baseline.seeds[0])
    write_json(folder / RESULT, result)
    write_pictures(folder, outcome)
    return result
