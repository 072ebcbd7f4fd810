"""The primitives of message passing against a double loop over targets and sources, in every layout."""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.errors import ConfigError
from erc_graph.graphs.edge_blocks import EdgeBlocks
from erc_graph.graphs.edge_list import EdgeList
from erc_graph.graphs.edges import Edges, Watch, edges_of
from erc_graph.graphs.recipe import EdgeRule, GraphRecipe, list_recipes, load_recipe
from erc_graph.graphs.rule_edges import graph_edges

LAYOUTS: tuple[Any, ...] = ("list", "blocks", "dgl") if find_spec("dgl") else ("list", "blocks")
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


# by relation and mean, for every kind of weight: none, any, of a softmax, of one head for all
OPTIONS = {"none": [(False, False), (True, True)], "any": [(False, True), (True, False)], "soft": [(False, False), (True, True)]}
OPTIONS["angle"] = [(False, False), (True, False)]


class Case:
    """One calculation with all primitives over a graph: its loop, and any layout."""

    def __init__(self, recipe: GraphRecipe, batch: Batch, streams: tuple[str, ...], present: Tensor, heads: int = 2) -> None:
        self.recipe, self.batch, self.streams, self.present, self.heads = recipe, batch, streams, present, heads
        self.edges = oracle(recipe, batch, streams, present)
        self.states = {name: torch.randn(*present.shape, heads, 3, dtype=torch.float64) for name in "qkv"}
        self.states |= {name: torch.randn(*present.shape, heads, dtype=torch.float64) for name in "ab"}
        self.table = torch.randn(len(recipe.relations), heads, dtype=torch.float64)

    def leaves(self, absent: float) -> dict[str, Tensor]:
        """Fresh leaves; what stands at absent nodes."""
        here = {name: self.present.view(*self.present.shape, *[1] * (value.ndim - 2)) for name, value in self.states.items()}
        found = {name: torch.where(here[name], value, absent).requires_grad_() for name, value in self.states.items()}
        return {**found, "table": self.table.clone().requires_grad_()}

    def gradients(self, values: list[Tensor], leaves: dict[str, Tensor]) -> list[Tensor]:
        """Values, then gradients of a random combination of them."""
        torch.manual_seed(2)
        loss = sum((value * torch.randn(value.shape, dtype=value.dtype)).sum() for value in values)
        return [*values, *torch.autograd.grad(loss, list(leaves.values()))]  # type: ignore[arg-type]

    def slow(self) -> list[Tensor]:
        """By loops."""
        leaf, slow = self.leaves(0.0), Slow(self.edges, self.present.shape, len(self.recipe.relations))
        score = {
            e: (leaf["q"][e.target] * leaf["k"][e.source]).sum(-1) + leaf["a"][e.target] + leaf["b"][e.source] + leaf["table"][e.relation]
            for e in self.edges
        }
        unit = leaf["v"].flatten(2)
        unit = unit / (unit.square().sum(-1, keepdim=True) + 1e-8).sqrt()
        squeeze = 1 - 1e-5
        angle = {
            e: (0.5 + torch.asin(squeeze * (unit[e.target] * unit[e.source]).sum()) / (2 * math.asin(squeeze)))[None] for e in self.edges
        }
        weights: dict[str, Any] = {"none": None, "any": score, "soft": slow.softmax(score), "angle": angle}
        values = [torch.stack([weights[name][e] for e in self.edges], 1) for name in ("any", "angle", "soft")]
        values += [slow.spread(leaf["v"], weights[name], *option) for name, options in OPTIONS.items() for option in options]
        ones = {e: torch.ones(1, dtype=torch.float64) for e in self.edges}
        values += [slow.degree(score, False), slow.degree(weights["soft"], True), slow.degree(ones, False)[0], slow.degree(ones, True)[0]]
        return self.gradients(values, leaf)

    def fast(self, layout: Any) -> list[Tensor]:
        """In a layout; absent nodes are NaN."""
        leaf = self.leaves(math.nan)
        edges = edges_of(self.recipe, Nodes(leaf["v"].flatten(2), self.present, self.streams), self.batch, layout=layout)
        place, number = slots(edges).tolist(), {}
        for p in edges.valid.nonzero().flatten().tolist():
            target, source = (divmod(end, self.present.shape[1]) for end in place[p])
            number[target, source, int(edges.relation[p])] = p
        assert sorted(number) == sorted((edge.target, edge.source, edge.relation) for edge in self.edges)
        assert int(edges.valid.sum()) == len(self.edges)
        assert (edges.relation.dtype, edges.valid.dtype, edges.relations) == (torch.long, torch.bool, self.recipe.relations)
        at = [number[edge.target, edge.source, edge.relation] for edge in self.edges]
        score = edges.dot(leaf["q"], leaf["k"]) + edges.add(leaf["a"], leaf["b"]) + edges.at_relation(leaf["table"]).T
        angle = edges.angular(leaf["v"].flatten(2))
        soft = edges.softmax(score)
        assert score.shape == (self.heads, len(edges.valid)) and angle.shape == (1, len(edges.valid))
        assert not soft[:, ~edges.valid].any()
        poisoned = torch.where(edges.valid, score, math.nan)  # nothing of what stands on slots without an edge may come through
        weights: dict[str, Any] = {"none": None, "any": poisoned, "soft": edges.softmax(poisoned), "angle": angle}
        values = [score[:, at], angle[:, at], soft[:, at]]
        values += [
            edges.spread(leaf["v"], weights[name], by_relation=by_relation, mean=mean)
            for name, options in OPTIONS.items()
            for by_relation, mean in options
        ]
        values += [edges.degree(poisoned), edges.degree(soft, outgoing=True), edges.degree(), edges.degree(outgoing=True)]
        return self.gradients(values, leaf)

    def check(self) -> None:
        """All layouts against the loop."""
        if not self.edges:
            for layout in LAYOUTS:
                nodes = Nodes(self.states["v"].flatten(2), self.present, self.streams)
                edges = edges_of(self.recipe, nodes, self.batch, layout=layout)
                assert not edges.valid.any() and not edges.spread(self.states["v"]).any() and not edges.degree().any()
            return
        expected = self.slow()
        for layout in LAYOUTS:
            for one, other in zip(self.fast(layout), expected, strict=True):
                torch.testing.assert_close(one.double(), other, rtol=1e-6, atol=1e-7, msg=lambda text, layout=layout: f"{layout}: {text}")


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
DIALOGUES = [[0, 1, 0, 2, 0], [0], [0, 1, 1]]


