from __future__ import annotations

import pytest
import torch
from torch import Tensor

from erc_graph.conv.directed import Directed
from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.errors import ConfigError
from erc_graph.graphs.edges import Watch
from erc_graph.graphs.recipe import GraphRecipe
from tests.conv.loops import PAST, RECIPES, STREAMS, WIDTH, edges_by_loop, into, make_batch, make_nodes, of, rule, same

TURN = ("turn",)


def loop(conv: Directed, nodes: Nodes, batch: Batch) -> Tensor:
    """The equations, one turn after the other, with the paper's score of both ends."""
    edges = edges_by_loop(conv.recipe, nodes, batch)
    states: list[Tensor] = []
    whole = torch.cat([torch.randn(WIDTH).double(), conv.key])
    for i in range(batch.utterances):
        x, heard = nodes.states[i, 0], into(edges, (i, 0))
        message = torch.zeros(WIDTH).double()
        if heard:
            share = torch.stack([whole @ torch.cat([x, states[edge.source[0]]]) for edge in heard]).softmax(0)
            for a, edge in zip(share, heard, strict=True):
                message = message + a * edge.scale * (states[edge.source[0]] @ conv.matrices[edge.relation])
        state = conv.nodal(x[None], message[None]) + conv.contextual(message[None], x[None])
        states.append(state[0] if nodes.present[i, 0] else torch.zeros(WIDTH).double())
    return torch.stack(states)[:, None]


@pytest.mark.parametrize("absent", [False, True])
@pytest.mark.parametrize("name", PAST)
def test_equations(name: str, absent: bool) -> None:
    conv = Directed(WIDTH, WIDTH, PAST[name]).double()
    batch = make_batch()
    nodes = make_nodes(batch, TURN, absent=absent)
    same(conv, nodes, batch, loop(conv, nodes, batch))


def test_layers_of_single_precision_do_not_change_each_other() -> None:
    first, second = (Directed(WIDTH, WIDTH, PAST["dag"]) for _ in range(2))
    batch = make_batch()
    nodes = make_nodes(batch, TURN)
    single = nodes.with_states(nodes.states.float())
    both = second(first(single, batch), batch).states
    expected = second.double()(first.double()(nodes, batch), batch).states
    assert torch.allclose(both, expected.float(), atol=1e-5)
    assert torch.allclose(second.float()(first.float()(single, batch), batch).states, both)
    (once,) = torch.autograd.grad(both.square().sum(), single.states, retain_graph=True)
    assert torch.equal(once, torch.autograd.grad(both.square().sum(), single.states)[0])


def test_gradients_reach_single_messages() -> None:
    conv = Directed(WIDTH, WIDTH, PAST["window"]).double()
    batch = make_batch()
    nodes = make_nodes(batch, TURN)
    conv.watch = Watch()
    conv(nodes, batch)
    (sent,) = conv.watch.record
    conv.watch.multiplier = torch.rand(1, sent.weights.shape[1], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda multiplier: _watched(conv, nodes, batch, multiplier), (conv.watch.multiplier,))


def _watched(conv: Directed, nodes: Nodes, batch: Batch, multiplier: Tensor) -> Tensor:
    conv.watch = Watch(multiplier)
    return conv(nodes, batch).states


@pytest.mark.parametrize("name", PAST)
def test_shown_weights_are_those_of_the_messages(name: str) -> None:
    conv = Directed(WIDTH, WIDTH, PAST[name]).double()
    batch = make_batch()
    nodes = make_nodes(batch, TURN, absent=False)
    conv.watch = Watch()
    states = conv(nodes, batch).states[:, 0]
    (sent,) = conv.watch.record
    edges, expected = edges_by_loop(conv.recipe, nodes, batch), []
    for edge in sorted(edges, key=lambda edge: (edge.relation, edge.target, edge.source)):
        total = sum((states[other.source[0]] @ conv.key).exp() for other in into(edges, edge.target))
        expected.append(edge.times * edge.scale * (states[edge.source[0]] @ conv.key).exp() / total)
    assert torch.allclose(sent.weights[0], torch.stack(expected))


def test_without_messages_every_turn_is_a_first_turn() -> None:
    conv = Directed(WIDTH, WIDTH, PAST["dag"]).double()
    batch = make_batch()
    nodes = make_nodes(batch, TURN, absent=False)
    conv.watch = Watch(torch.zeros(1, len(edges_by_loop(conv.recipe, nodes, batch))))
    x, nothing = nodes.states[:, 0], torch.zeros(batch.utterances, WIDTH).double()
    assert torch.allclose(conv(nodes, batch).states[:, 0], conv.nodal(x, nothing) + conv.contextual(nothing, x))


@pytest.mark.parametrize(
    ("recipe", "where"),
    [
        (RECIPES["speaker"], "same_past, same_future, other_future"),
        (of(rule("own", 2, 0)), "own"),
    ],
)
def test_edges_from_the_same_or_later_turns_are_refused(recipe: GraphRecipe, where: str) -> None:
    with pytest.raises(
        ConfigError, match=f"expected edges from earlier utterances only, found edges from the same or later utterances in {where}"
    ):
        Directed(WIDTH, WIDTH, recipe)


def test_another_width_and_several_streams_are_refused() -> None:
    with pytest.raises(ConfigError, match="width: expected 6, the width of the input states, found 4; put a linear layer before"):
        Directed(WIDTH, 4, PAST["dag"])
    conv, batch = Directed(WIDTH, WIDTH, PAST["dag"]).double(), make_batch()
    with pytest.raises(ConfigError, match="expected one stream, which has one node per utterance, found 3 streams"):
        conv(make_nodes(batch, STREAMS), batch)
    with pytest.raises(ConfigError, match="expected one stream, which has one node per utterance, found 3 streams"):
        conv.step(make_nodes(batch, STREAMS), batch, None)


def test_a_single_turn_has_gradients() -> None:
    conv, batch = Directed(WIDTH, WIDTH, PAST["dag"]).double(), make_batch([[0]])
    nodes = make_nodes(batch, ("turn",), absent=False)
    (x,) = nodes.states[0]
    nothing = torch.zeros_like(x)[None]
    same(conv, nodes, batch, (conv.nodal(x[None], nothing) + conv.contextual(nothing, x[None]))[None], but=("key", "matrices"))
