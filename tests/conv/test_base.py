"""What every graph operator keeps to, whatever it computes."""

from __future__ import annotations

import pytest
import torch

from erc_graph.data.nodes import Nodes
from erc_graph.graphs.recipe import GraphRecipe
from tests.conv.loops import OPERATORS, PAST, RECIPES, SPEAKERS, STREAMS, make_batch, make_nodes

CASES = [(operator, recipe) for operator in OPERATORS if operator != "directed" for recipe in RECIPES] + [
    ("directed", name) for name in PAST
]
CAUSAL = {
    "cut": RECIPES["speaker"].past_only(),
    "cut pairs": RECIPES["pairs"].past_only(),
    "cut twice": RECIPES["twice"].past_only(),
    **PAST,
}


def graph(name: str) -> tuple[GraphRecipe, tuple[str, ...]]:
    """A recipe, and streams for it."""
    return {**RECIPES, **CAUSAL}[name], ("turn",) if name in PAST else STREAMS


@pytest.mark.parametrize("layout", ["blocks", "dgl", "auto"])
@pytest.mark.parametrize(("operator", "name"), CASES)
def test_layouts_agree(operator: str, name: str, layout: str) -> None:
    if operator == "directed":
        pytest.skip("has one layout")
    if layout == "dgl":
        pytest.importorskip("dgl")
    recipe, streams = graph(name)
    conv = OPERATORS[operator](recipe).double()
    batch = make_batch()
    nodes = make_nodes(batch, streams)
    conv.layout = "list"
    listed = conv(nodes, batch).states
    conv.layout = layout  # type: ignore[assignment]
    found = conv(nodes, batch).states
    assert torch.allclose(found, listed, atol=1e-10)
    ends, given = [nodes.states, *conv.parameters()], torch.randn_like(listed)
    for mine, theirs in zip(torch.autograd.grad(found, ends, given), torch.autograd.grad(listed, ends, given), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-10)


@pytest.mark.parametrize(("operator", "name"), CASES)
def test_absent_nodes_are_neither_read_nor_written(operator: str, name: str) -> None:
    recipe, streams = graph(name)
    conv = OPERATORS[operator](recipe).double()
    batch = make_batch()
    nodes = make_nodes(batch, streams)
    assert not nodes.present.all()
    nothing = torch.where(nodes.present[..., None], nodes.states.detach(), torch.nan).requires_grad_()
    found, expected = conv(nodes.with_states(nothing), batch).states, conv(nodes, batch).states
    assert torch.equal(found, expected) and not found[~nodes.present].any()
    (grad,) = torch.autograd.grad(found.square().sum(), nothing)
    assert grad.isfinite().all() and not grad[~nodes.present].any()


@pytest.mark.parametrize(("operator", "name"), CASES)
def test_dialogues_do_not_see_each_other(operator: str, name: str) -> None:
    recipe, streams = graph(name)
    conv = OPERATORS[operator](recipe).double()
    batch = make_batch()
    nodes = make_nodes(batch, streams)
    together = conv(nodes, batch).states.split(batch.sizes)
    parts = zip(nodes.states.split(batch.sizes), nodes.present.split(batch.sizes), SPEAKERS, together, strict=True)
    for states, present, speakers, expected in parts:
        assert torch.allclose(conv(Nodes(states, present, streams), make_batch([speakers])).states, expected, atol=1e-12)


@pytest.mark.parametrize(
    ("operator", "name"),
    [(operator, name) for operator in OPERATORS for name in (PAST if operator == "directed" else CAUSAL) if "start" not in operator],
)
def test_a_causal_operator_hears_the_past_only_and_can_be_asked_turn_by_turn(operator: str, name: str) -> None:
    recipe, streams = graph(name)
    conv = OPERATORS[operator](recipe).double().eval()
    assert conv.causal
    batch = make_batch(SPEAKERS[:1])
    nodes = make_nodes(batch, streams)
    whole, memory = conv(nodes, batch).states, None
    for t in range(batch.utterances):
        (grad,) = torch.autograd.grad(whole[t].square().sum(), nodes.states, retain_graph=True)
        assert not grad[t + 1 :].any()
        turn = Nodes(nodes.states[t : t + 1].detach(), nodes.present[t : t + 1], streams)
        with torch.no_grad():
            answer, after = conv.step(turn, batch.__class__(**_turn(batch, t)), memory)
            again, _ = conv.step(turn, batch.__class__(**_turn(batch, t)), memory)
        assert torch.allclose(answer.states, whole[t : t + 1], atol=1e-10)
        assert torch.equal(answer.states, again.states)
        memory = after


def _turn(batch: object, t: int) -> dict[str, torch.Tensor]:
    rows = {name: getattr(batch, name)[t : t + 1] for name in ("speaker", "target", "judged", "row")}
    return {"ptr": torch.tensor([0, 1]), **rows}


@pytest.mark.parametrize("operator", [name for name in OPERATORS if name != "directed"])
def test_an_operator_over_later_turns_is_not_causal(operator: str) -> None:
    assert not OPERATORS[operator](RECIPES["speaker"]).causal


def test_a_layer_reads_as_far_as_its_edges_and_layers_reach() -> None:
    recipe = PAST["window"]
    assert OPERATORS["attention"](recipe).past == 2
    assert OPERATORS["not gated"](recipe).past == 6  # two layers, and the degree of the source
    assert OPERATORS["directed"](recipe).past is None


@pytest.mark.parametrize("operator", OPERATORS)
def test_a_batch_without_utterances(operator: str) -> None:
    conv = OPERATORS[operator](PAST["dag"])
    nothing = make_batch([])
    nodes = Nodes(torch.zeros(0, 1, 6), torch.zeros(0, 1, dtype=torch.bool), ("turn",))
    assert conv(nodes, nothing).states.shape[:2] == (0, 1)
