from __future__ import annotations

import sys
from collections import Counter
from typing import Any

import pytest
import torch

from erc_graph.data.sample.vectors import sample_corpus
from erc_graph.errors import ConfigError
from erc_graph.graphs.build import build_graph
from erc_graph.graphs.convert import label_name, streams_of, to_dgl, to_networkx
from erc_graph.graphs.recipe import list_recipes

CORPUS = sample_corpus(dialogues=4, seed=2)
Edges = Counter[tuple[str, int, str, str, int, Any]]


def listed(graph: Any) -> Edges:
    found: Edges = Counter()
    for m, relation, n in graph.edge_types:
        edge = graph[m, relation, n]
        weights = edge.edge_weight.tolist() if "edge_weight" in edge else [None] * edge.num_edges
        for i, j, weight in zip(*edge.edge_index.tolist(), weights, strict=True):
            found[m, i, relation, n, j, weight] += 1
    return found


@pytest.mark.parametrize("name", list_recipes())
def test_networkx_has_the_same_nodes_edges_and_weights(name: str) -> None:
    graph = build_graph(CORPUS, name)
    other = to_networkx(graph)
    assert Counter((*a, d["relation"], *b, d.get("weight")) for a, b, d in other.edges(data=True)) == listed(graph)
    assert all(key == d["relation"] for *_, key, d in other.edges(keys=True, data=True))
    hyperedges = graph["hyperedge"].num_nodes if "hyperedge" in graph.node_types else 0
    assert other.number_of_nodes() == 3 * CORPUS.utterances + hyperedges
    dialogue = CORPUS.dialogue_of.tolist()
    for (stream, i), values in other.nodes(data=True):
        if stream == "hyperedge":
            assert values == {"kind": int(graph["hyperedge"].kind[i]), "name": graph["hyperedge"].names[i]}
            continue
        assert values == {
            "speaker": CORPUS.speakers[i],
            "label": CORPUS.annotations["label"][i],
            "dialogue": CORPUS.dialogue_ids[dialogue[i]],
            "turn": i - int(CORPUS.ptr[dialogue[i]]),
            "present": bool(CORPUS.present[stream][i]),
            "text": CORPUS.texts[i],
        }


def with_hyperedges(graph: Any) -> Any:
    """A hyperedge of the first two turns with text, and one of the third in two streams; and edges that are listed twice."""
    hyper = graph["hyperedge"]
    hyper.kind, hyper.names, hyper.num_nodes = torch.tensor([0, 1]), ["first", "third"], 2
    graph["text", "stream", "hyperedge"].edge_index = torch.tensor([[0, 1], [0, 0]])
    graph["text", "stream", "hyperedge"].edge_weight = torch.tensor([0.25, 0.75])
    graph["hyperedge", "stream", "text"].edge_index = torch.tensor([[0], [1]])
    graph["audio", "turn", "hyperedge"].edge_index = torch.tensor([[2], [1]])
    graph["text", "twice", "text"].edge_index = torch.tensor([[0, 3, 0, 0], [1, 2, 1, 1]])
    graph["text", "twice", "text"].edge_weight = torch.tensor([0.5, 1.0, 0.5, 0.5])
    return graph


def test_networkx_has_hyperedges_and_counts_repeated_edges() -> None:
    other = to_networkx(with_hyperedges(build_graph(CORPUS, "window")))
    assert [other.nodes["hyperedge", i] for i in range(2)] == [{"kind": 0, "name": "first"}, {"kind": 1, "name": "third"}]
    assert other.number_of_nodes() == 3 * CORPUS.utterances + 2
    around = {
        (a, b, key): {name: value for name, value in values.items() if name != "relation"}
        for a, b, key, values in other.edges(keys=True, data=True)
        if "hyperedge" in (a[0], b[0]) or key == "twice"
    }
    assert around == {
        (("text", 0), ("hyperedge", 0), "stream"): {"weight": 0.25},
        (("text", 1), ("hyperedge", 0), "stream"): {"weight": 0.75},
        (("hyperedge", 0), ("text", 1), "stream"): {},
        (("audio", 2), ("hyperedge", 1), "turn"): {},
        (("text", 0), ("text", 1), "twice"): {"weight": 0.5, "times": 3},
        (("text", 3), ("text", 2), "twice"): {"weight": 1.0},
    }
    assert streams_of(build_graph(CORPUS, "window")) == ["text", "audio", "visual"]


def test_dgl_has_hyperedges_and_repeated_edges() -> None:
    pytest.importorskip("dgl")
    other = to_dgl(with_hyperedges(build_graph(CORPUS, "window")))
    assert other.num_nodes("hyperedge") == 2 and other.nodes["hyperedge"].data["kind"].tolist() == [0, 1]
    assert other.edges[("text", "stream", "hyperedge")].data["weight"].tolist() == [0.25, 0.75]
    assert [ends.tolist() for ends in other.edges(etype=("hyperedge", "stream", "text"))] == [[0], [1]]
    assert other.num_edges(("text", "twice", "text")) == 4


@pytest.mark.parametrize("name", list_recipes())
def test_dgl_has_the_same_nodes_edges_and_weights(name: str) -> None:
    pytest.importorskip("dgl")
    graph = build_graph(CORPUS, name)
    other = to_dgl(graph)
    found: Edges = Counter()
    for m, relation, n in other.canonical_etypes:
        source, target = other.edges(etype=(m, relation, n), order="eid")
        data = other.edges[m, relation, n].data
        weights = data["weight"].tolist() if "weight" in data else [None] * len(source)
        for i, j, weight in zip(source.tolist(), target.tolist(), weights, strict=True):
            found[m, i, relation, n, j, weight] += 1
    assert found == listed(graph)
    assert set(other.canonical_etypes) == set(graph.edge_types)
    if "hyperedge" in graph.node_types:
        assert torch.equal(other.nodes["hyperedge"].data["kind"], graph["hyperedge"].kind)
    for stream in streams_of(graph):
        assert other.num_nodes(stream) == CORPUS.utterances
        for key in ("x", "present", "speaker", "y", "dialogue", "turn"):
            assert torch.equal(other.nodes[stream].data[key], graph[stream][key])


def test_dgl_of_a_structure_without_features() -> None:
    pytest.importorskip("dgl")
    from dataclasses import replace

    graph = build_graph(replace(CORPUS, features={}, present={}), "window", modalities=("text",))
    other = to_dgl(graph)
    assert other.num_nodes() == CORPUS.utterances
    assert "weight" not in other.edata


def test_without_dgl_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dgl", None)
    with pytest.raises(ConfigError, match=r'DGL cannot be imported .*; pip install "erc_graph\[dgl\]"'):
        to_dgl(build_graph(CORPUS[0]))


def test_label_names() -> None:
    assert [label_name(value, ["a", "b"]) for value in (-1, 0, 1)] == [None, "a", "b"]
    assert label_name(3, []) == "3"
    assert [label_name(value, []) for value in (0.5, float("nan"))] == [0.5, None]
