"""`python -m benchmarks.angular_conv`: forward and backward pass of four layers of angular graph convolution, in all implementations.

- Case `reference`: sixteen dialogues of 30 to 90 utterances, three modalities, width 200, graph recipe `pairwise`.
- Case `small`: two dialogues of ten utterances. Only this case also measures a slow loop over edges.
- Cases `windowed N`: one conversation of N utterances, one modality, width 64, graph recipe `window`. These cases show whether the time per
  utterance is constant.

Edges and masks depend only on the lengths of the dialogues, and are computed in advance. The implementation `auto` uses compiled code if
there is a compiler; the results file then has `compiled` in `environment`. `batched` is the same computation without compiled code.
`list`, `blocks` and `dgl` are the edge layouts that every graph operator supports.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from functools import cache
from itertools import pairwise

import torch
from torch import Tensor

from benchmarks.measure import Row, Run, alone, arguments, finish, rows_of, there, timings
from erc_graph.conv.angular import compiled
from erc_graph.conv.angular.angular import AngularConv, AngularConvConfig
from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.graphs.recipe import load_recipe
from erc_graph.graphs.rule_edges import graph_edges, rules_of
from erc_graph.graphs.weights import SQUEEZE, TINY, angular, directions

NAME = "benchmarks.angular_conv"
WARM = "small"
DEPTH = 4
LENGTHS = {"reference": tuple(range(30, 94, 4)), "small": (10, 10)}  # sixteen lengths, 30, 34, … 90
METHODS = ("auto", "batched", "tiled", "list", "blocks", "pyg", "dgl", "dense")
TURNS = (10**3, 10**4, 10**5, 10**6)
AT_LEAST = 10**5  # turns of a timed run of a windowed case, over again where the conversation is shorter
WINDOWED = 5  # interleaved repeats of these at most


def make_batch(lengths: tuple[int, ...]) -> Batch:
    """Return dialogues of two alternating speakers."""
    ptr = torch.tensor([0, *lengths]).cumsum(0)
    rows = torch.arange(int(ptr[-1]))
    return Batch(ptr=ptr, speaker=rows % 2, target=torch.zeros_like(rows), judged=rows >= 0, row=rows)


def make_inputs(lengths: tuple[int, ...], streams: int, width: int, recipe: str = "pairwise") -> tuple[Batch, Nodes, AngularConv]:
    """Return the dialogues, their nodes, and the layers that all implementations share."""
    torch.manual_seed(0)
    with there:
        batch = make_batch(lengths)
        states = torch.randn(batch.utterances, streams, width, requires_grad=True)
        nodes = Nodes(states, torch.ones(batch.utterances, streams, dtype=torch.bool), tuple(f"stream {i}" for i in range(streams)))
        return batch, nodes, convolution(width, recipe)


def convolution(width: int, recipe: str = "pairwise", layout: str = "auto", like: AngularConv | None = None) -> AngularConv:
    """Return four layers, with the weights of `like` if it is given."""
    with there:
        conv = AngularConv(width, load_recipe(recipe), AngularConvConfig(depth=DEPTH))
    conv.layout = layout  # type: ignore[assignment]
    if like is not None:
        conv.load_state_dict(like.state_dict())
    return conv


def through(conv: AngularConv, states: Tensor, forward: Callable[[], Tensor]) -> Run:
    """Return a run of forward and backward pass, with gradients of the states and of all weights."""

    def run() -> None:
        states.grad = None
        conv.zero_grad(set_to_none=True)
        forward().sum().backward()

    return run


def uncompiled(run: Run) -> Run:
    """Return the run of `auto` without a compiler."""

    def batched() -> None:
        with compiled.without():
            run()

    return batched


def prepare(case: str, method: str) -> Run:
    """Return the timed run of an implementation on a case."""
    if case.startswith("windowed"):
        return prepare_windowed(int(case.split()[1]), method)
    batch, nodes, conv = make_inputs(LENGTHS[case], 3, 200)
    states = nodes.states
    if method == "floor":
        return floor(LENGTHS[case], 3, 200)
    if method == "dense":
        return through(conv, states, dense(conv, states, batch))
    if method in ("loop", "pyg"):
        return through(conv, states, (loop if method == "loop" else pyg)(conv, states, batch))
    one = convolution(200, layout="auto" if method == "batched" else method, like=conv)
    run = through(one, states, lambda: one(nodes, batch).states)  # the batch keeps its edges: they are made once, not timed
    return uncompiled(run) if method == "batched" else run


def layers(conv: AngularConv, states: Tensor, spread: Callable[[Tensor], Tensor]) -> Tensor:
    """Compute the layers of `conv` with another propagation function, `(S N, width)` states."""
    initial = hidden = torch.relu(conv.first(states))
    for layer, weight in enumerate(conv.weights, start=1):
        theta, alpha = math.log(conv.config.lambda_ / layer + 1), conv.config.alpha
        near = spread(hidden)
        mixed = (1 - alpha) * near + alpha * initial
        hidden = torch.relu(theta * torch.cat([near, initial], -1) @ weight + (1 - theta) * mixed)
    return torch.cat([states, hidden], -1)


def scales(batch: Batch, streams: int) -> Tensor:
    """Return the matrix `(S N, S N)` of γ for the edges of recipe `pairwise`; zero without an edge."""
    with there:
        dialogue, turn = batch.dialogue.repeat(streams), torch.arange(batch.utterances).repeat(streams)
        stream = torch.arange(streams).repeat_interleave(batch.utterances)
    within = (dialogue[:, None] == dialogue) & (stream[:, None] == stream)
    across = (turn[:, None] == turn) & (stream[:, None] != stream)
    return within + 0.7 * across


def dense(conv: AngularConv, states: Tensor, batch: Batch) -> Callable[[], Tensor]:
    """Return a forward pass with one dense matrix over all nodes of the batch; its mask is computed in advance."""
    scale = cache(lambda: scales(batch, states.shape[1]))

    def forward() -> Tensor:
        rows = states.transpose(0, 1).flatten(0, 1)
        unit = directions(rows)
        weight = scale() * angular(unit @ unit.T)
        root = weight.sum(1).rsqrt()
        normalised = root[:, None] * weight * root
        return layers(conv, rows, lambda x: normalised @ x)

    return forward


def pyg(conv: AngularConv, states: Tensor, batch: Batch) -> Callable[[], Tensor]:
    """Return a forward pass by gather and scatter of PyG; its edge list is computed in advance."""
    from torch_geometric.nn import SimpleConv

    streams, spread = states.shape[1], SimpleConv(aggr="sum")

    def edges() -> tuple[Tensor, Tensor]:
        here = {str(i): torch.ones(batch.utterances, dtype=torch.bool, device=states.device) for i in range(streams)}
        rules, index, scale = rules_of(conv.recipe), [], []
        for (source, relation, target), rows in graph_edges(conv.recipe, batch.ptr, batch.speaker, here, sizes=batch.sizes).items():
            index.append(rows + rows.new_tensor([[int(source)], [int(target)]]) * batch.utterances)
            scale.append(torch.full((rows.shape[1],), rules[relation].scale, device=states.device))
        return torch.cat(index, 1), torch.cat(scale)

    kept = cache(edges)

    def forward() -> Tensor:
        rows, (index, scale) = states.transpose(0, 1).flatten(0, 1), kept()
        unit = directions(rows)
        weight = scale * angular((unit[index[0]] * unit[index[1]]).sum(-1))
        root = weight.new_zeros(len(rows)).index_add(0, index[1], weight).rsqrt()
        normalised = root[index[1]] * weight * root[index[0]]
        return layers(conv, rows, lambda x: spread(x, index, normalised))

    return forward


def loop(conv: AngularConv, states: Tensor, batch: Batch) -> Callable[[], Tensor]:
    """Return a forward pass with the matrix of `dense`, filled edge by edge in a loop."""
    ptr, streams, count = batch.ptr.tolist(), states.shape[1], batch.utterances

    def forward() -> Tensor:
        rows = states.transpose(0, 1).flatten(0, 1)
        unit = rows / (rows.square().sum(-1, keepdim=True) + TINY).sqrt()
        weight = rows.new_zeros(len(rows), len(rows))
        for start, end in pairwise(ptr):
            for s in range(streams):
                for i in range(start, end):
                    for j in range(start, end):
                        a, b = s * count + i, s * count + j
                        weight[a, b] = 0.5 + torch.asin(SQUEEZE * (unit[a] @ unit[b])) / (2 * math.asin(SQUEEZE))
                    for t in range(streams):
                        if t != s:
                            a, b = s * count + i, t * count + i
                            weight[a, b] = 0.7 * (0.5 + torch.asin(SQUEEZE * (unit[a] @ unit[b])) / (2 * math.asin(SQUEEZE)))
        root = weight.sum(1).rsqrt()
        normalised = root[:, None] * weight * root
        return layers(conv, rows, lambda x: normalised @ x)

    return forward


def floor(lengths: tuple[int, ...], streams: int, width: int) -> Run:
    """Return a run of only the necessary matrix products, forward and backward, without padding and with allocated outputs.

    Products per dialogue, and per utterance over its streams: cosines and their gradient; the propagation of every layer, and its gradients
    of values and weights. Products per batch: the linear maps of the layers with their two gradients.
    """
    inside = []
    nodes = streams * sum(lengths)
    with there:
        turns = torch.randn(sum(lengths), streams, width)
        mix = torch.rand(sum(lengths), streams, streams)
        for x, weight in [(turns, mix), *((torch.randn(streams, n, width), torch.rand(streams, n, n)) for n in lengths)]:
            inside.append((x, weight, torch.empty_like(x), torch.empty_like(weight)))
        wide, matrix = torch.randn(nodes, 2 * width), torch.randn(2 * width, width)
        narrow, square = torch.randn(nodes, width), torch.randn(width, width)
    to_wide, to_matrix, to_narrow, to_square = (torch.empty_like(x) for x in (wide, matrix, narrow, square))

    def run() -> None:
        for x, weight, to_x, to_weight in inside:
            torch.bmm(x, x.mT, out=to_weight)  # cosines
            torch.bmm(weight, x, out=to_x)  # their gradient
            for _ in range(DEPTH):
                torch.bmm(weight, x, out=to_x)
                torch.bmm(weight.mT, x, out=to_x)
                torch.bmm(x, x.mT, out=to_weight)
        torch.mm(narrow, square, out=to_narrow)
        torch.mm(narrow, square.T, out=to_narrow)
        torch.mm(narrow.T, narrow, out=to_square)
        for _ in range(DEPTH):
            torch.mm(wide, matrix, out=to_narrow)
            torch.mm(narrow, matrix.T, out=to_wide)
            torch.mm(wide.T, narrow, out=to_matrix)

    return run


def again(run: Run, times: int) -> Run:
    """Return a run that repeats another run several times."""

    def runs() -> None:
        for _ in range(times):
            run()

    return runs


def prepare_windowed(turns: int, method: str) -> Run:
    """Return the timed run of an implementation on one conversation with recipe `window`."""
    batch, nodes, conv = make_inputs((turns,), 1, 64, "window")
    one = convolution(64, "window", method, conv)
    return through(one, nodes.states, lambda: one(nodes, batch).states)


def main(argv: list[str] | None = None) -> int:
    windowed = {f"windowed {turns}": turns for turns in TURNS}
    options = arguments("angular_conv", __doc__ or "", argv, cases=(*LENGTHS, *windowed))
    rows: list[Row] = []
    for case in (case for case in LENGTHS if case in options.cases):
        methods = (*METHODS, "loop") if case == "small" else METHODS
        methods = tuple(name for name in methods if name != "dgl" or options.device == "cpu")  # PyPI's DGL knows no GPU
        runs = {method: prepare(case, method) for method in methods}
        rows += rows_of(NAME, case, runs, floor=prepare(case, "floor"), repeats=options.repeats)
    chosen = {case: turns for case, turns in windowed.items() if case in options.cases}
    times = {case: max(1, AT_LEAST // turns) for case, turns in chosen.items()}
    timed = timings({case: again(prepare(case, "auto"), times[case]) for case in chosen}, min(options.repeats, WINDOWED))
    for case in chosen:
        clock, cpu = (seconds / times[case] for seconds in timed[case])
        peak = alone(NAME, case, "auto")[0]
        row: Row = {"case": case, "method": "auto", "seconds": clock, "peak_bytes": peak, "floor_seconds": None, "cpu_seconds": cpu}
        rows.append(row)
    return finish(rows, options.json)


if __name__ == "__main__":
    sys.exit(main())
