"""Every layout of the edges gives the same; what is drawn is what was sent; what edges are said to have done is what they did."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
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
from erc_graph.graphs.edges import Edges
from erc_graph.graphs.hyperedges import HyperEdges
from erc_graph.graphs.rules import HYPEREDGE
from erc_graph.inference.explain import explain
from erc_graph.inference.graphs import graph_of, look, operators
from erc_graph.inference.saved import Network
from tests.laws.cases import Case, anything, conversations, over, plain, scores, stirred, whole
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


def of_graph(case: Case) -> bool:
    """Default and causal, and every other recipe."""
    return whole(case) or ": graph=" in case.name


@over(of_graph, has_graph)
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


@contextmanager
def overheard() -> Iterator[list[tuple[Edges, Tensor, Tensor | None, dict[str, Any], Tensor]]]:
    """Every message of every `spread` inside the block, without any watch: edges, values, weights, words, and the sum."""
    found: list[tuple[Edges, Tensor, Tensor | None, dict[str, Any], Tensor]] = []
    usual = Edges.spread

    def spread(self: Edges, x: Tensor, weight: Tensor | None = None, **words: Any) -> Tensor:
        out = usual(self, x, weight, **words)
        found.append((self, x, weight, words, out))
        return out

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Edges, "spread", spread)
        yield found


@over(whole, has_graph)
def test_drawn_weights_are_those_of_the_forward_pass(case: Case) -> None:
    """Recorded under a watch: the same as those that `spread` was given in a plain forward pass, one operator after the other."""
    network, batch = stirred(case), conversations(case, [6])
    seen, _ = look(network, batch)
    with held(network, "list"), overheard() as sent:
        scores(network, batch)
    recorded = [(name, one) for name, watched in seen.items() for one in watched.sent if HYPEREDGE not in {k for t in one.types for k in t}]
    spreading = [name for name, part in operators(network).items() if name in seen and type(part).__name__ != "Directed"]
    recorded = [(name, one) for name, one in recorded if name in spreading]
    assert len(sent) == len(recorded) and bool(sent) == bool(recorded)
    for (_, one), (edges, _, weight, words, _) in zip(recorded, sent, strict=True):
        assert isinstance(edges, EdgeList)
        factor = torch.ones(len(edges.relation), dtype=torch.float64) if edges.edges.factor is None else edges.edges.factor
        shown = words.get("shown")
        given = shown.mean(0) if shown is not None else factor if weight is None else weight.mean(0) * factor
        torch.testing.assert_close(one.weights[0].double(), given.detach().double(), rtol=1e-6, atol=1e-9)


@over(whole, lambda case: any(isinstance(part, AngularConv) for part in operators(stirred(case)).values()))
def test_messages_spread_by_hand_from_the_graph_that_is_drawn(case: Case) -> None:
    """Edge by edge over the drawn graph of an angular convolution: what it summed in the forward pass."""
    network, batch = stirred(case), conversations(case, [5])
    seen, _ = look(network, batch)
    with held(network, "list"), overheard() as sent:
        scores(network, batch)
    first = 0
    for name, one in seen.items():
        nodes, graph, calls = one.nodes, graph_of(one, batch), sent[first : first + len(one.sent)]
        first += len(calls)
        if not isinstance(operators(network)[name], AngularConv):
            continue
        assert nodes is not None and calls
        for _, x, _, _, out in calls:
            by_hand = torch.zeros_like(out)
            for source, relation, target in graph.edge_types:
                store, s, t = graph[source, relation, target], nodes.streams.index(source), nodes.streams.index(target)
                for (i, j), value in zip(store.edge_index.T.tolist(), store.edge_weight.tolist(), strict=True):
                    by_hand[j, t] += value * x[i, s]
            torch.testing.assert_close(by_hand, out, rtol=1e-5, atol=1e-7)


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
def silence() -> Iterator[None]:
    """Inside the block nothing is sent along any edge."""
    with pytest.MonkeyPatch.context() as patch:
        for kind, name in ((Edges, "spread"), (HyperEdges, "gather"), (HyperEdges, "scatter")):
            usual = getattr(kind, name)
            patch.setattr(kind, name, lambda self, *given, usual=usual, **words: 0 * usual(self, *given, **words))
        yield


@over(whole, lambda case: has_vectors(case) and (plain(case) or case.kind == "form"))
def test_what_edges_are_said_to_do_adds_up_to_what_they_do(case: Case) -> None:
    network = stirred(case)
    batch = conversations(case, [5])
    dialogue = dialogue_of(batch, network.task.labels)
    turn = 3
    found = explain(network, dialogue, turn)
    one = dialogue.batch(network.schema.widths)
    with held(network, "list"), torch.no_grad():
        whole_graph = scores(network, one)[turn]
        if any(type(part).__name__ == "Directed" for part in operators(network).values()):
            effect = found.graph_effect  # its recurrence sends by itself; its own tests silence it
        else:
            with silence():
                no_message = scores(network, one)[turn]
            effect = log_odds(whole_graph, found.label, network) - log_odds(no_message, found.label, network)
    total = math.fsum(edge.attribution for edge in found.edges())
    assert abs(effect) > 1e-9
    assert abs(total - effect) <= max(0.01 * abs(effect), 1e-6)


def log_odds(values: Tensor, label: str, network: Network) -> float:
    """`log p - log (1 - p)` of a label, or the score."""
    if not network.task.labels:
        return float(values[0])
    p = values.softmax(-1)[network.task.labels.index(label)]
    return float(p.log() - (1 - p).log())


@over(whole, lambda case: has_graph(case) and anything(case) and case.whole)
def test_asking_for_graphs_changes_nothing(case: Case) -> None:
    network, batch = stirred(case), conversations(case, [5, 2])
    before = scores(network, batch)
    _, found = look(network, batch)
    torch.testing.assert_close(found.double(), before, rtol=1e-5, atol=1e-5)
    assert torch.equal(scores(network, batch), before)
