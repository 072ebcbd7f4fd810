"""The trial (test) of a compiled library before its first use: in a separate process, the library must give the same results as PyTorch.

If the compiler or the file is faulty, the library may compute nothing, lack a function, or crash the process. A trial compares the library
with PyTorch in a forward and a backward pass, with a few random input states.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from erc_graph.conv import compiler


def layers() -> bool:
    """Return whether the compiled layers of `AngularConv` give the same results as its code in PyTorch."""
    from erc_graph.conv.angular import compiled
    from erc_graph.conv.angular.angular import AngularConv
    from erc_graph.data.batch import Batch
    from erc_graph.data.nodes import Nodes
    from erc_graph.graphs.recipe import load_recipe

    sizes, streams, width = (9, 1, 20), 3, 24
    rows = sum(sizes)
    batch = Batch(
        ptr=torch.tensor([0, *sizes]).cumsum(0),
        speaker=torch.arange(rows) % 2,
        target=torch.zeros(rows, dtype=torch.long),
        judged=torch.zeros(rows, dtype=torch.bool),
        row=torch.arange(rows),
    )
    conv, present = AngularConv(width, load_recipe("pairwise"), dropout=0.3), torch.rand(rows, streams) < 0.9
    states, above = torch.randn(rows, streams, width, requires_grad=True), torch.randn(rows, streams, conv.width)

    def outcome() -> Sequence[Tensor]:
        torch.manual_seed(1)
        found = conv(Nodes(states, present, ("audio", "text", "visual")), batch).states
        return found.detach(), *torch.autograd.grad(found, [states, *conv.parameters()], above)

    if not compiled.ready():
        return False
    fast = outcome()
    with compiled.without():
        return _alike(fast, outcome())


def scores() -> bool:
    """Return whether the compiled attention scores of `GATv2` give the same results as its code in PyTorch."""
    from erc_graph.conv.gatv2 import edge_scores

    nodes, kinds, edges, heads, width = 9, 4, 60, 2, 70
    ends = [torch.randint(count, (edges,)) for count in (nodes, nodes, kinds)]
    given = [torch.randn(count, heads * width, requires_grad=True) for count in (nodes, nodes, kinds)]
    given, above = [*given, torch.randn(heads, width, requires_grad=True)], torch.randn(heads, edges)

    def outcome(dtype: torch.dtype) -> Sequence[Tensor]:
        found = edge_scores(*(part.to(dtype) for part in given), *ends)
        return found.detach(), *torch.autograd.grad(found, given, above.to(dtype))

    return _alike(outcome(torch.float32), outcome(torch.float64))  # in double precision there is no compiled form


def _alike(some: Sequence[Tensor], others: Sequence[Tensor]) -> bool:
    return all(
        torch.allclose(one.double(), other.double(), rtol=1e-3, atol=1e-4 * max(1.0, float(other.abs().max())))
        for one, other in zip(some, others, strict=True)
    )


def main(name: str, source: str, path: str) -> None:
    """Run a trial and exit with status 17 if it passes; otherwise exit with status 18 and print the reason on standard error."""
    compiler.tried[Path(source)] = Path(path)
    torch.manual_seed(0)
    torch.set_num_threads(2)
    try:
        if {"layers": layers, "scores": scores}[name]():
            sys.exit(compiler.PASSED)  # a library may end the process itself, with 0
        fault = "gives other results than PyTorch"
    except (AttributeError, OSError) as error:  # a name that it lacks; no library
        fault = " ".join(str(error).split())
    print(fault, file=sys.stderr)
    sys.exit(compiler.FAULT)