@pytest.mark.parametrize("streams", [1, 3])
@pytest.mark.parametrize("name", RECIPES)
def test_primitives_equal_a_double_loop(name: str, streams: int) -> None:
    batch = make_batch(DIALOGUES)
    present = torch.rand(batch.utterances, streams) > (0.3 if streams == 3 else -1)
    Case(RECIPES[name], batch, STREAMS[:streams], present).check()


@st.composite
def random_rules(draw: st.DrawFn, relation: str) -> EdgeRule:
    count = draw(st.sampled_from(["turns", "turns", "own"]))
    reach: Any = st.none() | st.integers(0, 4)
    reach = reach if count == "own" else reach | st.sampled_from(["own:1", "own:2"])
    speaker = "same" if count == "own" else draw(st.sampled_from(["any", "same", "other", "pair"]))
    scope = draw(st.sampled_from(["within", "across"]))
    names = st.none() | st.lists(st.sampled_from(STREAMS), min_size=1, max_size=3, unique=True).map(tuple)
    source = draw(names)
    return EdgeRule(
        relation=relation,
        scope=scope,
        past=draw(reach),
        future=draw(reach),
        self_loops=draw(st.booleans()),
        speaker=speaker,
        pairs=draw(st.integers(1, 3)) if speaker == "pair" else 2,
        count=count,
        first_turn=draw(st.sampled_from(["speaks", "speaks", "mute"])),
        source=source,
        target=draw(names) if source is None else None,
        times=draw(st.integers(1, 3)),
        scale=draw(st.sampled_from([1.0, 0.5])),
    )


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_rules_equal_a_double_loop(data: st.DataObject) -> None:
    recipe = recipe_of(*(data.draw(random_rules(name)) for name in ("one", "two", "three")[: data.draw(st.integers(1, 3))]))
    dialogues = data.draw(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=5), min_size=1, max_size=3))
    streams, batch = data.draw(st.integers(1, 3)), make_batch(dialogues)
    mask = st.lists(st.sampled_from([True, True, False]), min_size=batch.utterances * streams, max_size=batch.utterances * streams)
    present = torch.tensor(data.draw(mask)).view(-1, streams)
    Case(recipe, batch, STREAMS[:streams], present, heads=data.draw(st.integers(1, 2))).check()


