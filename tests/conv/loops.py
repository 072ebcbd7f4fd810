"""What the operators are tested with: conversations, graphs, and their edges found one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from erc_graph.conv.attention import Attention
from erc_graph.conv.base import Conv
from erc_graph.conv.directed import Directed
from erc_graph.conv.gated import Gated
from erc_graph.conv.hypergraph import Hypergraph
from erc_graph.conv.neighbours import Neighbours
from erc_graph.conv.relational import Relational
from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.graphs.recipe import EdgeRule, GraphRecipe, HyperedgeRule, load_recipe

WIDTH = 6
SPEAKERS = ((0, 1, 1, 0, 1, 0, 0), (0,), (0, 1, 2, 1, 1), (0, 0, 1, 0))
STREAMS = ("text", "audio", "visual")


def of(*rules: EdgeRule, name: str = "test") -> GraphRecipe:
    """A recipe of some rules."""
    return GraphRecipe(name=name, description="", source="", edges=rules)


def rule(relation: str, past: int | str | None, future: int | str | None, **words: object) -> EdgeRule:
    """A rule, within streams unless it says otherwise."""
    return EdgeRule(**{"relation": relation, "scope": "within", "past": past, "future": future, "weight": "learned", **words})  # type: ignore[arg-type]


CROSS = rule("cross", 0, 0, scope="across")
RECIPES = {
    "complete": of(rule("context", None, None)),
    "speaker": load_recipe("speaker"),
    "pairs": of(rule("before", 3, 0, speaker="pair", self_loops=False), rule("after", 0, 2, speaker="pair"), CROSS),
    "twice": of(
        rule("far", 3, 3, times=2), rule("near", 1, 1, self_loops=False, scale=0.7), rule("cross", 2, 1, scope="across", scale=0.5)
    ),
    "own": of(rule("context", "own:2", "own:1", self_loops=False), CROSS),
    "mute": of(rule("own", 2, 1, speaker="same", count="own", first_turn="mute", self_loops=False), CROSS),
}
PAST = {
    "dag": of(*(rule(name, "own:1", 0, self_loops=False, speaker=name) for name in ("same", "other"))),
    "window": of(rule("near", 2, 0, self_loops=False, speaker="pair"), rule("again", 1, 0, self_loops=False, times=3, scale=0.4)),
    "everything": of(rule("context", None, 0, self_loops=False)),
}
OVER = {name: HyperedgeRule(relation=name, over=name) for name in ("stream", "turn", "speaker")}  # type: ignore[arg-type]
HYPER = {
    "streams and turns": replace(of(CROSS), edges=(), hyperedges=(OVER["stream"], OVER["turn"])),
    "speakers": replace(of(CROSS), hyperedges=(OVER["speaker"],)),
}
TURNS = {"turns": replace(of(CROSS), edges=(), hyperedges=(OVER["turn"],))}
OPERATORS: dict[str, Callable[[GraphRecipe], Conv]] = {
    "relational": lambda recipe: Relational(WIDTH, 4, recipe),
    "relational by bases": lambda recipe: Relational(WIDTH, 4, recipe, bases=2, norm="none"),
    "relational by attention": lambda recipe: Relational(WIDTH, 4, recipe, root=False, bias=True, attention="target"),
    "attention": lambda recipe: Attention(WIDTH, 4, recipe, heads=2),
    "neighbours": lambda recipe: Neighbours(WIDTH, 4, recipe),
    "mean of neighbours": lambda recipe: Neighbours(WIDTH, 4, recipe, mean=True),
    "gated": lambda recipe: Gated(WIDTH, WIDTH, recipe, layers=2),
    "gated from the start": lambda recipe: Gated(WIDTH, WIDTH, recipe, layers=2, residual="start", share=0.5, degree="out"),
    "not gated": lambda recipe: Gated(WIDTH, WIDTH, recipe, layers=2, gate=False),
    "directed": lambda recipe: Directed(WIDTH, WIDTH, recipe),
    "hypergraph": lambda recipe: Hypergraph(WIDTH, WIDTH, recipe, layers=2),
    "weighted hypergraph": lambda recipe: Hypergraph(WIDTH, WIDTH, recipe, layers=2, streams=3),
}


def make_batch(speakers: Sequence[Sequence[int]] = SPEAKERS) -> Batch:
    """Dialogues of given speakers."""
    sizes = [len(turns) for turns in speakers]
    row = torch.arange(sum(sizes))
    return Batch(
        ptr=torch.tensor([0, *sizes]).cumsum(0),
        speaker=torch.tensor([who for turns in speakers for who in turns]),
        target=torch.full_like(row, -1),
        judged=row < 0,
        row=row,
    )


def make_nodes(batch: Batch, streams: tuple[str, ...] = STREAMS, *, absent: bool = True, width: int = WIDTH) -> Nodes:
    """Random states that want a gradient; about a fifth of the nodes are absent."""
    present = torch.rand(batch.utterances, len(streams)) < (0.8 if absent else 2)
    return Nodes(torch.randn(*present.shape, width, dtype=torch.float64, requires_grad=True), present, streams)


Node = tuple[int, int]


@dataclass(frozen=True)
class Edge:
    """One edge between nodes, each a row and a stream."""

    source: Node
    target: Node
    relation: int
    scale: float
    times: int


def edges_by_loop(recipe: GraphRecipe, nodes: Nodes, batch: Batch) -> list[Edge]:
    """All edges of a recipe, by asking every rule about every two nodes."""
    found = []
    for d in range(len(batch)):
        rows = range(int(batch.ptr[d]), int(batch.ptr[d + 1]))
        speaker = {i: int(batch.speaker[i]) for i in rows}
        for one in recipe.edges:
            for i in rows:
                for j in rows:
                    if not _reaches(one, i, j, speaker):
                        continue
                    name = one.relation
                    if one.speaker == "pair":
                        name += f"_{min(speaker[j], one.pairs - 1)}_{min(speaker[i], one.pairs - 1)}"
                    for s in range(len(nodes.streams)):
                        for t in range(len(nodes.streams)):
                            if (s == t) == (one.scope == "within") and nodes.present[i, t] and nodes.present[j, s]:
                                found.append(Edge((j, s), (i, t), recipe.relations.index(name), one.scale, one.times))
    return found


def _reaches(one: EdgeRule, i: int, j: int, speaker: dict[int, int]) -> bool:
    """Whether the source turn `j` sends to the target turn `i`."""
    if i == j and not one.self_loops:
        return False
    if one.speaker in ("same", "other") and (speaker[i] == speaker[j]) != (one.speaker == "same"):
        return False
    own = [k for k in speaker if speaker[k] == speaker[j]]
    if one.first_turn == "mute" and own[0] == j:
        return False
    away = own.index(i) - own.index(j) if one.count == "own" else i - j
    reach = one.past if away >= 0 else one.future
    if isinstance(reach, str):  # no more than k - 1 turns of the target's speaker between
        between = [k for k in speaker if min(i, j) < k < max(i, j) and speaker[k] == speaker[i]]
        return len(between) < int(reach.removeprefix("own:"))
    return reach is None or abs(away) <= reach


def into(edges: list[Edge], node: Node) -> list[Edge]:
    """The edges into a node, one that counts several times that often."""
    return [edge for edge in edges if edge.target == node for _ in range(edge.times)]


def by_node(nodes: Nodes, state: Callable[[Node], Tensor], width: int) -> Tensor:
    """`(N, S, width)` of a state per node, zero where it is absent."""
    count, streams = nodes.present.shape
    rows = [state((i, s)) if nodes.present[i, s] else torch.zeros(width).double() for i in range(count) for s in range(streams)]
    return torch.stack(rows).view(count, streams, width)


def same(conv: Conv, nodes: Nodes, batch: Batch, expected: Tensor, *, but: Sequence[str] = ()) -> None:
    """Assert that an operator gives the expected states, and the gradients of states and parameters that these have."""
    found = conv(nodes, batch).states
    assert torch.allclose(found, expected, atol=1e-10)
    names, parameters = zip(*(item for item in conv.named_parameters() if item[0] not in but), strict=True)
    given = torch.randn_like(expected)
    wanted = torch.autograd.grad(expected, [nodes.states, *parameters], given, allow_unused=True)
    for name, mine, theirs in zip(("states", *names), torch.autograd.grad(found, [nodes.states, *parameters], given), wanted, strict=True):
        assert torch.allclose(mine, torch.zeros_like(mine) if theirs is None else theirs, atol=1e-10), name


def listed(recipe: GraphRecipe, nodes: Nodes, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """For PyG, by loop: nodes `utterance * S + stream` of sources and targets, relations and scales; every edge as often as it counts."""
    every = [edge for edge in edges_by_loop(recipe, nodes, batch) for _ in range(edge.times)]
    rows = [[node[0] * len(nodes.streams) + node[1] for node in ends] for ends in zip(*((e.source, e.target) for e in every), strict=True)]
    return (*torch.tensor(rows), torch.tensor([e.relation for e in every]), torch.tensor([e.scale for e in every], dtype=torch.float64))  # type: ignore[return-value]
