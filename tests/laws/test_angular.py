"""Laws of the angular convolution over every recipe, in every way of computing it; a loop over the definitions is the judge."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from erc_graph.conv.angular.angular import AngularConv, AngularConvConfig
from erc_graph.conv.angular.propagation import FORMS
from erc_graph.conv.angular.written import inverse_root
from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.graphs.convert import to_networkx
from erc_graph.graphs.edge_list import EdgeList
from erc_graph.graphs.edges import edges_of
from erc_graph.graphs.recipe import EdgeRule, GraphRecipe, list_recipes, load_recipe
from erc_graph.inference.pipeline import Pipeline
from tests.laws.cases import conversations, stir
from tests.laws.test_alone import LENGTHS, check_alone
from tests.laws.test_encoders import looks_ahead

LAYOUTS = (*FORMS, "list", "blocks", "dgl")


def angular_only(recipe: GraphRecipe) -> bool:
    """Whether angular weights have a use for all words of a recipe."""
    return not recipe.hyperedges and all(rule.weight != "learned" for rule in recipe.edges)


RECIPES = [name for name in list_recipes() if angular_only(load_recipe(name))]
PLAIN = [name for name in RECIPES if all(rule.windowed and rule.times == 1 for rule in load_recipe(name).edges)]
STREAMS = ("audio", "text", "visual")


def propagation(
    layout: str, recipe: GraphRecipe, batch: Batch, states: Tensor, present: Tensor, names: tuple[str, ...] = STREAMS
) -> Callable[[Tensor], Tensor]:
    """`x` → `P x` in some way of computing it."""
    if layout in FORMS:
        return FORMS[layout](recipe, batch, states, present)
    nodes = Nodes(states, present, names[: states.shape[1]])
    edges = edges_of(recipe, nodes, batch, layout=layout)  # type: ignore[arg-type]
    angular = torch.tensor([rule.weight == "angular" for rule in recipe.edges])
    weight = torch.where(edges.at_relation(angular), edges.angular(nodes.masked()), 1.0)
    root = inverse_root(edges.degree(weight))[0, ..., None]
    return lambda x: root * edges.spread(root * x, weight)


def ways(recipe: GraphRecipe) -> list[str]:
    """All ways in which a recipe can be computed."""
    at_once = all(rule.windowed and (rule.scope == "within" or (rule.past, rule.future) == (0, 0)) for rule in recipe.edges)
    return [layout for layout in LAYOUTS if at_once or layout not in FORMS]


def make_batch(lengths: list[int], seed: int, *, speakers: list[int] | None = None) -> Batch:
    """Random dialogues."""
    return conversations(None, lengths, seed, speakers=speakers)


def streams(batch: Batch) -> tuple[Tensor, Tensor]:
    """Node states `(N, 3, 3)` and presence `(N, 3)` out of a batch's features."""
    return (
        torch.stack([batch.features[name][:, :3] for name in STREAMS], 1),
        torch.stack([batch.present[name] for name in STREAMS], 1),
    )


def operator(recipe: str, layout: str, **options: Any) -> AngularConv:
    """A stirred operator, three wide."""
    conv = AngularConv(3, load_recipe(recipe), AngularConvConfig(**options))
    conv.layout = layout  # type: ignore[assignment]
    stir(conv)
    return conv


def ask_operator(conv: AngularConv, states: Tensor, present: Tensor, batch: Batch) -> Tensor:
    return conv(Nodes(states, present, STREAMS), batch).states


def test_there_is_something_to_test() -> None:
    assert {"pairwise", "mmgcn", "window", "speaker", "causal", "causal_window"} <= set(RECIPES)
    assert set(LAYOUTS) == {"auto", "tiled", "list", "blocks", "dgl"}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("recipe", RECIPES)
def test_the_operator_alone_in_any_batch_in_any_order(recipe: str, layout: str) -> None:
    def ask(conv: Any, batch: Batch) -> Tensor:
        states, present = streams(batch)
        return ask_operator(conv, states, present, batch).flatten(1)

    check_alone(ask, operator(recipe, layout), conversations(None, LENGTHS))


