"""`python -m benchmarks.gcpu`: forward and backward pass of the gated context perception unit and of PyTorch's GRU.

Case `paper` has the batch size of the paper: 32 utterances of 50 words, width 256. Case `short` has 64 utterances of 12 words, width 128.
The units `gcpu` and `mgru` have two input vectors per time step; the unit `gru` has one input vector.
"""

from __future__ import annotations

import sys

import torch
from torch import nn

from benchmarks.measure import Run, arguments, finish, rows_of
from erc_graph.encoders.gcpu import GCPU, MGRU

NAME = "benchmarks.gcpu"
WARM = "short"
CASES = {"paper": (32, 50, 256), "short": (64, 12, 128)}  # utterances, words, width
METHODS = ("gcpu", "mgru", "gru")


def prepare(case: str, method: str) -> Run:
    """Return the timed run of a unit on a case."""
    torch.manual_seed(0)
    utterances, words, width = CASES[case]
    z, g = (torch.randn(utterances, words, width, requires_grad=True) for _ in range(2))
    if method == "floor":
        return floor(utterances, words, width)
    cell: nn.Module = nn.GRU(width, width, batch_first=True) if method == "gru" else {"gcpu": GCPU, "mgru": MGRU}[method](width, width)

    def run() -> None:
        z.grad = g.grad = None
        cell.zero_grad(set_to_none=True)
        states = cell(z)[0] if method == "gru" else cell(z, g)
        states.sum().backward()

    return run


def floor(utterances: int, words: int, width: int) -> Run:
    """Return a run of only the matrix products: one per step with its gradient, and one for all inputs and weights."""
    hidden, parts = torch.randn(utterances, width), torch.randn(utterances, 3 * width)
    wide, matrix = torch.randn(utterances * words, width), torch.randn(3 * width, width)
    to_hidden, to_parts, to_weight, gates = (torch.empty_like(x) for x in (hidden, parts, matrix, torch.empty(len(wide), 3 * width)))

    def run() -> None:
        for _ in range(2 * words):  # forward and backward: D → D, D → 2D, 3D → D
            torch.mm(hidden, matrix[:width], out=to_hidden)
            torch.mm(hidden, matrix.T, out=to_parts)
            torch.mm(parts, matrix, out=to_hidden)
        for _ in range(4):  # two inputs, of two gates each, and their gradients: 8 D²; the weights of both and of the recurrence: 10 D²
            torch.mm(wide, matrix.T, out=gates)
            torch.mm(gates.T, wide, out=to_weight)

    return run


def main(argv: list[str] | None = None) -> int:
    options = arguments("gcpu", __doc__ or "", argv)
    rows = []
    for case in CASES:
        runs = {method: prepare(case, method) for method in METHODS}
        rows += rows_of(NAME, case, runs, floor=prepare(case, "floor"), repeats=options.repeats)
    return finish(rows, options.json)


if __name__ == "__main__":
    sys.exit(main())
