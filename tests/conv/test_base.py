"""What every graph operator keeps to, whatever it computes."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import torch

from erc_graph.data.nodes import Nodes
from erc_graph.graphs.recipe import GraphRecipe
from tests.conv.loops import HYPER, OPERATORS, PAST, RECIPES, SPEAKERS, STREAMS, TURNS, WIDTH, make_batch, make_nodes

CUT = {f"cut {name}": RECIPES[name].past_only() for name in ("speaker", "pairs", "twice", "mute")}


def fitting(operator: str, any_turn: Iterable[str], causal: Iterable[str], hyper: Iterable[str]) -> Iterable[str]:
    """The recipes that an operator takes."""
    return causal if operator == "directed" else hyper if "hypergraph" in operator else any_turn


CASES = [(operator, name) for operator in OPERATORS for name in fitting(operator, RECIPES, PAST, HYPER)]
CAUSAL = [(operator, name) for operator in OPERATORS for name in fitting(operator, (*CUT, *PAST), PAST, TURNS) if "start" not in operator]


def graph(name: str) -> tuple[GraphRecipe, tuple[str, ...]]:
    """A recipe, and streams for it."""
    return {**RECIPES, **CUT, **PAST, **HYPER, **TURNS}[name], ("turn",) if name in PAST else STREAMS


@pytest.mark.parametrize("layout", ["blocks", "dgl", "auto"])
@pytest.mark.parametrize(("operator", "name"), CASES)
def test_layouts_agree(operator: str, name: str, layout: str) -> None:
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


@pytest.mark.parametrize(("operator", "name"), CAUSAL)
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


@pytest.mark.parametrize(("operator", "name"), [case for case in CASES if case[0] != "directed"])
def test_an_operator_over_later_turns_is_not_causal(operator: str, name: str) -> None:
    assert not OPERATORS[operator](graph(name)[0]).causal


def test_a_layer_reads_as_far_as_its_edges_and_layers_reach() -> None:
    recipe = PAST["window"]
    assert OPERATORS["attention"](recipe).past == 2
    assert OPERATORS["not gated"](recipe).past == 6  # two layers, and the degree of the source
    assert OPERATORS["directed"](recipe).past is None


@pytest.mark.parametrize(("operator", "name"), CASES)
def test_a_batch_without_utterances(operator: str, name: str) -> None:
    recipe, streams = graph(name)
    nodes = Nodes(torch.zeros(0, len(streams), WIDTH), torch.zeros(0, len(streams), dtype=torch.bool), streams)
    assert OPERATORS[operator](recipe)(nodes, make_batch([])).states.shape[:2] == (0, len(streams))


@pytest.mark.parametrize(("operator", "name"), [(operator, next(iter(fitting(operator, RECIPES, PAST, HYPER)))) for operator in OPERATORS])
def test_autocast(operator: str, name: str) -> None:
    recipe, streams = graph(name)
    conv, batch = OPERATORS[operator](recipe), make_batch()
    nodes = make_nodes(batch, streams)
    nodes = nodes.with_states(nodes.states.float().detach().requires_grad_())
    expected = conv(nodes, batch).states
    with torch.autocast("cpu", torch.bfloat16):
        found = conv(nodes, batch).states
    assert torch.allclose(found.float(), expected, atol=0.1)
    found.float().square().sum().backward()
    assert nodes.states.grad is not None and nodes.states.grad.isfinite().all()
