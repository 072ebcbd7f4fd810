"""One turn at a time gives what `AngularConv` gives over the whole conversation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from erc_graph.conv.angular.angular import AngularConv, AngularConvConfig
from erc_graph.conv.angular.step import AngularMemory, angular_step
from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.errors import ConfigError
from erc_graph.graphs.recipe import EdgeRule, GraphRecipe, list_recipes, load_recipe
from tests.conv.angular.test_angular import windowed


def rule(relation: str, scope: Any, past: int | None, **options: Any) -> EdgeRule:
    return EdgeRule(relation=relation, scope=scope, past=past, future=0, **options)


def recipe(*rules: EdgeRule) -> GraphRecipe:
    return GraphRecipe(name="own", description="own", source="none", edges=rules)


RECIPES = {
    **{name: load_recipe(name) for name in list_recipes() if load_recipe(name).causal and windowed(load_recipe(name))},
    "unit": recipe(rule("near", "within", 2, weight="unit", scale=0.5), rule("same", "across", 0, weight="unit", scale=0.25)),
    "overlapping": recipe(rule("all", "within", None), rule("near", "within", 1, weight="unit", scale=2.0)),
    "speakers": recipe(rule("own", "within", 4, speaker="same"), rule("others", "within", 2, speaker="other", self_loops=False)),
    "without loops": recipe(rule("others", "within", 3, speaker="other", self_loops=False), rule("same", "across", 0)),
    "only across": recipe(rule("same", "across", 0, scale=0.5)),
    "across turns": recipe(rule("own", "within", 0), rule("before", "across", 2, self_loops=False, speaker="same", scale=0.7)),
}


def make_batch(length: int, random: torch.Generator) -> Batch:
    return Batch(
        ptr=torch.tensor([0, length]),
        speaker=torch.randint(0, 3, (length,), generator=random),
        target=torch.zeros(length, dtype=torch.long),
        judged=torch.ones(length, dtype=torch.bool),
        row=torch.arange(length),
    )


def turn_of(batch: Batch, i: int) -> Batch:
    return Batch(
        ptr=torch.tensor([0, 1]), speaker=batch.speaker[[i]], target=batch.target[[i]], judged=batch.judged[[i]], row=batch.row[[i]]
    )


def test_there_are_causal_recipes() -> None:
    assert {"causal", "causal_window"} <= set(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
@settings(max_examples=12, deadline=None)
@given(
    length=st.integers(1, 20),
    streams=st.integers(1, 3),
    depth=st.integers(1, 3),
    residual=st.booleans(),
    missing=st.sampled_from([0.0, 0.3, 1.0]),
    seed=st.integers(0, 999),
)
def test_turn_by_turn_equals_the_whole_conversation(
    name: str, length: int, streams: int, depth: int, residual: bool, missing: float, seed: int
) -> None:
    random = torch.Generator().manual_seed(seed)
    batch = make_batch(length, random)
    states = torch.randn(length, streams, 4, generator=random, dtype=torch.float64)
    states[:: 1 + seed % 5] = 0.0  # states of zeros have a direction too
    present = torch.rand(length, streams, generator=random) >= missing
    conv = AngularConv(4, RECIPES[name], AngularConvConfig(depth=depth, residual=residual)).double().eval()
    conv.layout = "list"
    with torch.no_grad():
        whole = conv(Nodes(states, present, ("a", "b", "c")[:streams]), batch).states
        memory = None
        for i in range(length):
            turn, memory = angular_step(conv, states[[i]], present[[i]], turn_of(batch, i), memory)
            torch.testing.assert_close(turn[0], whole[i], rtol=1e-6, atol=1e-7)  # edges keep their scale in float32


@pytest.mark.parametrize("name", ["causal", "causal_window"])
def test_it_agrees_with_the_default_layout_in_float32(name: str) -> None:
    random = torch.Generator().manual_seed(1)
    batch = make_batch(30, random)
    states, present = torch.randn(30, 3, 8, generator=random), torch.rand(30, 3, generator=random) >= 0.2
    conv = AngularConv(8, RECIPES[name]).eval()
    with torch.no_grad():
        whole, memory = conv(Nodes(states, present, ("a", "b", "c")), batch).states, None
        for i in range(30):
            turn, memory = angular_step(conv, states[[i]], present[[i]], turn_of(batch, i), memory)
            torch.testing.assert_close(turn[0], whole[i], rtol=1e-4, atol=1e-5)


def test_a_rule_that_is_no_window_is_refused() -> None:
    for words in ({"past": "own:1"}, {"past": 2, "speaker": "pair"}, {"past": 1, "weight": "learned"}, {"past": 1, "times": 2}):
        own = recipe(EdgeRule(relation="near", scope="within", future=0, **words))  # type: ignore[arg-type]
        with pytest.raises(
            ConfigError,
            match="recipe own: relation 'near': expected a rule with past and future counted in utterances, with speaker any",
        ):
            AngularMemory(own, 1)
