from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import networkx
import pytest
import torch

from erc_graph.data.sample.vectors import SampleConfig, sample_corpus
from erc_graph.errors import ConfigError, StorageError
from erc_graph.graphs.build import build_graph
from erc_graph.graphs.convert import to_networkx
from erc_graph.graphs.graphml import write_graphml


def test_what_is_read_again_is_the_graph(tmp_path: Path) -> None:
    corpus = sample_corpus(dialogues=3, seed=1, config=SampleConfig(turns=(5, 5), speakers=(2, 2)))
    hostile = ("a<b>&\"'", "x\x00\x1b\ud800y", "名前", "\ufffe", "")
    target = corpus.target.clone()
    target[1] = -1
    corpus = replace(corpus, texts=hostile * 3, speakers=hostile * 3, target=target)
    for recipe in ("pairwise", "speaker"):
        graph = build_graph(corpus[0], recipe)
        full = to_networkx(graph)
        read = networkx.read_graphml(write_graphml(graph, tmp_path / "a.graphml"), force_multigraph=True)
        assert read.is_directed() and set(read) == {f"{stream}/{row}" for stream, row in full}
        for (stream, row), values in full.nodes(data=True):
            found = read.nodes[f"{stream}/{row}"]
            assert found["stream"] == stream and found["turn"] == values["turn"] and found["present"] is values["present"]
            assert ("label" in found) == (values["label"] is not None)
        assert read.nodes["text/0"]["text"] == "a<b>&\"'" and read.nodes["text/1"]["speaker"] == "x   y"
        ours, theirs = (
            sorted((str(m), str(n), v["relation"], v.get("weight", -1.0)) for m, n, v in edges)
            for edges in (
                read.edges(data=True),
                ((f"{m[0]}/{m[1]}", f"{n[0]}/{n[1]}", v) for m, n, v in full.edges(data=True)),
            )
        )
        assert ours == theirs


def test_hyperedges_and_repeated_edges(tmp_path: Path) -> None:
    graph = build_graph(sample_corpus(dialogues=3, seed=1, config=SampleConfig(turns=(3, 3), speakers=(2, 2)))[0])
    hyper = graph["hyperedge"]
    hyper.kind, hyper.names, hyper.num_nodes = torch.tensor([2]), ["all of <text>"], 1
    graph["text", "stream", "hyperedge"].edge_index = torch.tensor([[0, 1], [0, 0]])
    graph["text", "twice", "text"].edge_index = torch.tensor([[0, 0], [1, 1]])
    path = write_graphml(graph, tmp_path / "a.graphml", predictions=["joy", None, "fear"])
    read = networkx.read_graphml(path, force_multigraph=True)
    assert read.nodes["hyperedge/0"] == {"stream": "hyperedge", "kind": 2, "name": "all of <text>"}
    assert {a for a, _, values in read.in_edges("hyperedge/0", data=True) if values["relation"] == "stream"} == {"text/0", "text/1"}
    assert [values for a, b, values in read.edges(data=True) if values["relation"] == "twice"] == [{"relation": "twice", "times": 2}]


def test_predictions_are_an_attribute(tmp_path: Path) -> None:
    graph = build_graph(sample_corpus(dialogues=3, seed=1, config=SampleConfig(turns=(3, 3), speakers=(2, 2)))[0])
    read = networkx.read_graphml(write_graphml(graph, tmp_path / "a.graphml", predictions=["joy", None, 2]))
    assert [read.nodes[f"text/{row}"].get("predicted") for row in range(3)] == ["joy", None, graph.labels[2]]
    with pytest.raises(ConfigError, match="predictions: expected 3 values, one per utterance, found 1"):
        write_graphml(graph, tmp_path / "b.graphml", predictions=["joy"])


def test_edges_have_different_ids(tmp_path: Path) -> None:
    import xml.etree.ElementTree as ElementTree

    graph = build_graph(sample_corpus(dialogues=3)[0], "window")
    tree = ElementTree.parse(write_graphml(graph, tmp_path / "a.graphml"))
    ids = [element.get("id") for element in tree.iter() if element.tag.endswith("}edge")]
    assert len(ids) == len(set(ids)) == graph.num_edges


def test_nothing_half_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="a part of the path is a file"):
        write_graphml(build_graph(sample_corpus(dialogues=3)[0]), tmp_path / "file" / "a.graphml")
