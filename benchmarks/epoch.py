"""`python -m benchmarks.epoch`: time of one training epoch of every method and of a two-layer BiGRU, on real corpora with equal batches.

The corpora are `iemocap/` and `meld/` in the folder that the environment variable ERC_GRAPH_DATA names. The time of an epoch excludes
reading the corpus and evaluation on the development split.

| case | batches | methods |
|---|---|---|
| `iemocap6`, `meld` | 16 dialogues | every method with vectors as input, with its default number of layers and states of width 128 |
| `pairwise` | 8 dialogues | pairwise fusion with the settings of `experiments/pairwise/iemocap6.toml`, and the BiGRU |

All times are compared with `bigru`, which is `erc_graph.methods.bigru` with width 256. `bigru_torch` is the same network, implemented by
`torch.nn.GRU(num_layers=2, bidirectional=True)` on packed sequences. If a method has several training stages, the times of one epoch of
every stage are summed.

`outside` (only case `pairwise`) is the share of the epoch time outside tensor operations. This share is measured with `torch.profiler`: it
excludes operations, compiled passes, gradients and optimiser kernels. It includes Python code of gradients and the overhead of the
profiler, which is some microseconds per operation.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from benchmarks.measure import Row, arguments, finish, rows_of
from erc_graph.conv.angular.compiled import EVENT
from erc_graph.data.batch import Batch
from erc_graph.data.corpus import Corpus
from erc_graph.data.files.load import load_corpus
from erc_graph.data.files.toml import read_toml
from erc_graph.data.nodes import Nodes
from erc_graph.experiments.experiment import Experiment, experiment_file, from_dict
from erc_graph.methods import METHODS
from erc_graph.methods.base import Method
from erc_graph.methods.schema import Schema
from erc_graph.training.accelerator import make_accelerator
from erc_graph.training.config import TrainingConfig
from erc_graph.training.history import StageHistory
from erc_graph.training.stages import Run, StageRun

CASES = {"iemocap6": "iemocap", "meld": "meld", "pairwise": "iemocap"}
SIZES: dict[str, Any] = {"width": 128, "context": 128, "feedforward": 256}  # of states, and between those of a Transformer
INSIDE = ("aten::", "mkldnn::", EVENT, "autograd::engine::evaluate_function")
Epoch = Callable[[], float]


class PackedGRU(nn.Module):
    """PyTorch's GRU on packed sequences, which replaces `erc_graph.encoders.recurrent.Recurrent`."""

    def __init__(self, width: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.net = nn.GRU(width, width // 2, num_layers=layers, dropout=dropout, bidirectional=True, batch_first=True)

    def forward(self, nodes: Nodes, batch: Batch) -> Nodes:
        """Compute the states `(N, 1, width)` → `(N, 1, width)`."""
        packed = pack_padded_sequence(batch.pad(nodes.states[:, 0]), torch.tensor(batch.sizes), batch_first=True, enforce_sorted=False)
        return nodes.with_states(batch.unpad(pad_packed_sequence(self.net(packed)[0], batch_first=True)[0])[:, None])


def corpus_of(case: str) -> Corpus:
    """Return the corpus of a case with all features and its own splits."""
    folder = Path(os.environ.get("ERC_GRAPH_DATA", "no-corpora")) / CASES[case]
    if not folder.is_dir():
        raise SystemExit(f"epoch: expected {CASES[case]}/ in the folder ERC_GRAPH_DATA, found none; set this variable")
    return load_corpus(folder)


def settings(name: str, corpus: str) -> Experiment | None:
    """Return the committed settings of a method for a corpus, or `None`."""
    path = experiment_file(name, corpus)
    return None if path is None else from_dict(name, read_toml(path), path.name)


def methods(case: str, corpus: Corpus) -> Iterator[tuple[str, Method, TrainingConfig]]:
    """Yield name, method and training configuration of every timed network."""
    if case == "pairwise":
        committed = settings("pairwise", "iemocap6")
        assert committed is not None
        schema = Schema.of(corpus)
        made = METHODS["pairwise"](schema, committed.pipeline, inputs=committed.inputs, prior=committed.prior)
        baseline = METHODS["bigru"](schema, inputs=committed.inputs)
        for name, method in (("bigru", baseline), ("pairwise", made)):
            yield name, method, committed.training
        return
    training = TrainingConfig(batch_size=16)
    for name, kind in METHODS.items():
        if "features" not in kind.reads:
            continue  # words and frames: on inputs of their own
        committed = settings(name, case)
        config: Any = committed.pipeline if committed is not None and name != "bigru" else kind.Config()
        named = {field.name for field in fields(config)}
        if name != "bigru":
            config = replace(config, **{key: value for key, value in SIZES.items() if key in named})
        yield name, kind(Schema.of(corpus, reads=kind.reads), config), training
        if name == "bigru":
            packed: Any = kind(Schema.of(corpus), config)
            packed.read = PackedGRU(config.width, config.layers, config.dropout)
            yield "bigru_torch", packed, training


def epochs(case: str, device: str, only: list[str] | None = None) -> dict[str, Epoch]:
    """Return method → function that runs the next epoch of all its stages; methods can be interleaved."""
    corpus = corpus_of(case)
    found: dict[str, Epoch] = {}
    for name, method, training in methods(case, corpus):
        if only and name not in (*only, "bigru"):
            continue
        accelerator = make_accelerator(training, device)
        train = method.schema.batch(corpus.split("train")).to(accelerator.device)
        method.to(accelerator.device)
        method.fit_inputs(train)
        run = Run(accelerator=accelerator, method=method, task=method.task, config=training, train=train, seed=0)
        method.eval()
        stages: list[Epoch] = []
        for index, stage in enumerate(method.stages()):
            run.history.stages.append(StageHistory(stage.name))
            stages.append(partial(one_epoch, method, StageRun(run, index, stage), method.start_stage(index, train)))
        found[name] = partial(all_of, stages)
    return found


def all_of(stages: list[Epoch]) -> float:
    """Run one epoch of every stage, and return the sum of their losses."""
    return sum(stage() for stage in stages)


def one_epoch(method: Method, stage: StageRun, train: Batch) -> float:
    """Run one epoch as in `StageRun.fit`, without evaluation, and return the loss."""
    trained = set(stage.parameters)
    for parameter in method.parameters():
        parameter.requires_grad_(parameter in trained)
    return stage.epoch(train, 0)


def outside(epoch: Epoch) -> float:
    """Return the share of the time of an epoch outside tensor operations."""
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
    options = arguments("epoch", "One training epoch of every method.", argv, cases=list(CASES), threads=1, methods=True)
    rows: list[Row] = []
    for case in options.cases:
        runs = epochs(case, options.device, options.methods)
        own = rows_of("benchmarks.epoch", case, runs, repeats=options.repeats, memory=())
        yardstick = next(row for row in own if row["method"] == "bigru")
        for row in own:
            row["floor_seconds"], row["floor_cpu_seconds"] = yardstick["seconds"], yardstick["cpu_seconds"]
            if case == "pairwise":
                row["outside"] = round(outside(runs[row["method"]]), 3)
                print(f"outside tensor operations: {row['method']} {100 * row['outside']:.0f} %")
        rows += own
    return finish(rows, options.json)


if __name__ == "__main__":
    sys.exit(main())
