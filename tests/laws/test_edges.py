"""Every layout of the edges gives the same; what is drawn is what was sent; what edges are said to have done is what they did."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import Tensor

from erc_graph.conv.angular.angular import AngularConv
from erc_graph.conv.base import Conv
from erc_graph.data.batch import Batch
from erc_graph.data.corpus import Corpus, Dialogue
from erc_graph.graphs.edge_list import EdgeList
from erc_graph.graphs.edges import Edges, Watch
from erc_graph.graphs.hyperedges import HyperEdges
from erc_graph.graphs.rules import HYPEREDGE
from erc_graph.inference.explain import explain
from erc_graph.inference.graphs import graph_of, look, operators, watched
from erc_graph.inference.saved import Network
from tests.laws.cases import Case, conversations, first, over, scores, stirred, whole
from tests.laws.test_presence import outcome


def has_graph(case: Case) -> bool:
    """Cases with a graph operator."""
    return bool(operators(stirred(case)))


def has_vectors(case: Case) -> bool:
    """Cases with a graph operator that read vectors alone."""
    return has_graph(case) and not stirred(case).schema.sequences


@contextmanager
def held(network: Network, layout: str) -> Iterator[list[str]]:
    """Inside the block, all operators hold their edges so; the names of those that know this layout."""
    parts = [part for part in operators(network).values() if layout != "tiled" or isinstance(part, AngularConv)]
    before = [part.layout for part in parts]
    for part in parts:
        part.layout = layout  # type: ignore[assignment]
    try:
        yield [type(part).__name__ for part in parts]
    finally:
        for part, layout in zip(parts, before, strict=True):
            part.layout = layout  # type: ignore[assignment]


LAYOUTS = ("blocks", "dgl", "auto", "tiled")


@over(whole, has_graph)
def test_layouts_agree_in_scores_and_gradients(case: Case) -> None:
    network, batch = stirred(case), conversations(case, [6, 1, 4])
    with held(network, "list"):
        found, parts = outcome(network, batch)
    names = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
    prefixes = [name for name, part in network.named_modules() if isinstance(part, Conv)]
    assert any(part.any() for name, part in zip(names, parts, strict=False) if any(map(name.startswith, prefixes)))  # the graph learns
    for layout in LAYOUTS:
        if layout == "dgl" and not find_spec("dgl"):
            continue
        with held(network, layout):
            torch.testing.assert_close(outcome(network, batch), (found, parts), rtol=1e-6, atol=1e-8)


# -- what is drawn -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Message:
    """One `spread`: who asked for it, and with what."""

    operator: str
    edges: Edges
    x: Tensor
    weight: Tensor | None
    shown: Tensor | None
    out: Tensor


@contextmanager
def overheard(network: Network) -> Iterator[list[Message]]:
    """All messages of every operator inside the block, on listed edges, without any watch."""
    found: list[Message] = []
    asking: list[str] = []
    usual = Edges.spread

    def spread(self: Edges, x: Tensor, weight: Tensor | None = None, **words: Any) -> Tensor:
        out = usual(self, x, weight, **words)
        found.append(Message(asking[-1], self, x, weight, words.get("shown"), out))
        return out

    ends = [
        part.register_forward_pre_hook(lambda *_, name=name: asking.append(name)).remove  # type: ignore[misc]
        for name, part in operators(network).items()
    ]
    try:
        with pytest.MonkeyPatch.context() as patch, held(network, "list"):
            patch.setattr(Edges, "spread", spread)
            yield found
    finally:
        for end in ends:
            end()


@over(whole, has_graph)
def test_drawn_weights_are_those_of_the_forward_pass(case: Case) -> None:
    """What a watch records, and `graph` draws, is what `spread` was given in a plain forward pass, operator by operator.

    An operator that sends without `spread` (a recurrence over turns) is compared with a loop in its own tests.
    """
    network, batch = stirred(case), conversations(case, [6])
    seen, _ = look(network, batch)
    with overheard(network) as sent:
        scores(network, batch)
    for name, one in seen.items():
        mine = [message for message in sent if message.operator == name]
        recorded = [entry for entry in one.sent if not any(HYPEREDGE in kind for kind in entry.types)]
        assert one.sent and len(mine) in (0, len(recorded))
        for entry, message in zip(recorded, mine, strict=False):
            assert isinstance(message.edges, EdgeList)
            factor = message.edges.edges.factor
            factor = torch.ones(len(message.edges.relation), dtype=torch.float64) if factor is None else factor
            given = factor if message.weight is None else message.weight.mean(0) * factor
            given = given if message.shown is None else message.shown.mean(0)
            torch.testing.assert_close(entry.weights[0].double(), given.detach().double(), rtol=1e-6, atol=1e-9)
        graph = graph_of(one, batch)
        assert all(torch.equal(graph[kind].edge_weight, value) for kind, value in one.weights().items() if kind in graph.edge_types)


@over(whole, lambda case: any(isinstance(part, AngularConv) for part in operators(stirred(case)).values()))
def test_messages_spread_by_hand_from_the_graph_that_is_drawn(case: Case) -> None:
    """Edge by edge over the drawn graph of an angular convolution: what it summed in the forward pass."""
    network, batch = stirred(case), conversations(case, [5])
    seen, _ = look(network, batch)
    with overheard(network) as sent:
        scores(network, batch)
    for name, one in seen.items():
        if not isinstance(operators(network)[name], AngularConv):
            continue
        nodes, graph, mine = one.nodes, graph_of(one, batch), [message for message in sent if message.operator == name]
        assert nodes is not None and mine
        for message in mine:
            by_hand = torch.zeros_like(message.out)
            for source, relation, target in graph.edge_types:
                store, s, t = graph[source, relation, target], nodes.streams.index(source), nodes.streams.index(target)
                for (i, j), value in zip(store.edge_index.T.tolist(), store.edge_weight.tolist(), strict=True):
                    by_hand[j, t] += value * message.x[i, s]
            torch.testing.assert_close(by_hand, message.out, rtol=1e-5, atol=1e-7)


# -- what edges did ----------------------------------------------------------------------------------------------------------------


def dialogue_of(batch: Batch, labels: tuple[str, ...]) -> Dialogue:
    """The first dialogue of a batch of vectors as one of a corpus."""
    from erc_graph.data.tasks import Task

    rows = batch.sizes[0]
    corpus = Corpus(
        name="one",
        task=Task(name="three", labels=labels) if labels else Task(name="score", kind="score", column="score"),
        dialogue_ids=("d0",),
        ptr=torch.tensor([0, rows]),
        utterance_ids=tuple(f"d0_{row}" for row in range(rows)),
        speakers=tuple(f"s{speaker}" for speaker in batch.speaker[:rows].tolist()),
        texts=("",) * rows,
        target=batch.target[:rows],
        features={name: value[:rows] for name, value in batch.features.items()},
        present={name: value[:rows] for name, value in batch.present.items()},
        splits={"train": ("d0",), "dev": (), "test": ()},
    )
    return corpus[0]


@contextmanager
def silence(network: Network, batch: Batch) -> Iterator[None]:
    """Inside the block nothing is sent along any edge: sums are zero; of an operator that sends without `spread`, every message is."""
    seen, _ = look(network, batch)
    with pytest.MonkeyPatch.context() as patch, held(network, "list"), ExitStack() as stack:
        called: set[str] = set()
        asking: list[str] = []
        for name, part in operators(network).items():
            hook = part.register_forward_pre_hook(lambda *_, name=name: asking.append(name))  # type: ignore[misc]
            stack.callback(hook.remove)
        for kind, name in ((Edges, "spread"), (HyperEdges, "gather"), (HyperEdges, "scatter")):
            usual = getattr(kind, name)

            def nothing(self: Any, *given: Any, usual: Any = usual, **words: Any) -> Tensor:
                called.add(asking[-1])
                zero: Tensor = 0 * usual(self, *given, **words)
                return zero

            patch.setattr(kind, name, nothing)
        scores(network, batch)
        for name in seen.keys() - called:
            stack.enter_context(watched(operators(network)[name], Watch(torch.zeros(1, sum(seen[name].types.values())))))
        yield


@over(first, has_vectors)
def test_what_edges_are_said_to_do_adds_up_to_what_they_do(case: Case) -> None:
    network, turn = stirred(case), 3
    dialogue = dialogue_of(conversations(case, [5]), network.task.labels)
    found = explain(network, dialogue, turn)
    one = dialogue.batch(network.schema.widths)
    with torch.no_grad():
        with held(network, "list"):
            all_messages = scores(network, one)[turn]
        with silence(network, one):
            no_message = scores(network, one)[turn]
    effect = log_odds(all_messages, found.label, network) - log_odds(no_message, found.label, network)
    total = math.fsum(edge.attribution for edge in found.edges())
    assert abs(effect) > 1e-9
    assert abs(total - effect) <= max(0.01 * abs(effect), 1e-6)


def log_odds(values: Tensor, label: str, network: Network) -> float:
    """`log p - log (1 - p)` of a label, or the score."""
    if not network.task.labels:
        return float(values[0])
    p = values.softmax(-1)[network.task.labels.index(label)]
    return float(p.log() - (1 - p).log())


@over(first, lambda case: has_graph(case) and case.whole)
def test_asking_for_graphs_changes_nothing(case: Case) -> None:
    network, batch = stirred(case), conversations(case, [5, 2])
    before = scores(network, batch)
    _, found = look(network, batch)
    torch.testing.assert_close(found.double(), before, rtol=1e-5, atol=1e-5)
    assert torch.equal(scores(network, batch), before)
