"""Graphs of a conversation with the weights that a method really gives its messages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from erc_graph.conv.attention import Attention
from erc_graph.conv.relational import Relational
from erc_graph.data.corpus import Corpus
from erc_graph.data.nodes import Nodes
from erc_graph.data.sample.vectors import sample_corpus
from erc_graph.graphs.edges import Watch
from erc_graph.inference.graphs import graph_of, look, operators, watched
from erc_graph.methods.base import Method
from erc_graph.methods.conversation import Conversation, ConversationConfig
from erc_graph.methods.ensemble import Ensemble
from erc_graph.methods.hff import HFF, HFFConfig
from erc_graph.methods.inputs import Shapes
from erc_graph.methods.parts import Turn
from erc_graph.methods.schema import Schema
from tests.methods.test_base import OwnConfig


class Attending(Method):
    """Two operators, one behind the other; the second has a name."""

    Config = OwnConfig

    def parts(self, config: OwnConfig, shapes: Shapes) -> Iterator[nn.Module]:
        assert self.recipe is not None
        yield Turn(shapes.widths)
        yield Relational(sum(shapes.widths.values()), 6, self.recipe)
        last = Attention(6, 6, self.recipe, heads=2)
        last.label = "last"
        yield last


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return sample_corpus(dialogues=4, seed=2)


def test_operators_are_called_by_their_name_or_their_place(corpus: Corpus) -> None:
    method = Attending(Schema.of(corpus))
    assert list(operators(method)) == ["Relational", "last"] and operators(method)["last"] is method.chain[2]
    together = Ensemble([Attending(Schema.of(corpus)) for _ in range(2)])
    assert list(operators(together)) == ["Relational (1)", "last (1)", "Relational (2)", "last (2)"]


def test_weights_are_those_of_the_forward_pass(corpus: Corpus) -> None:
    """The attention of the receiver over its senders, head by head, from the operator's own queries and keys."""
    method = Attending(Schema.of(corpus)).eval()
    batch = corpus[0].batch()
    given: list[Nodes] = []
    handle = method.chain[2].register_forward_pre_hook(lambda _, arguments: given.append(arguments[0]))
    seen, scores = look(method, batch)
    handle.remove()
    assert list(seen) == ["Relational", "last"]
    torch.testing.assert_close(scores, method(batch).scores, rtol=1e-5, atol=1e-6)  # a list, and blocks
    graph = graph_of(seen["last"], batch, corpus[0].corpus)
    assert graph["turn"].num_nodes == len(corpus[0]) and torch.equal(graph["turn"].x, given[0].states[:, 0])
    total: dict[int, float] = {}
    for kind in graph.edge_types:
        for target, weight in zip(graph[kind].edge_index[1].tolist(), graph[kind].edge_weight.tolist(), strict=True):
            total[target] = total.get(target, 0.0) + weight
    assert len(total) == len(corpus[0]) and all(value == pytest.approx(1, abs=1e-5) for value in total.values())


def test_angular_weights_are_those_of_the_nodes(corpus: Corpus) -> None:
    config = HFFConfig(graph="speaker", width=8, layers=1, heads=2, head_width=4, feedforward=6, hidden=6)
    method = HFF(Schema.of(corpus), config).eval()
    batch = corpus[0].batch()
    seen, _ = look(method, batch)
    graph = graph_of(seen["conversation"], batch, corpus[0].corpus)
    assert graph.node_types == ["fused"]
    nodes = graph["fused"].x
    for kind in graph.edge_types:
        one, other = (nodes[index] for index in graph[kind].edge_index)
        angle = torch.nn.functional.cosine_similarity(one, other).clamp(-1, 1).acos()
        torch.testing.assert_close(graph[kind].edge_weight, 1 - angle / torch.pi, atol=2e-3, rtol=0)


def test_weights_that_an_operator_learns_are_there(corpus: Corpus) -> None:
    """The recipe alone has none, and says why; the graph of what was sent has them."""
    method = Attending(Schema.of(corpus), OwnConfig(graph="cogmen")).eval()
    batch = corpus[0].batch()
    graph = graph_of(look(method, batch)[0]["last"], batch, corpus[0].corpus)
    assert graph.edge_types and all("edge_weight" in graph[kind] and "unweighted" not in graph[kind] for kind in graph.edge_types)


def test_absent_nodes_have_no_edges(corpus: Corpus) -> None:
    batch = corpus[0].batch()
    recipe = Attending(Schema.of(corpus)).recipe
    part = Conversation(5, recipe, ConversationConfig(width=8)).eval()

    class Around(Method):
        Config = OwnConfig

        def build(self, config: OwnConfig, shapes: Shapes) -> None:
            self.conversation, self.classify = part, nn.Linear(part.width, shapes.outputs)

        def encode(self, given: Any) -> Tensor:
            rows = torch.ones(given.batch.utterances, 5)
            return self.conversation(rows, torch.arange(len(rows)) != 1, given)

    seen, _ = look(Around(Schema.of(corpus)), batch)
    graph = graph_of(seen["conversation"], batch)
    assert graph["fused"].present.tolist() == [i != 1 for i in range(batch.utterances)]
    assert graph.edge_types and not any((graph[kind].edge_index == 1).any() for kind in graph.edge_types)


def test_who_looked_is_gone_afterwards_also_where_something_failed(corpus: Corpus) -> None:
    method = Attending(Schema.of(corpus))
    part = operators(method)["last"]
    with watched(part, Watch()):
        assert part.watch is not None
    assert part.watch is None
    handle = method.classify.register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        look(method, corpus.batch())
    handle.remove()
    assert all(one.watch is None and not one._forward_pre_hooks for one in operators(method).values())