def test_a_target_without_edges_gets_nothing() -> None:
    recipe, batch = recipe_of(rule("other", None, None, speaker="other")), make_batch([[0, 0, 0], [0, 1]])
    nodes = Nodes(torch.randn(5, 1, 4), torch.ones(5, 1, dtype=torch.bool), STREAMS[:1])
    for layout in LAYOUTS:
        edges = edges_of(recipe, nodes, batch, layout=layout)
        weight = edges.softmax(torch.full((2, len(edges.valid)), 100.0))
        out = edges.spread(nodes.states, weight[:1])
        assert torch.equal(out[:3], torch.zeros(3, 1, 4)) and torch.equal(out[3:], nodes.states[3:].flip(0))
        assert edges.degree(weight).tolist() == [[[0.0]] * 3 + [[1.0]] * 2] * 2


def test_a_head_more_or_less() -> None:
    batch = make_batch(DIALOGUES)
    nodes = Nodes(torch.randn(9, 2, 6), torch.rand(9, 2) > 0.2, STREAMS[:2])
    for layout in LAYOUTS:
        edges = edges_of(load_recipe("speaker"), nodes, batch, layout=layout)
        plain = edges.spread(nodes.states)
        assert plain.shape == (9, 2, 6)
        split = edges.spread(nodes.states.unflatten(-1, (3, 2)))
        assert split.shape == (9, 2, 3, 2)
        torch.testing.assert_close(split.flatten(2), plain)
        assert edges.spread(nodes.states, by_relation=True).shape == (9, 2, 5, 6)
        weight = edges.angular(nodes.states)
        one = edges.spread(nodes.states.unflatten(-1, (3, 2)), weight)
        torch.testing.assert_close(one, edges.spread(nodes.states.unflatten(-1, (3, 2)), weight.expand(3, -1)))


def test_states_without_an_axis_of_heads_are_refused() -> None:
    x = torch.randn(9, 1, 4)
    for layout in LAYOUTS:
        edges = edges_of(
            load_recipe("speaker"), Nodes(x, torch.ones(9, 1, dtype=torch.bool), STREAMS[:1]), make_batch(DIALOGUES), layout=layout
        )
        with pytest.raises(
            ConfigError, match=r"edges\.dot: expected states of shape \(N, S, H, k\), found \(9, 1, 4\); x\[:, :, None\] adds"
        ):
            edges.dot(x, x)
        with pytest.raises(ConfigError, match=r"edges\.add: expected states of shape \(N, S, H\), found \(9, 1\)"):
            edges.add(x, x[..., 0])


def test_what_is_the_same_for_the_next_layer_is_kept() -> None:
    batch, recipe = make_batch(DIALOGUES), load_recipe("speaker")
    present = torch.rand(9, 1) > 0.2
    nodes = Nodes(torch.randn(9, 1, 4), present, STREAMS[:1])
    for layout in LAYOUTS:
        first = edges_of(recipe, nodes, batch, layout=layout)
        assert edges_of(recipe, nodes.with_states(torch.randn(9, 1, 7)), batch, layout=layout) is first
        other = edges_of(recipe, Nodes(nodes.states, ~present, STREAMS[:1]), batch, layout=layout)
        assert other is not first and torch.equal(other.present, ~present)


