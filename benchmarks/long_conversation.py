"""`python -m benchmarks.long_conversation`: forward and backward pass for one conversation of thousands of utterances, complete graph.

The model has the graph recipe `pairwise`, three modalities, width 200 and four layers. The method `whole` stores all edge weights; the
method `tiled` stores no edge weights. The measured memory includes states, gradients and all other tensors of one run.
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor

from benchmarks.angular_conv import convolution, floor, make_inputs, through
from benchmarks.measure import Row, Run, alone, arguments, finish, rows_of
from erc_graph.conv.angular import propagation

NAME = "benchmarks.long_conversation"
WARM = "50"
BOTH = (1000, 2000)
TILED = (5000, 10000, 20000)


def prepare(case: str, method: str) -> Run:
    """Return the timed run of a method; the case is the number of utterances."""
    turns = int(case)
    if method == "floor":
        return floor((turns,), 3, 200)
    batch, nodes, conv = make_inputs((turns,), 3, 200)
    one = convolution(200, layout="auto" if method == "whole" else method, like=conv)

    def forward() -> Tensor:
        saved, propagation.MANY = propagation.MANY, 2**40 if method == "whole" else propagation.MANY  # whatever it costs
        try:
            return one(nodes, batch).states
        finally:
            propagation.MANY = saved

    return through(one, nodes.states, forward)


def main(argv: list[str] | None = None) -> int:
    options = arguments("long_conversation", __doc__ or "", argv)
    rows: list[Row] = []
    for turns in BOTH:
        runs = {method: prepare(str(turns), method) for method in ("whole", "tiled")}
        rows += rows_of(NAME, str(turns), runs, floor=prepare(str(turns), "floor"), repeats=min(options.repeats, 5))
    for turns in TILED:
        peak, taken = alone(NAME, str(turns), "tiled")  # one run: it takes minutes
        rows.append({"case": str(turns), "method": "tiled", "seconds": taken, "peak_bytes": peak, "floor_seconds": None})
    return finish(rows, options.json)


if __name__ == "__main__":
    torch.manual_seed(0)
    sys.exit(main())
