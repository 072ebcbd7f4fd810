"""`python -m benchmarks.stream`: time to label the next utterance of a live conversation, for conversations of different lengths.

The model has three modalities and default widths. Its weights are random, because the weights do not affect the time. The method `stream`
computes only the next utterance. The method `prefix` computes the whole conversation again. The `floor` is the time of one product of every
weight matrix with a vector. The runs of all lengths are interleaved in one process. `held_bytes` is the memory of a stream in bytes.
"""

from __future__ import annotations

import sys
from functools import partial
from itertools import cycle
from typing import Any

import torch
from torch import Tensor

from benchmarks.measure import Row, Run, alone, arguments, finish, timings
from erc_graph.data.batch import Batch
from erc_graph.data.tasks import get_task
from erc_graph.inference.stream import Stream
from erc_graph.methods.pairwise import Pairwise, PairwiseConfig
from erc_graph.methods.schema import Schema

WIDTHS = {"audio": 100, "text": 768, "visual": 512}
RECIPES = {"window 10": "causal_window", "all earlier turns": "causal"}
CASES = {  # (recipe, turn) → methods
    ("window 10", 100): ("stream", "prefix"),
    ("window 10", 1000): ("stream", "prefix"),
    ("window 10", 10_000): ("stream",),
    ("all earlier turns", 100): ("stream", "prefix"),
    ("all earlier turns", 1000): ("stream", "prefix"),
}
PUSHES = 10  # utterances of a timed run of `stream`


def make_method(recipe: str) -> Pairwise:
    torch.manual_seed(0)
    return Pairwise(Schema(widths=WIDTHS, task=get_task("iemocap6")), PairwiseConfig(graph=RECIPES[recipe], causal=True)).eval()


def say(stream: Stream, utterances: Any, count: int) -> None:
    for _ in range(count):
        stream.push(*next(utterances))


def stream_at(recipe: str, turn: int) -> tuple[Stream, Run]:
    """Return a live conversation of `turn` utterances, and a run that adds the next utterance."""
    stream = Stream(make_method(recipe))
    utterances = cycle([("AB"[i % 2], {name: torch.randn(width) for name, width in WIDTHS.items()}) for i in range(16)])
    say(stream, utterances, turn)
    return stream, partial(say, stream, utterances, PUSHES)


def prefix_at(recipe: str, turn: int) -> Run:
    """Return a run of the method over a whole conversation of `turn` utterances."""
    method, rows = make_method(recipe), torch.arange(turn)
    batch = Batch(
        ptr=torch.tensor([0, turn]),
        speaker=rows % 2,
        target=rows * 0,
        judged=rows >= 0,
        row=rows,
        features={name: torch.randn(turn, width) for name, width in WIDTHS.items()},
        present=dict.fromkeys(WIDTHS, rows >= 0),
    )
    return torch.no_grad()(lambda: method(batch))


def floor() -> Run:
    """Return a run of one product per weight matrix with a vector, without the classifiers of single pairs."""
    asked = {  # a name per matrix; embeddings are looked up
        name: parameter.detach()
        for name, parameter in make_method("window 10").named_parameters()
        if parameter.dim() == 2 and "embedding" not in name and not (name.startswith("fusion.") and "classify" in name)
    }
    matrices = list(asked.values())
    vectors: list[Tensor] = [torch.randn(1, matrix.shape[1]) for matrix in matrices]

    def run() -> None:
        for _ in range(PUSHES):
            for matrix, vector in zip(matrices, vectors, strict=True):
                torch.nn.functional.linear(vector, matrix)

    return run


def prepare(case: str, method: str) -> Run:
    recipe, turn = case.split(", turn ")
    return stream_at(recipe, int(turn))[1] if method == "stream" else prefix_at(recipe, int(turn))


def main(argv: list[str] | None = None) -> int:
    options = arguments("stream", __doc__.split("\n")[0], argv)
    if options.device != "cpu":
        raise SystemExit("stream: utterance by utterance runs on the CPU; use --device cpu")
    runs: dict[str, Run] = {"floor": floor()}
    held = {}
    for (recipe, turn), methods in CASES.items():
        case = f"{recipe}, turn {turn}"
        stream, runs[f"{case}: stream"] = stream_at(recipe, turn)
        held[case] = stream.nbytes
        if "prefix" in methods:
            runs[f"{case}: prefix"] = prefix_at(recipe, turn)
    timed = timings(runs, options.repeats)
    rows: list[Row] = []
    for (recipe, turn), methods in CASES.items():
        case = f"{recipe}, turn {turn}"
        for method in methods:
            each = PUSHES if method == "stream" else 1
            peak = alone("benchmarks.stream", case, method)[0] if turn <= 1000 else None  # else minutes, to come to that turn again
            clock, cpu = (value / each for value in timed[f"{case}: {method}"])
            row = {"case": case, "method": method, "seconds": clock, "peak_bytes": peak, "cpu_seconds": cpu}
            row |= {"floor_seconds": timed["floor"][0] / PUSHES, "floor_cpu_seconds": timed["floor"][1] / PUSHES}
            rows.append({**row, **({"held_bytes": held[case]} if method == "stream" else {})})
    late, early = (timed[f"window 10, turn {turn}: stream"] for turn in (10_000, 100))
    finish(rows, options.json)
    ratios = [f"{a / b:.2f}" for a, b in zip(late, early, strict=True)]
    print(f"\nwindow 10: time per utterance at turn 10000 over turn 100: {ratios[0]} of the clock, {ratios[1]} of the processor")
    return 0


if __name__ == "__main__":
    sys.exit(main())
