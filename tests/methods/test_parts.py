"""Parts that several methods are made of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from erc_graph.data.nodes import Nodes
from erc_graph.data.sample.vectors import sample_corpus
from erc_graph.encoders.recurrent import Recurrent
from erc_graph.encoders.turns import over_turns
from erc_graph.methods.base import Method
from erc_graph.methods.inputs import Given, Inputs, InputsConfig, Shapes
from erc_graph.methods.parts import Bounded, Classifier, Highway, MeanOfTexts, Rowwise, Stack, Streams, Turn, added
from erc_graph.methods.schema import Schema


@pytest.fixture(scope="module")
def given() -> Given:
    corpus = sample_corpus(dialogues=4, seed=2)
    inputs = Inputs(Schema.of(corpus), InputsConfig())
    found = inputs(corpus.batch())
    assert not found.here(("audio", "text", "visual")).all()
    return found


def test_a_turn_is_its_modalities_side_by_side_zero_where_one_is_missing(given: Given) -> None:
    turn = Turn({"audio": 8, "text": 16})
    nodes = turn(given)
    assert nodes.streams == ("turn",) and turn.width == nodes.width == 24 and not list(turn.parameters())
    for row in range(given.batch.utterances):
        here = {name: bool(given.present[name][row]) for name in ("audio", "text")}
        parts = [given.values[name][row] if here[name] else torch.zeros(width) for name, width in (("audio", 8), ("text", 16))]
        assert torch.equal(nodes.states[row, 0], torch.cat(parts)) and bool(nodes.present[row, 0]) == any(here.values())


def test_streams_have_a_linear_map_each(given: Given) -> None:
    streams = Streams({"audio": 8, "text": 16}, 5)
    nodes = streams(given)
    assert nodes.streams == ("audio", "text") and nodes.states.shape == (given.batch.utterances, 2, 5) and streams.width == 5
    for s, name in enumerate(nodes.streams):
        layer = streams.project[name]
        assert isinstance(layer, nn.Linear)
        torch.testing.assert_close(nodes.states[:, s], given.values[name] @ layer.weight.T + layer.bias)
        assert torch.equal(nodes.present[:, s], given.present[name])


def test_a_net_over_the_turns_reads_its_stream_alone(given: Given) -> None:
    net = Recurrent("gru", 5, 5)
    streams = Streams({"audio": 8, "text": 16}, 5, read={"text": net, "visual": Recurrent("gru", 5, 5)})
    assert set(streams.read) == {"text"}
    found, maps = streams(given).states, streams.project
    torch.testing.assert_close(found[:, 0], maps["audio"](given.values["audio"]))
    torch.testing.assert_close(found[:, 1], over_turns(net, maps["text"](given.values["text"]), given.batch))


def test_rows_are_added_to_some_streams() -> None:
    nodes, rows = Nodes(torch.randn(5, 3, 2), torch.ones(5, 3) > 0, ("a", "b", "c")), torch.randn(5, 2)
    found = added(nodes, rows, ("a", "c")).states
    assert torch.equal(found[:, 1], nodes.states[:, 1])
    assert torch.equal(found[:, 0], nodes.states[:, 0] + rows) and torch.equal(found[:, 2], nodes.states[:, 2] + rows)


def test_rowwise_looks_at_one_node_at_a_time() -> None:
    part = Rowwise(nn.Linear(3, 4), nn.Tanh())
    nodes = Nodes(torch.randn(5, 2, 3), torch.rand(5, 2) < 0.5, ("a", "b"))
    found = part(nodes, None)
    assert found.streams == nodes.streams and torch.equal(found.present, nodes.present) and found.width == 4
    assert torch.equal(found.states, part.layers(nodes.states))
    states = nodes.states.clone().requires_grad_()
    part(nodes.with_states(states), None).states[2, 1].sum().backward()
    assert states.grad is not None and states.grad[2, 1].all() and int(states.grad.any(-1).sum()) == 1


def test_classifier_is_two_layers_with_relu() -> None:
    classify = Classifier(3, 2, hidden=4, dropout=0.5).eval()
    states = torch.randn(5, 3)
    (first, second) = (module for module in classify.layers if isinstance(module, torch.nn.Linear))
    hidden = (states @ first.weight.T + first.bias).clamp(min=0)
    torch.testing.assert_close(classify(states), hidden @ second.weight.T + second.bias)


def test_several_texts_are_one_and_a_single_one_stays_as_it_is(given: Given) -> None:
    alone = MeanOfTexts({"audio": 8, "text": 16})
    assert alone.widths == {"audio": 8, "text": 16} and alone(given) is given
    texts = MeanOfTexts({"text1": 4, "audio": 8, "text2": 4})
    assert texts.widths == {"audio": 8, "text": 4} and set(texts.norm) == {"text1", "text2"}


def test_a_score_stays_within_its_span() -> None:
    scores = torch.tensor([-1e9, 0.0, 1e9])
    torch.testing.assert_close(Bounded(6.0, 3.0)(scores), torch.tensor([-3.0, 0.0, 3.0]))


def test_a_stack_is_its_parts_in_order(given: Given) -> None:
    one, other = Rowwise(nn.Linear(5, 4), nn.Tanh()), Rowwise(nn.Linear(4, 3))
    nodes = Nodes.of_turns(torch.randn(given.batch.utterances, 5))
    assert torch.equal(Stack([one, other])(nodes, given.batch).states, other(one(nodes, given.batch), given.batch).states)


def test_a_highway_is_between_two_layers() -> None:
    part, states = Highway(3), torch.randn(5, 3)
    with torch.no_grad():
        part.gate.weight.zero_()
        part.gate.bias.fill_(100.0)
        torch.testing.assert_close(part(states), part.nonlinear(states).clamp(min=0))
        part.gate.bias.fill_(-100.0)
        torch.testing.assert_close(part(states), part.linear(states))


@dataclass(frozen=True, kw_only=True)
class Plain:
    dropout: float = 0.0


def test_streams_stand_side_by_side_in_front_of_the_classifier() -> None:
    """`parts()` with several streams, and a chain that ends in a linear layer: the head is as wide as what comes."""

    class Chain(Method):
        Config = Plain

        def parts(self, config: Plain, shapes: Shapes) -> Iterator[nn.Module]:
            yield Streams(shapes.widths, 6)
            yield Rowwise(nn.Linear(6, 5), nn.ReLU())

    corpus = sample_corpus(dialogues=3, seed=0)
    method = Chain(Schema.of(corpus))
    assert method(corpus.batch()).states.shape == (corpus.utterances, 15)  # three streams of five
    assert method(corpus.batch()).scores.shape == (corpus.utterances, 6)
