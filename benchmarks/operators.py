"""`python -m benchmarks.operators`: time of one layer of every graph operator (forward and backward pass), in all edge layouts and in PyG.

The input has sixteen dialogues with lengths from IEMOCAP (740 utterances) and one node per utterance. The layers have width 128 and four
attention heads, and run in one thread. The graph recipe `complete` connects all utterances of a dialogue by one relation. The graph recipe
`speaker` connects utterances at distances up to ten by four relations: same or other speaker, past or future. Edges and all other data that
depend only on lengths and speakers are computed in advance.

`blocks`, `list` and `dgl` are the edge layouts of `erc_graph.graphs.edges`. `pyg` is one of PyG's operators `TransformerConv`, `RGCNConv`,
`GraphConv` (with attention weights, one operator per relation), `FAConv` and `HypergraphConv`. The case `directed` has four layers of
DAG-ERC. It is compared with two layers of a bidirectional GRU of the same width (`gru`).

The `floor` is the time of only the necessary matrix products, with outputs that are already allocated. These products are the linear maps
with their two gradients. On the complete graph, the products within each dialogue are added.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from benchmarks.measure import Row, Run, arguments, finish, rows_of, there
from erc_graph.conv.attention import Attention
from erc_graph.conv.base import Conv
from erc_graph.conv.directed import Directed
from erc_graph.conv.gated import Gated
from erc_graph.conv.hypergraph import Hypergraph
from erc_graph.conv.relational import Relational
from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.encoders.recurrent import Recurrent
from erc_graph.graphs.edge_list import EdgeList
from erc_graph.graphs.edges import edges_of
from erc_graph.graphs.messages import Edges
from erc_graph.graphs.recipe import EdgeRule, GraphRecipe, HyperedgeRule, load_recipe

NAME = "benchmarks.operators"
LENGTHS = (8, 24, 26, 28, 31, 34, 38, 42, 45, 48, 52, 57, 62, 69, 78, 98)
WIDTH, HEADS, DEPTH = 128, 4, 4
LAYERS = ("attention", "relational", "weighted", "gated")
METHODS = ("blocks", "list", "pyg", "dgl")
CASES = (*(f"{layer} {recipe}" for layer in LAYERS for recipe in ("complete", "speaker")), "hypergraph", "directed")


class Weighted(Relational):
    """A relational convolution with the attention of DialogueGCN: one softmax over all edges to an utterance."""

    def __init__(self, inputs: int, width: int, recipe: GraphRecipe) -> None:
        super().__init__(inputs, width, recipe, norm="none")
        self.bilinear = nn.Linear(inputs, inputs, bias=False)

    def pass_on(self, x: Tensor, edges: Edges, weight: Tensor | None = None) -> Tensor:
        """Compute the states `(N, S, inputs)` → `(N, S, width)`."""
        return super().pass_on(x, edges, edges.softmax(edges.dot(self.bilinear(x)[:, :, None], x[:, :, None])))


def methods_of(case: str) -> tuple[str, ...]:
    """Return the methods of a case."""
    return {"hypergraph": ("means", "pyg"), "directed": ("written", "gru")}.get(case, METHODS)


def recipe_of(case: str) -> GraphRecipe:
    """Return the graph recipe of a case."""
    speaker = load_recipe("speaker")
    typed = replace(speaker, edges=tuple(rule for rule in speaker.edges if rule.scope == "within"), examples=())
    if case == "hypergraph":
        over = HyperedgeRule(relation="dialogue", over="stream"), HyperedgeRule(relation="turn", over="turn")
        return replace(typed, edges=(), hyperedges=over)
    if case == "directed":
        rules = [
            EdgeRule(relation=f"{who}_r", scope="within", past="own:1", future=0, self_loops=False, speaker=who)
            for who in ("same", "other")
        ]  # type: ignore[arg-type]
        return replace(typed, edges=tuple(rules))
    if case.endswith("complete"):
        return replace(typed, edges=(EdgeRule(relation="context", scope="within", past=None, future=None),))
    return typed


def operator(case: str, recipe: GraphRecipe) -> Conv:
    """Return the layer of a case."""
    if case.startswith("attention"):
        return Attention(WIDTH, WIDTH, recipe, heads=HEADS)
    if case.startswith("gated"):
        return Gated(WIDTH, WIDTH, recipe, residual="start")
    if case == "hypergraph":
        return Hypergraph(WIDTH, WIDTH, recipe)
    return (Weighted if case.startswith("weighted") else Relational)(WIDTH, WIDTH, recipe)


def make_inputs() -> tuple[Batch, Nodes]:
    """Return dialogues of two alternating speakers with one or two utterances each, and node states that require gradients."""
    torch.manual_seed(0)
    with there:
        rows = torch.arange(sum(LENGTHS))
        batch = Batch(
            ptr=torch.tensor([0, *LENGTHS]).cumsum(0),
            speaker=(rows % 3 == 0).long(),
            target=torch.zeros_like(rows),
            judged=rows >= 0,
            row=rows,
        )
        return batch, Nodes.of_turns(torch.randn(len(rows), WIDTH, requires_grad=True))


def prepare(case: str, method: str) -> Run:
    """Return the timed run of a method on a case."""
    recipe, (batch, nodes) = recipe_of(case), make_inputs()
    if method == "floor":
        return floor(case)
    with there:
        if method == "pyg":
            modules, forward = pyg(case, recipe, nodes, batch)
        elif method == "gru":
            gru = Recurrent("gru", WIDTH, 2 * WIDTH, bidirectional=True, layers=2, dropout=0.0)
            modules, forward = nn.ModuleList([gru]), lambda: gru.read(nodes.states[:, 0], batch)
        else:
            layers = [Directed(WIDTH, WIDTH, recipe) for _ in range(DEPTH)] if case == "directed" else [operator(case, recipe)]
            modules = nn.ModuleList(layers)
            for layer in layers:
                layer.layout = "list" if case in ("hypergraph", "directed") else method  # type: ignore[assignment]

            def forward() -> Tensor:
                out = nodes
                for layer in layers:
                    out = layer(out, batch)
                return out.states

    def run() -> None:
        nodes.states.grad = None
        modules.zero_grad(set_to_none=True)
        forward().sum().backward()

    return run


def pyg(case: str, recipe: GraphRecipe, nodes: Nodes, batch: Batch) -> tuple[nn.ModuleList, Callable[[], Tensor]]:
    """Return PyG's operator and its forward pass on the same edges."""
    from torch_geometric import nn as theirs
    from torch_geometric.utils import softmax

    if case == "hypergraph":
        turns = torch.arange(batch.utterances)
        sets = torch.stack([turns.repeat(2), torch.cat([batch.dialogue, turns + len(batch)])])
        conv = theirs.HypergraphConv(WIDTH, WIDTH)
        conv.lin = nn.Identity()  # type: ignore[assignment]
        return nn.ModuleList([conv]), lambda: nn.functional.leaky_relu(conv(nodes.states[:, 0], sets))
    edges = edges_of(recipe, nodes, batch, layout="list")
    if not isinstance(edges, EdgeList):
        raise TypeError(f"expected a list of edges, found {type(edges)}")
    ends, relation = torch.stack([edges.edges.source, edges.edges.target]), edges.relation
    if case.startswith("attention"):
        conv = theirs.TransformerConv(WIDTH, WIDTH // HEADS, heads=HEADS)
        return nn.ModuleList([conv]), lambda: conv(nodes.states[:, 0], ends)
    if case.startswith("gated"):
        conv = theirs.FAConv(WIDTH, eps=1.0, add_self_loops=False, cached=True)
        return nn.ModuleList([conv]), lambda: conv(nodes.states[:, 0], nodes.states[:, 0], ends)
    if case.startswith("relational"):
        conv = theirs.RGCNConv(WIDTH, WIDTH, len(recipe.relations))
        return nn.ModuleList([conv]), lambda: conv(nodes.states[:, 0], ends, relation)
    parts = nn.ModuleList([nn.Linear(WIDTH, WIDTH, bias=False), *(theirs.GraphConv(WIDTH, WIDTH) for _ in recipe.relations)])
    own = [(relation == r).nonzero().flatten() for r in range(len(recipe.relations))]
    of_relation = [ends[:, rows] for rows in own]

    def weighted() -> Tensor:
        x = nodes.states[:, 0]
        score = (parts[0](x).index_select(0, ends[1]) * x.index_select(0, ends[0])).sum(-1)
        weight = softmax(score, ends[1], num_nodes=len(x))
        return torch.stack([part(x, e, weight[rows]) for part, e, rows in zip(list(parts)[1:], of_relation, own, strict=True)]).sum(0)

    return parts, weighted


def floor(case: str) -> Run:
    """Return a run of only the necessary matrix products; see the module."""
    rows, relations = sum(LENGTHS), len(recipe_of(case).relations)
    maps = {"attention": [(WIDTH, 4 * WIDTH)], "relational": [(WIDTH * (relations + 1), WIDTH)], "gated": []}
    maps["weighted"] = [*maps["relational"], (WIDTH, WIDTH)]
    layer = case.split()[0]
    with there:
        linear = [(torch.randn(rows, a), torch.randn(a, b), torch.randn(rows, b)) for a, b in maps[layer]]
        heads = {"attention": HEADS, "relational": relations, "weighted": relations, "gated": 1}[layer]
        width = WIDTH // HEADS if layer == "attention" else WIDTH
        sizes = LENGTHS if case.endswith("complete") else ()
        inside = [
            (torch.randn(heads, n, width), torch.randn(heads, n, n), torch.empty(heads, n, width), torch.empty(heads, n, n)) for n in sizes
        ]
    products = {"attention": 2, "relational": 0, "weighted": 1, "gated": 1}[layer]  # those of which the weights want a gradient

    def run() -> None:
        for x, matrix, out in linear:
            torch.mm(x, matrix, out=out)
            torch.mm(out, matrix.T, out=x)
            x.T @ out
        for x, weight, to_x, to_weight in inside:
            for _ in range(max(1, products)):
                torch.bmm(weight, x, out=to_x)
                torch.bmm(weight.mT, x, out=to_x)
            for _ in range(products):
                torch.bmm(x, x.mT, out=to_weight)

    return run


def main(argv: list[str] | None = None) -> int:
    options = arguments("operators", __doc__ or "", argv, cases=CASES, threads=1)
    rows: list[Row] = []
    for case in options.cases:
        methods = tuple(name for name in methods_of(case) if name != "dgl" or options.device == "cpu")  # PyPI's DGL knows no GPU
        runs = {method: prepare(case, method) for method in methods}
        least = prepare(case, "floor") if " " in case and case != "gated speaker" else None
        memory = methods if case == "attention complete" else ()
        rows += rows_of(NAME, case, runs, floor=least, repeats=options.repeats, memory=memory)
    return finish(rows, options.json)


if __name__ == "__main__":
    sys.exit(main())