@pytest.mark.parametrize(
    ("recipe", "sizes", "kind"),
    [
        ("pairwise", (40, 45, 50), EdgeBlocks),
        ("cogmen", (40, 45, 50), EdgeBlocks),
        ("cogmen", (5, 5, 200), EdgeList),  # few of so many pairs are edges
        ("dagerc", (60, 60), EdgeList),
        ("pairwise", (220,), EdgeList),  # too many pairs
        ("pairwise", (), EdgeList),
    ],
)
def test_the_layout_that_suits(recipe: str, sizes: tuple[int, ...], kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("erc_graph.graphs.edges.MOST", 45000)
    batch = make_batch([[turn % 2 for turn in range(size)] for size in sizes])
    here = torch.ones(batch.utterances, 1, dtype=torch.bool)
    assert type(edges_of(load_recipe(recipe), Nodes(torch.zeros(batch.utterances, 1, 1), here, STREAMS[:1]), batch)) is kind


def test_a_watch_multiplies_and_records_every_message() -> None:
    recipe = recipe_of(rule("near", 1, 0, scale=0.5, speaker="pair"), rule("cross", 0, 0, "across", times=2))
    speakers, streams = [0, 1, 0, 0], STREAMS[:2]
    present = torch.tensor([[True, True], [True, False], [True, True], [False, True]])
    states = torch.randn(4, 2, 3)
    one, two = make_batch([speakers]), make_batch([speakers] * 2)
    plain = edges_of(recipe, Nodes(states, present, streams), one, layout="list")
    graph = graph_edges(recipe, one.ptr, one.speaker, dict(zip(streams, present.T, strict=True)))
    seen = Watch()
    edges = edges_of(recipe, Nodes(states, present, streams), one, watch=seen)
    weight = edges.softmax(edges.dot(states[:, :, None], states[:, :, None]))
    out = edges.spread(states, weight)
    torch.testing.assert_close(out, plain.spread(states, weight))
    edges.spread(states, weight, shown=weight.new_full(weight.shape, 7.0))
    edges.spread(states)
    first, shown, ones = seen.record
    assert first.types == tuple(graph) and first.counts == tuple(index.shape[1] for index in graph.values())
    factor = torch.cat([torch.full((index.shape[1],), 2.0 if kind[1] == "cross" else 0.5) for kind, index in graph.items()])
    torch.testing.assert_close(first.weights, (weight * factor).detach())
    assert shown.weights.unique().tolist() == [7.0] and torch.equal(ones.weights[0], factor)

    # of a second copy, only the fifth message, four times
    count = sum(first.counts)
    multiplier = torch.stack([torch.ones(count), torch.zeros(count)])
    multiplier[1, 4] = 4
    watch = Watch(multiplier)
    both = Nodes(states.repeat(2, 1, 1), present.repeat(2, 1), streams)
    edges = edges_of(recipe, both, two, watch=watch)
    weights = edges.softmax(edges.dot(both.states[:, :, None], both.states[:, :, None]))
    sent = edges.spread(both.states, weights, mean=False)
    torch.testing.assert_close(sent[:4], out)
    kind = [kind for kind, index in graph.items() for _ in range(index.shape[1])][4]
    source, target = torch.cat(list(graph.values()), 1)[:, 4].tolist()
    expected = torch.zeros(4, 2, 3)
    expected[target, streams.index(kind[2])] = 4 * factor[4] * weight[0, 4] * states[source, streams.index(kind[0])]
    torch.testing.assert_close(sent[4:], expected)
    (record,) = watch.record
    torch.testing.assert_close(record.weights, (weight * factor).detach().repeat(2, 1))
    with pytest.raises(
        ValueError, match=rf"watch: expected one multiplier for each of the {2 * count} edges of the copies of one dialogue"
    ):
        edges_of(recipe, both, two, watch=Watch(multiplier[:, :-1]))
    with pytest.raises(ValueError, match="of the copies of one dialogue"):
        edges_of(recipe, Nodes(states, present, streams), one, watch=Watch(multiplier))


def test_half_precision_and_mixed_precision() -> None:
    batch, recipe = make_batch(DIALOGUES), load_recipe("speaker")
    states = torch.randn(9, 1, 2, 8)
    present = torch.ones(9, 1, dtype=torch.bool)
    for layout in ("list", "blocks"):
        edges = edges_of(recipe, Nodes(states.flatten(2), present, STREAMS[:1]), batch, layout=layout)  # type: ignore[arg-type]
        exact = edges.spread(states, edges.softmax(edges.dot(states, states)))
        leaf = states.clone().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = leaf.bfloat16()
            mixed = edges.spread(half, edges.softmax(edges.dot(half, leaf).float()))
        mixed.float().square().sum().backward()
        torch.testing.assert_close(mixed.float(), exact, rtol=0.05, atol=0.05)
        assert leaf.grad is not None and bool(leaf.grad.isfinite().all())
