"""`python -m benchmarks.graph_build`: time to compute the graph edges of all IEMOCAP dialogues, by several methods.

The dialogues have three modalities, and the graph recipe is `pairwise`.

| method | computation |
|---|---|
| `block` | index arithmetic over the whole corpus in int32, from the lengths of the dialogues on the CPU, without a cache |
| `block_int64` | as `block`, but in int64, which PyTorch Geometric needs |
| `cartesian` | `torch.cartesian_prod` for each dialogue and modality; edges between the modalities of an utterance are appended |
| `loop` | a Python loop over the utterances, with conversion to tensors at the end; the other methods are compared with it |
| `cached` | as `block`, but the edges for these lengths are already in the cache |

The lengths of the 151 dialogues are taken from the public feature file of IEMOCAP, in the order of the file.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from benchmarks.measure import Row, arguments, finish, rows_of
from erc_graph.graphs import rule_edges
from erc_graph.graphs.recipe import load_recipe

MODALITIES = ("text", "audio", "visual")
IEMOCAP = (
    42, 29, 40, 63, 83, 28, 42, 75, 43, 51, 54, 23, 43, 52, 44, 28, 53, 44, 49, 63, 47, 72, 8, 54, 27, 30, 50, 26, 60, 45, 46, 24, 38,
    36, 58, 35, 46, 43, 57, 33, 37, 59, 61, 51, 27, 54, 69, 60, 61, 34, 32, 34, 53, 18, 58, 26, 66, 83, 40, 50, 66, 52, 39, 69, 26, 47,
    60, 56, 45, 38, 69, 53, 87, 35, 62, 29, 53, 56, 42, 31, 47, 58, 61, 59, 44, 28, 26, 30, 44, 54, 26, 74, 59, 20, 32, 58, 83, 84, 91,
    52, 68, 110, 26, 43, 62, 77, 47, 40, 37, 53, 63, 47, 44, 54, 52, 79, 44, 34, 59, 64, 53, 42, 53, 94, 50, 60, 57, 46, 49, 35, 44, 78,
    37, 18, 34, 39, 62, 64, 44, 51, 74, 43, 26, 44, 47, 41, 53, 37, 51, 43, 59,
)  # fmt: skip
RECIPE = load_recipe("pairwise")
Edges = dict[tuple[str, str, str], Tensor]


def block(lengths: tuple[int, ...], dtype: torch.dtype | None = None, *, kept: bool = False) -> Edges:
    """Compute the edges by index arithmetic, as in `build_graph`."""
    if not kept:
        rule_edges.forget()
    ptr = torch.tensor([0, *lengths]).cumsum(0)
    rows = int(ptr[-1])
    present = dict.fromkeys(MODALITIES, torch.ones(rows, dtype=torch.bool))
    return rule_edges.graph_edges(RECIPE, ptr, torch.zeros(rows, dtype=torch.long), present, sizes=lengths, dtype=dtype)


def cartesian(lengths: tuple[int, ...]) -> Edges:
    """Compute all pairs of utterances by a Cartesian product per dialogue and modality."""
    found: Edges = {}
    for modality in MODALITIES:
        parts, start = [], 0
        for turns in lengths:
            rows = torch.arange(start, start + turns)
            parts.append(torch.cartesian_prod(rows, rows))
            start += turns
        found[modality, "context", modality] = torch.cat(parts).T.flip(0)
    rows = torch.arange(sum(lengths))
    for source in MODALITIES:
        for target in MODALITIES:
            if source != target:
                found[source, "cross", target] = torch.stack([rows, rows])
    return found


def loop(lengths: tuple[int, ...]) -> Edges:
    """Compute the edges by a loop over utterances."""
    found: Edges = {}
    for source in MODALITIES:
        for target in MODALITIES:
            pairs, start = [], 0
            for turns in lengths:
                for j in range(start, start + turns):
                    for i in range(start, start + turns) if source == target else (j,):
                        pairs.append((i, j))
                start += turns
            found[source, "context" if source == target else "cross", target] = torch.tensor(pairs).T
    return found


METHODS: dict[str, Callable[[tuple[int, ...]], Edges]] = {
    "block": block,
    "block_int64": partial(block, dtype=torch.long),
    "cartesian": cartesian,
    "loop": loop,
    "cached": partial(block, kept=True),
}


def prepare(case: str, method: str) -> Callable[[], object]:
    """Return the timed run of a method."""
    assert case == "reference"
    return partial(METHODS[method], IEMOCAP)


def rows(repeats: int, memory: tuple[str, ...] | None = None) -> list[Row]:
    """Return the rows of the table; the slow loop is timed separately, so that the other methods get more repeats."""
    expected = loop(IEMOCAP)
    for name, method in METHODS.items():
        found = method(IEMOCAP)
        if found.keys() != expected.keys() or any(not torch.equal(found[kind].long(), index) for kind, index in expected.items()):
            raise SystemExit(f"graph_build: expected the same edges from {name} and loop, found different edges")
    runs = {name: prepare("reference", name) for name in METHODS}
    return rows_of("benchmarks.graph_build", "reference", runs, repeats=repeats, memory=memory)


def main(argv: list[str] | None = None) -> int:
    options = arguments("graph_build", "Edges of a whole corpus.", argv)
    return finish(rows(options.repeats, memory=("block", "cartesian")), options.json)


if __name__ == "__main__":
    sys.exit(main())