@st.composite
def talks(draw: st.DrawFn) -> tuple[Batch, Tensor, Tensor]:
    """Dialogues with speakers, states (some zero, some equal, some opposite) and presence."""
    lengths = draw(st.lists(st.integers(1, 7), min_size=1, max_size=4))
    rows, count = sum(lengths), draw(st.integers(1, 3))
    speakers = draw(st.lists(st.integers(0, 3), min_size=rows, max_size=rows))
    seed = draw(st.integers(0, 2**31))
    present = draw(st.lists(st.booleans(), min_size=rows * count, max_size=rows * count))
    kinds = draw(st.lists(st.sampled_from(["own"] * 5 + ["zero", "first", "against"]), min_size=rows * count, max_size=rows * count))
    batch = make_batch(lengths, seed, speakers=speakers)
    states = torch.randn(rows * count, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    for i, kind in enumerate(kinds):
        if kind != "own":
            states[i] = {"zero": 0.0, "first": 1.0, "against": -2.0}[kind] * states[0]
    return batch, states.view(rows, count, 4), torch.tensor(present).view(rows, count)


def oracle_weights(recipe: GraphRecipe, batch: Batch, states: Tensor, present: Tensor) -> dict[tuple[int, int, int, int], float]:
    """`(target row, target stream, source row, source stream)` → weight, from the definitions, one pair at a time."""
    ptr, speaker = batch.ptr.tolist(), batch.speaker.tolist()
    vectors, there = states.tolist(), present.tolist()
    squeeze, tiny = 1 - 1e-5, 1e-8  # as documented in graphs/weights.py

    def angle(a: list[float], b: list[float]) -> float:
        lengths = math.sqrt(sum(x * x for x in a) + tiny) * math.sqrt(sum(x * x for x in b) + tiny)
        cosine = sum(x * y for x, y in zip(a, b, strict=True)) / lengths
        weight = 0.5 + math.asin(squeeze * max(-1.0, min(1.0, cosine))) / (2 * math.asin(squeeze))
        assert abs(weight - (1 - math.acos(max(-1.0, min(1.0, cosine))) / math.pi)) < 0.0015  # the printed form
        return weight

    weights: dict[tuple[int, int, int, int], float] = {}
    for start, end in pairwise(ptr):
        for i in range(start, end):
            for j in range(start, end):
                for s in range(len(there[0])):
                    for t in range(len(there[0])):
                        for rule in recipe.edges:
                            reached = (j <= i and (rule.past is None or i - j <= rule.past)) or (
                                j >= i and (rule.future is None or j - i <= rule.future)
                            )
                            heard = rule.speaker == "any" or (rule.speaker == "same") == (speaker[i] == speaker[j])
                            fits = (rule.scope == "within") == (s == t) and (rule.self_loops or i != j)
                            if reached and heard and fits and there[i][s] and there[j][t]:
                                value = angle(vectors[i][s], vectors[j][t]) if rule.weight == "angular" else 1.0
                                weights[i, s, j, t] = weights.get((i, s, j, t), 0.0) + rule.scale * value
    return weights


def oracle_propagation(weights: dict[tuple[int, int, int, int], float], x: Tensor) -> Tensor:
    """`D^-1/2 W D^-1/2 x` with in-degrees, one edge at a time."""
    degree: dict[tuple[int, int], float] = {}
    for (i, s, _, _), weight in weights.items():
        degree[i, s] = degree.get((i, s), 0.0) + weight
    result = torch.zeros_like(x)
    for (i, s, j, t), weight in weights.items():
        if degree[i, s] > 0 and degree.get((j, t), 0.0) > 0:
            result[i, s] += weight / math.sqrt(degree[i, s] * degree[j, t]) * x[j, t]
    return result


def rule(relation: str, scope: Any, past: int | None, future: int | None, **options: Any) -> EdgeRule:
    return EdgeRule(relation=relation, scope=scope, past=past, future=future, **options)


OWN = {  # what no recipe of the package has: unit weights, no self-loops, gaps, streams joined at other turns, relations that overlap
    "unit": (rule("near", "within", 1, 2, weight="unit", scale=0.5), rule("same", "across", 0, 0, weight="unit", scale=0.25)),
    "overlapping": (rule("all", "within", None, None), rule("near", "within", 1, 1, weight="unit", scale=2.0)),
    "without loops": (rule("others", "within", 2, 0, speaker="other", self_loops=False), rule("same", "across", 0, 0)),
    "only across": (rule("same", "across", 0, 0, scale=0.5),),
    "across turns": (rule("own", "within", 0, 0), rule("before", "across", 2, 0, self_loops=False, speaker="same")),
}


@pytest.mark.parametrize("name", [*PLAIN, *OWN])
@settings(max_examples=6, deadline=None)
@given(conversation=talks())
def test_ways_agree_with_a_loop_over_the_definition(name: str, conversation: tuple[Batch, Tensor, Tensor]) -> None:
    recipe = GraphRecipe(name=name, description="own", source="none", edges=OWN[name]) if name in OWN else load_recipe(name)
    batch, states, present = conversation
    x = torch.randn(states.shape[0], states.shape[1], 2, dtype=torch.float64)
    weights = oracle_weights(recipe, batch, states, present)
    assume(min(weights.values(), default=1.0) > 1e-6)  # D^-1/2 of opposite states without a self-loop multiplies what rounding left
    expected = oracle_propagation(weights, x)
    for layout in ways(recipe):
        torch.testing.assert_close(propagation(layout, recipe, batch, states, present)(x), expected, rtol=1e-7, atol=1e-7)


def outcome(layout: str, recipe: GraphRecipe, batch: Batch, states: Tensor, present: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Propagated values, and their gradients with respect to the states (through the weights) and to what is propagated."""
    random = torch.Generator().manual_seed(7)
    states = states.clone().requires_grad_()
    x = torch.randn(*states.shape[:2], 3, generator=random, dtype=states.dtype).requires_grad_()
    value = propagation(layout, recipe, batch, states, present)(x)
    (value * torch.randn(value.shape, generator=random, dtype=value.dtype)).sum().backward()
    zero = torch.zeros_like
    return value.detach(), zero(states) if states.grad is None else states.grad, zero(x) if x.grad is None else x.grad


@pytest.mark.parametrize("recipe", RECIPES)
@settings(max_examples=6, deadline=None)
@given(conversation=talks())
def test_ways_agree_in_values_and_gradients(recipe: str, conversation: tuple[Batch, Tensor, Tensor]) -> None:
    first, *others = ways(load_recipe(recipe))
    block = outcome(first, load_recipe(recipe), *conversation)
    for layout in others:
        other = outcome(layout, load_recipe(recipe), *conversation)
        assert all(part.isfinite().all() for part in other)
        # At opposite states the weight is nearly zero and D^-1/2 steep: hence relative to the largest.
        for one, two in zip(other, block, strict=True):
            torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6 * max(1.0, float(two.abs().max())))


SPECIAL = {
    "one utterance": ([1], [0]),
    "one speaker": ([12, 3], [0] * 15),
    "200 speakers": ([200], list(range(200))),
}


@pytest.mark.parametrize("absent", ["nowhere", "one stream", pytest.param("everywhere", marks=pytest.mark.slow)])
@pytest.mark.parametrize("case", SPECIAL)
@pytest.mark.parametrize("recipe", RECIPES)
def test_ways_agree_at_the_ends(recipe: str, case: str, absent: str) -> None:
    lengths, speakers = SPECIAL[case]
    batch = make_batch(lengths, seed=3, speakers=speakers)
    states = streams(batch)[0]
    present = torch.ones(states.shape[:2], dtype=torch.bool)
    present[:, 1 if absent == "one stream" else slice(None)] &= absent == "nowhere"
    results = [outcome(layout, load_recipe(recipe), batch, states, present) for layout in ways(load_recipe(recipe))]
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], rtol=1e-5, atol=1e-6)
    assert (results[0][0][~present] == 0).all()
    if absent == "everywhere":
        assert all((part == 0).all() for part in results[0])


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_order_of_edges_does_not_matter(recipe: str) -> None:
    batch = make_batch([5, 8, 1], seed=4)
    states, present = streams(batch)
    nodes = Nodes(states, present, STREAMS)
    edges = edges_of(load_recipe(recipe), nodes, batch, layout="list")
    assert isinstance(edges, EdgeList)
    order = torch.randperm(len(edges.edges.source))
    assert not torch.equal(order, order.sort().values)
    some = {name: getattr(edges.edges, name) for name in ("source", "target", "relation", "times", "factor")}
    shuffled = EdgeList(
        edges.recipe, nodes, batch, replace(edges.edges, **{name: None if value is None else value[order] for name, value in some.items()})
    )
    x = torch.randn(*states.shape[:2], 2, dtype=torch.float64)
    for one, other in ((shuffled, edges),):
        torch.testing.assert_close(one.spread(x, one.angular(states)), other.spread(x, other.angular(states)), rtol=1e-9, atol=1e-10)
        torch.testing.assert_close(one.degree(one.angular(states)), other.degree(other.angular(states)), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("residual", [True, False])
def test_deep_convolution_is_the_printed_recursion(residual: bool) -> None:
    """The equations in the docstring of `conv/angular/angular.py`, one node and one number at a time."""
    batch = make_batch([3, 2], seed=8)
    states, present = streams(batch)
    config = AngularConvConfig(depth=3, alpha=0.3, lambda_=0.7, residual=residual)
    recipe = load_recipe("pairwise")
    conv = AngularConv(3, recipe, config)
    stir(conv)
    weights = oracle_weights(recipe, batch, states, present)
    first, bias = conv.first.weight.tolist(), conv.first.bias.tolist()
    rows, count, width = states.shape
    nodes = [(i, s) for i in range(rows) for s in range(count)]
    initial = {
        (i, s): [max(0.0, bias[k] + sum(first[k][c] * float(states[i, s, c]) for c in range(width))) for k in range(width)]
        for i, s in nodes
    }
    hidden = dict(initial)
    for layer in range(1, config.depth + 1):
        theta, matrix = math.log(config.lambda_ / layer + 1), conv.weights[layer - 1].tolist()
        packed = torch.tensor([[hidden[i, s] for s in range(count)] for i in range(rows)], dtype=torch.float64)
        spread = oracle_propagation(weights, packed).tolist()
        following = {}
        for i, s in nodes:
            both = [*spread[i][s], *initial[i, s]]
            following[i, s] = [
                max(
                    0.0,
                    (1 - theta) * ((1 - config.alpha) * spread[i][s][k] + config.alpha * initial[i, s][k])
                    + theta * sum(both[c] * matrix[c][k] for c in range(2 * width)),
                )
                for k in range(width)
            ]
        hidden = following
    output = ask_operator(conv, states, present, batch)
    assert output.shape == (rows, count, conv.width) == (rows, count, width * (2 if residual else 1))
    for i, s in nodes:
        expected = ([*states[i, s].tolist()] if residual else []) + hidden[i, s]
        expected = expected if present[i, s] else [0.0] * len(expected)
        assert output[i, s].tolist() == pytest.approx(expected, rel=1e-7, abs=1e-7)


# -- angular weights at the ends of their range -------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["zero", "identical", "opposite", "absent", "huge", "tiny"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.float64, marks=pytest.mark.slow)])
def test_special_states_give_numbers(recipe: str, layout: str, case: str, dtype: torch.dtype) -> None:
    batch = make_batch([4, 1], seed=5)
    states = streams(batch)[0].to(dtype)
    present = torch.ones(states.shape[:2], dtype=torch.bool)
    sign = torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0], dtype=dtype)[:, None, None]
    if case == "absent":
        present[:] = False
    else:
        change = {"zero": 0 * states, "identical": states[:1, :1] + 0 * states, "opposite": states[:1, :1] * sign + 0 * states}
        states = {**change, "huge": states * 1e15, "tiny": states * 1e-15}[case]
    states = states.clone().requires_grad_()
    conv = AngularConv(3, load_recipe(recipe)).to(dtype)
    conv.layout = layout  # type: ignore[assignment]
    output = ask_operator(conv, states, present, batch)
    output.sum().backward()
    assert output.isfinite().all()
    assert states.grad is not None and states.grad.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in conv.parameters())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_weights_of_same_right_angled_and_opposite_states(layout: str) -> None:
    """Two turns of one stream: `P[0, 1] = w / (1 + w)`, since a self-loop has weight one."""
    batch = make_batch([2], seed=0)
    present = torch.ones(2, 1, dtype=torch.bool)
    for second, weight in (([3.0, 0.0], 1.0), ([0.0, 2.0], 0.5), ([-1.0, 0.0], 0.0)):
        states = torch.tensor([[[1.0, 0.0]], [second]], dtype=torch.float64)
        spread = propagation(layout, load_recipe("pairwise"), batch, states, present)(torch.eye(2, dtype=torch.float64)[:, None])
        assert float(spread[0, 0, 1]) == pytest.approx(weight / (1 + weight), abs=1e-4)
        assert float(spread[0, 0, 0]) == pytest.approx(1 / (1 + weight), abs=1e-4)


# -- nothing comes from the future --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("recipe", RECIPES)
def test_only_recipes_that_are_not_causal_look_ahead(recipe: str, layout: str) -> None:
    batch = make_batch([5, 3], seed=6, speakers=[0, 1, 0, 0, 1, 2, 2, 0])
    states = streams(batch)[0].requires_grad_()
    present = torch.ones(states.shape[:2], dtype=torch.bool)
    values = ask_operator(operator(recipe, layout, depth=3), states, present, batch)
    assert looks_ahead(values, states, batch) is not load_recipe(recipe).causal


# -- one graph in all its forms -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", RECIPES)
def test_networkx_graph_drawn_graph_and_operator_have_the_same_edges_and_weights(recipe: str) -> None:
    """What is drawn of the pairwise method, spread by hand, is what every way of computing gives."""
    from erc_graph.methods.pairwise import Pairwise
    from tests.laws.cases import THREE, WIDTHS, Schema, small
    from tests.laws.test_edges import dialogue_of

    method = Pairwise(Schema(widths={name: WIDTHS[name] for name in STREAMS}, task=THREE), replace(small(Pairwise.Config()), graph=recipe))
    dialogue = dialogue_of(conversations(None, [7], dtype=torch.float32), THREE.labels)
    for graph in Pipeline(method).graphs(dialogue).values():
        network = to_networkx(graph)
        weights: dict[tuple[Any, Any], float] = {}
        degree: dict[Any, float] = {}
        total = 0
        for kind in graph.edge_types:
            pairs, values = graph[kind].edge_index.T.tolist(), graph[kind].edge_weight.tolist()
            total += len(pairs)
            for (i, j), value in zip(pairs, values, strict=True):
                assert network.edges[(kind[0], i), (kind[2], j), kind[1]]["weight"] == value
        assert network.number_of_edges() == total > 0
        for source, target, value in network.edges(data="weight"):
            weights[target, source] = weights.get((target, source), 0.0) + value
            degree[target] = degree.get(target, 0.0) + value
        names, rows = graph.node_types, len(dialogue)
        states = torch.stack([graph[name].x for name in names], 1)
        present = torch.stack([graph[name].present for name in names], 1)
        nodes = [(name, i) for i in range(rows) for name in names]
        assert set(network.nodes) == set(nodes)
        expected = torch.zeros(len(nodes), len(nodes))
        for a, target in enumerate(nodes):
            for b, source in enumerate(nodes):
                if (target, source) in weights and degree.get(source):  # who hears nobody sends nothing
                    expected[a, b] = weights[target, source] / math.sqrt(degree[target] * degree[source])
        eye = torch.eye(len(nodes)).view(rows, len(names), len(nodes))
        for layout in ways(method.recipe):
            spread = propagation(layout, method.recipe, dialogue.batch(), states, present, tuple(names))
            found = spread(eye).reshape(len(nodes), len(nodes))
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


# -- half precision -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", PLAIN)
def test_block_in_bfloat16_is_float32_rounded_once(recipe: str) -> None:
    """States and values in bfloat16 (8 significant bits); weights and sums in float32, so only the last rounding is left: 2^-8."""
    batch = make_batch([9, 4, 1], seed=12)
    states, present = streams(batch)
    half = states.bfloat16()
    x = torch.randn(*states.shape[:2], 5).bfloat16()
    low = FORMS["auto"](load_recipe(recipe), batch, half, present)(x)
    high = FORMS["auto"](load_recipe(recipe), batch, half.float(), present)(x.float())
    assert low.dtype is torch.bfloat16
    torch.testing.assert_close(low.float(), high, rtol=2**-8, atol=1e-6)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("recipe", RECIPES)
def test_convolution_under_bfloat16_autocast_is_near_float32(recipe: str, layout: str) -> None:
    """Nearly equal states, whose products exceed one in bfloat16: numbers all the same, within 3 % of the largest."""
    for seed in range(2):
        batch = make_batch([9, 30, 1], seed=seed)
        present = streams(batch)[1]
        random = torch.Generator().manual_seed(seed)
        states = torch.randn(1, 1, 8, generator=random) + 1e-3 * torch.randn(batch.utterances, 3, 8, generator=random)
        states = states.requires_grad_()
        conv = AngularConv(8, load_recipe(recipe))
        conv.layout = layout  # type: ignore[assignment]
        expected = ask_operator(conv, states, present, batch)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = ask_operator(conv, states, present, batch)
        output.float().sum().backward()
        assert states.grad is not None and states.grad.isfinite().all()
        torch.testing.assert_close(output.float(), expected, rtol=0, atol=0.03 * float(expected.detach().abs().max()))
