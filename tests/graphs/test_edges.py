"""The primitives of message passing against a double loop over targets and sources, in every layout."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.graphs.edges import Edges, edges_of
from erc_graph.graphs.recipe import EdgeRule, GraphRecipe, list_recipes, load_recipe

LAYOUTS = ["list", "blocks"]
STREAMS = ("text", "audio", "visual")


def make_batch(dialogues: list[list[int]]) -> Batch:
    speaker = torch.tensor([list(dict.fromkeys(d)).index(who) for d in dialogues for who in d], dtype=torch.long)
    ptr = torch.tensor([0, *(len(d) for d in dialogues)]).cumsum(0)
    count = len(speaker)
    return Batch(ptr=ptr, speaker=speaker, target=speaker, judged=torch.ones(count, dtype=torch.bool), row=torch.arange(count))


def recipe_of(*rules: EdgeRule) -> GraphRecipe:
    return GraphRecipe(name="own", description="own", source="none", edges=rules)


def rule(relation: str, past: Any, future: Any, scope: Any = "within", **words: Any) -> EdgeRule:
    return EdgeRule(relation=relation, scope=scope, past=past, future=future, **words)


@dataclass(frozen=True)
class Edge:
    target: tuple[int, int]
    source: tuple[int, int]
    relation: int
    times: int
    scale: float


def in_reach(reach: int | str | None, between: list[int], who: int) -> bool:
    if isinstance(reach, str):
        return between[1:].count(who) < int(reach.split(":")[1])
    return reach is None or len(between) <= reach


def joins(one: EdgeRule, source: int, target: int, speakers: list[int]) -> bool:
    """What the words of a rule mean, for two turns of a dialogue."""
    who, same = speakers[target], speakers[source] == speakers[target]
    if source == target:
        near = one.self_loops
    else:
        between = speakers[source:target] if source < target else speakers[target + 1 : source + 1][::-1]  # the source first
        between = [other for other in between if other == who] if one.count == "own" else between
        near = in_reach(one.past if source < target else one.future, between, who)
    speaks = one.first_turn == "speaks" or speakers[source] in speakers[:source]
    return near and speaks and {"any": True, "pair": True, "same": same, "other": not same}[one.speaker]


def oracle(recipe: GraphRecipe, batch: Batch, streams: tuple[str, ...], present: Tensor) -> list[Edge]:
    found, names = [], recipe.relations
    for start, end in zip(batch.ptr[:-1].tolist(), batch.ptr[1:].tolist(), strict=True):
        speakers = batch.speaker[start:end].tolist()
        for one in recipe.edges:
            for j in range(end - start):
                for i in range(end - start):
                    if not joins(one, i, j, speakers):
                        continue
                    name = one.relation
                    if one.speaker == "pair":
                        name += f"_{min(speakers[i], one.pairs - 1)}_{min(speakers[j], one.pairs - 1)}"
                    for m, source in enumerate(streams):
                        for n, target in enumerate(streams):
                            chosen = (m == n) == (one.scope == "within")
                            chosen = chosen and source in (one.source or streams) and target in (one.target or streams)
                            if chosen and present[start + i, m] and present[start + j, n]:
                                edge = (start + j, n), (start + i, m)
                                found.append(Edge(*edge, names.index(name), one.times, one.scale))
    return found


class Slow:
    """The primitives by their definition; a value per edge is a dictionary edge → number of every head."""

    def __init__(self, edges: list[Edge], shape: torch.Size, relations: int) -> None:
        self.edges, self.shape, self.relations = edges, shape, relations

    def softmax(self, score: dict[Edge, Tensor]) -> dict[Edge, Tensor]:
        total: dict[tuple[int, int], Any] = {}
        for edge in self.edges:
            total[edge.target] = total.get(edge.target, 0) + edge.times * score[edge].exp()
        return {edge: score[edge].exp() / total[edge.target] for edge in self.edges}

    def spread(self, x: Tensor, weight: dict[Edge, Tensor] | None, by_relation: bool, mean: bool) -> Tensor:
        sums: dict[tuple[int, int, int], Any] = {}
        number: dict[tuple[int, int, int], int] = {}
        for edge in self.edges:
            at = (*edge.target, edge.relation if by_relation else 0)
            sent = edge.scale * edge.times * x[edge.source]
            sums[at] = sums.get(at, 0) + (sent if weight is None else weight[edge][:, None] * sent)
            number[at] = number.get(at, 0) + edge.times
        kinds = self.relations if by_relation else 1
        zero = torch.zeros_like(x[0, 0])
        rows = [
            sums[at] / (number[at] if mean else 1) if at in sums else zero
            for at in ((i, s, r) for i in range(self.shape[0]) for s in range(self.shape[1]) for r in range(kinds))
        ]
        out = torch.stack(rows).view(*self.shape, kinds, *x.shape[2:])
        return out if by_relation else out[:, :, 0]

    def degree(self, weight: dict[Edge, Tensor], outgoing: bool) -> Tensor:
        sums: dict[tuple[int, int], Any] = {}
        for edge in self.edges:
            at = edge.source if outgoing else edge.target
            sums[at] = sums.get(at, 0) + edge.scale * edge.times * weight[edge]
        zero = 0 * next(iter(weight.values()))
        rows = [sums.get((i, s), zero) for i in range(self.shape[0]) for s in range(self.shape[1])]
        return torch.stack(rows, -1).unflatten(-1, self.shape)


def slots(edges: Edges) -> Tensor:
    """`(P, 2)` number of the target's and of the source's node, of every slot."""
    count = edges.present.numel()
    number = torch.arange(count, dtype=torch.float64).view(*edges.present.shape, 1)
    zero = torch.zeros_like(number)
    return torch.stack([edges.add(number, zero)[0], edges.add(zero, number)[0]], 1).round().long()


def check(recipe: GraphRecipe, batch: Batch, streams: tuple[str, ...], present: Tensor, layout: Any, heads: int = 2) -> None:
    """All primitives in one calculation, values and gradients."""
    torch.manual_seed(1)
    shape, width = present.shape, 3
    expected = oracle(recipe, batch, streams, present)
    states = {name: torch.randn(*shape, heads, width, dtype=torch.float64) for name in "qkv"}
    for name in "ab":
        states[name] = torch.randn(*shape, heads, dtype=torch.float64)
    table = torch.randn(len(recipe.relations), heads, dtype=torch.float64, requires_grad=True)

    def leaves(absent: float) -> dict[str, Tensor]:
        here = {name: present.view(*shape, *[1] * (value.ndim - 2)) for name, value in states.items()}
        return {name: torch.where(here[name], value, absent).requires_grad_() for name, value in states.items()}

    given = leaves(math.nan)
    edges = edges_of(recipe, Nodes(given["v"].flatten(2), present, streams), batch, layout=layout)
    # which slot is which edge: two equal rules would differ in the relation only
    place, number = slots(edges), {}
    for p in edges.valid.nonzero().flatten().tolist():
        ends = tuple(divmod(int(end), shape[1]) for end in place[p])
        number[(*ends, int(edges.relation[p]))] = p
    assert sorted(number) == sorted((edge.target, edge.source, edge.relation) for edge in expected)
    assert int(edges.valid.sum()) == len(expected)
    assert edges.relation.dtype == torch.long
    if not expected:
        assert not edges.spread(given["v"]).any()
        assert not edges.degree().any()
        return
    at = [number[edge.target, edge.source, edge.relation] for edge in expected]

    def result(score: Tensor, angle: Tensor, soft: Tensor, sums: list[Tensor], degrees: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        values = [score, angle, soft, *sums, *degrees]
        torch.manual_seed(2)
        loss = sum((value * torch.randn(value.shape, dtype=value.dtype)).sum() for value in values)
        wanted = [*leaf.values(), table]
        return values, list(torch.autograd.grad(loss, wanted))  # type: ignore[arg-type]

    leaf = given
    score = edges.dot(leaf["q"], leaf["k"]) + edges.add(leaf["a"], leaf["b"]) + edges.at_relation(table).T
    angle = edges.angular(leaf["v"].flatten(2))
    soft = edges.softmax(score)
    assert score.shape == (heads, len(edges.valid)) and angle.shape == (1, len(edges.valid))
    assert not soft[:, ~edges.valid].any()
    options = [(by_relation, mean) for by_relation in (False, True) for mean in (False, True)]
    sums = [edges.spread(leaf["v"], weight, by_relation=r, mean=m) for weight in (None, score, soft, angle) for r, m in options]
    degrees = [edges.degree(score), edges.degree(soft, outgoing=True), edges.degree(), edges.degree(outgoing=True)]
    fast, fast_grad = result(score[:, at], angle[:, at], soft[:, at], sums, degrees)

    leaf = leaves(0.0)
    slow = Slow(expected, shape, len(recipe.relations))
    scores = {
        e: (leaf["q"][e.target] * leaf["k"][e.source]).sum(-1) + leaf["a"][e.target] + leaf["b"][e.source] + table[e.relation]
        for e in expected
    }
    unit = leaf["v"].flatten(2)
    unit = unit / (unit.square().sum(-1, keepdim=True) + 1e-8).sqrt()
    cosine = {e: (unit[e.target] * unit[e.source]).sum() for e in expected}
    squeeze = 1 - 1e-5
    angles = {e: (0.5 + torch.asin(squeeze * c) / (2 * math.asin(squeeze)))[None] for e, c in cosine.items()}
    softs = slow.softmax(scores)
    sums = [slow.spread(leaf["v"], weight, *option) for weight in (None, scores, softs, angles) for option in options]
    ones = {e: torch.ones(1, dtype=torch.float64) for e in expected}
    degrees = [slow.degree(scores, False), slow.degree(softs, True), slow.degree(ones, False)[0], slow.degree(ones, True)[0]]
    stacked = [torch.stack([values[e] for e in expected], 1) for values in (scores, angles, softs)]
    true, true_grad = result(stacked[0], stacked[1], stacked[2], sums, degrees)
    for one, other in zip(fast, true, strict=True):
        torch.testing.assert_close(one, other.to(one.dtype), rtol=1e-6, atol=1e-7)
    for one, other in zip(fast_grad, true_grad, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)


OWN = {
    "pairs": recipe_of(rule("before", 3, 0, self_loops=False, speaker="pair", pairs=2), rule("after", 0, 2, speaker="pair", pairs=3)),
    "own back": recipe_of(
        rule("same", "own:1", 0, self_loops=False, speaker="same"), rule("other", "own:1", 0, self_loops=False, speaker="other")
    ),
    "own turns": recipe_of(rule("own", 1, None, self_loops=False, speaker="same", count="own", first_turn="mute", times=2)),
    "overlapping": recipe_of(rule("near", 1, 1, scale=0.5), rule("all", None, None, times=3), rule("mine", 2, 0, speaker="same")),
    "across with windows": recipe_of(rule("context", 2, 1), rule("cross", 2, 1, "across", times=2), rule("too", 0, 0, "across")),
    "streams": recipe_of(
        rule("into", 0, 0, "across", target=("visual",), scale=0.3),
        rule("between", 0, 0, "across", source=("text", "audio"), target=("text", "audio"), times=2),
        rule("text_only", None, 0, source=("text",)),
    ),
    "no edge": recipe_of(rule("none", 0, 0, self_loops=False), rule("other", 0, 0, speaker="other")),
}
RECIPES = {**{name: load_recipe(name) for name in list_recipes()}, **OWN}
DIALOGUES = [[0, 1, 0, 2, 2, 0, 1], [0], [0, 1, 1, 0, 1], [0, 0]]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("streams", [1, 3])
@pytest.mark.parametrize("name", RECIPES)
def test_primitives_equal_a_double_loop(name: str, streams: int, layout: str) -> None:
    batch = make_batch(DIALOGUES)
    full = torch.ones(batch.utterances, streams, dtype=torch.bool)
    check(RECIPES[name], batch, STREAMS[:streams], full, layout)
    check(RECIPES[name], batch, STREAMS[:streams], torch.rand(full.shape) > 0.3, layout)
