"""The files `result.json` and `predictions.csv`, which a finished experiment writes to its folder."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from erc_graph.data.corpus import Corpus
from erc_graph.data.files.storage import atomic_write, write_json
from erc_graph.experiments.jobs import SeedResult

RESULT, PREDICTIONS = "result.json", "predictions.csv"


def write_predictions(path: Path, corpus: Corpus, seed: SeedResult) -> None:
    """Write one row per evaluated test utterance: dialogue, utterance, label, prediction, and the probability of each class."""
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


def write_result(folder: Path, result: Mapping[str, Any], corpus: Corpus, seed: SeedResult, baseline: SeedResult | None = None) -> None:
    """Write `predictions.csv`, then `result.json`.

    Args:
        folder: Folder of the run.
        result: Content of `result.json`, from `erc_graph.experiments.findings`.
        corpus: Corpus of the run.
        seed: The first seed, whose predictions are written.
        baseline: The first seed of the baseline BiGRU, if it was trained.
    """
    write_predictions(folder / PREDICTIONS, corpus, seed)
    if baseline:
        write_predictions(folder / "bigru" / PREDICTIONS, corpus, baseline)
    write_json(folder / RESULT, dict(result))
