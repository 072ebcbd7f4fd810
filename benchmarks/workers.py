"""`python -m benchmarks.workers`: four short training runs, one after the other and by two workers.

The runs are four seeds of the pairwise method on the sample corpus, each with one thread. The time `workers 2` includes the start of two
processes. The start takes a few seconds, mostly for the import of PyTorch. The time `workers 2, less the start` excludes the start, which
is negligible in long runs. The `floor` is half the time of the four runs one after the other.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.measure import Row, arguments, finish
from erc_graph.data.sample.vectors import sample_corpus
from erc_graph.experiments.experiment import Launch, from_dict
from erc_graph.experiments.jobs import Plan
from erc_graph.experiments.launch import run_all

SEEDS, EPOCHS = 4, 10


def once(epochs: int, launch: Launch) -> float:
    """Train all runs in new folders, and return the seconds."""
    experiment = from_dict("pairwise", {"seeds": SEEDS, "device": "cpu", "training": {"epochs": epochs}}, "workers")
    corpus = sample_corpus(dialogues=24, seed=0)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        run_all([Plan(experiment=experiment, folder=Path(folder))], corpus, Path(folder), launch=launch)
        return time.perf_counter() - start


def main(argv: list[str] | None = None) -> int:
    options = arguments("workers", __doc__ or "", argv)
    torch.set_num_threads(1)  # as the workers
    once(1, Launch())  # imports and caches
    times: dict[str, list[float]] = {"serial": [], "workers 2": [], "start": []}
    for _ in range(options.repeats):
        times["serial"].append(once(EPOCHS, Launch()))
        times["workers 2"].append(once(EPOCHS, Launch(workers=2)))
        times["start"].append(max(0.0, once(1, Launch(workers=2)) - once(1, Launch()) / 2))
    middle = {name: sorted(values)[len(values) // 2] for name, values in times.items()}
    middle["workers 2, less the start"] = middle["workers 2"] - middle.pop("start")
    rows: list[Row] = [
        {
            "case": f"{SEEDS} seeds, {EPOCHS} epochs",
            "method": name,
            "seconds": value,
            "peak_bytes": None,
            "floor_seconds": middle["serial"] / 2,
        }
        for name, value in middle.items()
    ]
    return finish(rows, options.json)


if __name__ == "__main__":
    sys.exit(main())
