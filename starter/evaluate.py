"""`python -m starter.evaluate --data FOLDER`: evaluate the starter model, and write experiments/results/starter/figures.json.

The folder `--data` contains goemotions/, emorynlp/, meld/ and iemocap/. MELD and IEMOCAP are zero-shot test corpora: neither training nor
model selection used these corpora. If a corpus lacks classes of the model, the probabilities of its classes are renormalised. The standard
deviation is over graph networks of several seeds with the same encoder. These networks are in the folder `--work` of `starter.train`. The
network of the first seed is in the package.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from erc_graph.data.corpus import Corpus
from erc_graph.data.files.storage import write_json
from erc_graph.data.files.transcripts import load_transcript
from erc_graph.experiments.environment import environment
from erc_graph.features.encoder_names import load_text_encoder
from erc_graph.inference.answer import ask
from erc_graph.inference.pipeline import Pipeline, load_starter
from erc_graph.inference.prepare import prepare
from erc_graph.inference.saved import load_network
from erc_graph.inference.starter import FOLDER
from erc_graph.training.metrics import evaluate
from starter.graph import CHANCES, among
from starter.joined import EMORYNLP, classes, of_task, without
from starter.shared_dialogues import listed
from starter.train import CHOICE, settings

FIGURES = CHOICE.with_name("figures.json")
EXAMPLES, TALK = (Path(__file__).with_name(name) for name in ("examples.json", "talk.txt"))
CASES = (("goemotions", "test"), (EMORYNLP, "dev"), (EMORYNLP, "test"), ("meld", "dev"), ("meld", "test"), ("iemocap", "test"))
encoder = lru_cache(maxsize=4)(load_text_encoder)
METRICS = ("weighted_f1", "macro_f1", "accuracy", "calibration_error")


def figures_of(scores: Tensor, offered: Tensor, corpus: Corpus) -> dict[str, float]:
    """Return metrics of the labelled utterances, with predictions restricted to the mask `(C,)` of offered classes."""
    found = evaluate(among(scores, offered.expand_as(scores)), corpus.target, corpus.task)
    return {name: found[name] for name in METRICS}


def majority(corpus: Corpus, offered: Tensor) -> dict[str, float]:
    """Return metrics of the constant prediction of the most frequent class."""
    count = torch.bincount(corpus.target[corpus.labelled], minlength=len(offered))
    return figures_of(count.float().log().clamp(min=-9).expand(corpus.utterances, -1), offered, corpus)


def case(folder: Path, name: str, split: str, pipeline: Pipeline, graphs: Mapping[str, Any], alone: float) -> dict[str, Any]:
    """Return the results on a split of a corpus, as a row of the table."""
    whole = of_task(str(folder / name))
    offered = classes(whole)
    kept = without(whole, listed()) if name == EMORYNLP else whole
    corpus = prepare(kept.split(split), pipeline, load=encoder, longest=None)
    found = {seed: figures_of(ask(graph, graph.schema.batch(corpus)), offered, corpus) for seed, graph in graphs.items()}
    return {
        "corpus": name,
        "split": split,
        "classes": [label for label, there in zip(corpus.task.labels, offered.tolist(), strict=True) if there],
        "utterances": int(corpus.labelled.sum()),
        "majority": majority(corpus, offered),
        "encoder alone": figures_of(corpus.features[CHANCES] / alone, offered, corpus),
        "starter": {metric: {"values": [one[metric] for one in found.values()]} for metric in METRICS},
    }


def examples(pipeline: Pipeline) -> list[dict[str, Any]]:
    """Return the prediction for the last utterance of every hand-written example."""
    rows = []
    for one in json.loads(EXAMPLES.read_text(encoding="utf-8")):
        last = pipeline.predict(load_transcript("\n".join(one["turns"]).encode()))[-1]
        rows.append({**one, "answer": last.emotion, "probability": last.confidence})
    return rows


def predicted(talk: str) -> str:
    """Run `erc-graph predict` on a transcript in a new process, and return its output for a terminal of 80 columns."""
    command, environ = [sys.executable, "-m", "erc_graph", "predict", "-"], {**os.environ, "COLUMNS": "80"}
    return subprocess.run(command, check=True, capture_output=True, input=talk, text=True, encoding="utf-8", env=environ).stdout


def cold(talk: str, times: int = 3) -> float:
    """Return the median number of seconds of `erc-graph predict` on a transcript, over several new processes."""
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        predicted(talk)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def main(argv: list[str] | None = None) -> int:
    """Evaluate the model, write the results, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m starter.evaluate", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("runs/starter"))
    options = parser.parse_args(argv)
    own, pipeline = settings(), load_starter()
    first, *others = own["seeds"]
    graphs = {first: pipeline.method}
    graphs |= {seed: load_network(options.work / "graphs" / f"{own['chosen']}-{seed}" / "model") for seed in others}
    alone = json.loads(CHOICE.read_text(encoding="ascii"))["encoder alone"]["temperature"]
    talk = TALK.read_text(encoding="utf-8")
    rows = [case(options.data, name, split, pipeline, graphs, alone) for name, split in CASES]
    found = {
        "rows": rows,
        "seeds": own["seeds"],
        "examples": examples(pipeline),
        "talk": predicted("".join(talk.splitlines(keepends=True)[:6])),
        "cold_seconds": cold(talk),
        "bytes": sum(file.stat().st_size for file in FOLDER.rglob("*") if file.is_file()),
        "parameters": sum(value.numel() for value in pipeline.method.parameters()),
        "environment": environment(),
    }
    write_json(FIGURES, found)
    print(f"written: {FIGURES}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
