"""`python -m benchmarks.epoch`: one training epoch on IEMOCAP, pairwise fusion against a plain two-layer BiGRU on the same batches.

The corpus is `iemocap/` in the folder named by ERC_GRAPH_DATA; settings are those of `experiments/pairwise_iemocap6.toml`, batches
included. Reading the corpus and judging the development part are no part of an epoch.

| method | what |
|---|---|
| `pmf …`, `mff+mal` | one epoch of a stage of pairwise fusion |
| `pairwise` | one epoch of every stage, together |
| `bigru` | `erc_graph.methods.bigru`, which reads as fast as the stages do: the yardstick, and the floor of the table |
| `bigru_torch` | the same with `torch.nn.GRU(num_layers=2, bidirectional=True)` on packed sequences |

`outside` is the share of an epoch that passes outside tensor operations: all time under `torch.profiler` that is the own time of no
operation, compiled pass, gradient or optimiser kernel. Gradients written in Python count as outside but for their operations, and so
does the profiler's own work, some microseconds per operation.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from benchmarks.measure import Row, arguments, finish, rows_of
from erc_graph.conv.angular.compiled import EVENT
from erc_graph.data.batch import Batch
from erc_graph.data.files.load import load_corpus
from erc_graph.data.files.toml import read_toml
from erc_graph.experiments.experiment import from_dict
from erc_graph.experiments.run import build
from erc_graph.methods.base import Pipeline
from erc_graph.methods.bigru import BiGRU
from erc_graph.training.accelerator import make_accelerator
from erc_graph.training.stages import Run, StageRun

FILE = Path(__file__).resolve().parents[1] / "experiments" / "pairwise_iemocap6.toml"
INSIDE = ("aten::", "mkldnn::", EVENT, "autograd::engine::evaluate_function")


class PackedGRU(nn.Module):
    """PyTorch's own net over packed sequences, in the place of `erc_graph.encoders.recurrent.Recurrent`."""

    def __init__(self, width: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.net = nn.GRU(width, width // 2, num_layers=layers, dropout=dropout, bidirectional=True, batch_first=True)

    def forward(self, states: Tensor, batch: Batch) -> Tensor:
        """`(N, width)` packed rows → `(N, width)`."""
        packed = pack_padded_sequence(batch.pad(states), torch.tensor(batch.sizes), batch_first=True, enforce_sorted=False)
        return batch.unpad(pad_packed_sequence(self.net(packed)[0], batch_first=True)[0])


def epochs(device: str) -> dict[str, Callable[[], float]]:
    """Method → one epoch; the methods take turns, each goes on with its own training."""
    folder = Path(os.environ.get("ERC_GRAPH_DATA", "no-corpora")) / "iemocap"
    if not folder.is_dir():
        raise SystemExit("epoch: set ERC_GRAPH_DATA to the folder that has iemocap/")
    corpus = load_corpus(folder)
    experiment = from_dict("pairwise", read_toml(FILE), str(FILE.name))
    experiment = replace(experiment, run=replace(experiment.run, members=1))  # of a committee, one: it has as many BiGRUs beside it
    pairwise = build(experiment, corpus, 0)
    train = corpus.split("train").batch(tuple(pairwise.schema.widths))
    plain, packed = BiGRU(pairwise.schema), BiGRU(pairwise.schema)
    packed.encode = PackedGRU(packed.config.width, packed.config.layers, packed.config.dropout)  # type: ignore[assignment]
    accelerator = make_accelerator(experiment.training, device)
    train = train.to(accelerator.device)
    found: dict[str, Callable[[], float]] = {}
    for name, pipeline in (("bigru", plain), ("bigru_torch", packed), ("", pairwise)):
        pipeline.to(accelerator.device)
        pipeline.fit_inputs(train)
        run = Run(accelerator=accelerator, pipeline=pipeline, task=pipeline.task, config=experiment.training, train=train, seed=0)
        for index, stage in enumerate(pipeline.stages()):
            pipeline.eval()
            found[name or stage.name] = partial(one_epoch, pipeline, StageRun(run, index, stage), pipeline.start_stage(index, train))
    return found


def one_epoch(pipeline: Pipeline, stage: StageRun, train: Batch) -> float:
    """As in `StageRun.fit`, without judging."""
    trained = set(stage.parameters)
    for parameter in pipeline.parameters():
        parameter.requires_grad_(parameter in trained)
    return stage.epoch(train, 0)


def outside(epoch: Callable[[], float]) -> float:
    """Share of the time outside tensor operations."""
    epoch()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        start = time.perf_counter()
        epoch()
        seconds = time.perf_counter() - start
    inside = sum(event.self_cpu_time_total for event in profile.key_averages() if event.key.startswith(INSIDE) or "Backward" in event.key)
    # Backward passes of our own are Python between operations.
    python = sum(e.self_cpu_time_total for e in profile.key_averages() if e.key.startswith("_") and e.key.endswith("Backward"))
    return 1 - (inside - python) / 1e6 / seconds


def main(argv: list[str] | None = None) -> int:
    options = arguments("epoch", "One training epoch on IEMOCAP.", argv)
    runs = epochs(options.device)
    rows: list[Row] = rows_of("benchmarks.epoch", "iemocap6", runs, repeats=options.repeats, memory=())
    measured = {row["method"]: row for row in rows}
    stages = [measured[name] for name in runs if not name.startswith("bigru")]
    whole = {unit: sum(row[unit] for row in stages) for unit in ("seconds", "cpu_seconds")}
    rows.append({"case": "iemocap6", "method": "pairwise", **whole, "peak_bytes": None})
    for row in rows:
        row["floor_seconds"], row["floor_cpu_seconds"] = measured["bigru"]["seconds"], measured["bigru"]["cpu_seconds"]
        if row["method"] in runs:
            row["outside"] = round(outside(runs[row["method"]]), 3)
    shares = {name: row["outside"] for row in rows if (name := row["method"]) in runs}
    print("outside tensor operations: " + ", ".join(f"{name} {100 * share:.0f} %" for name, share in shares.items()))
    return finish(rows, options.json)


if __name__ == "__main__":
    sys.exit(main())
