"""The graphs of a corpus for PyG's loaders: those of `build_graph`, built when they are asked for."""

from __future__ import annotations

import pickle
from dataclasses import replace

import pytest
import torch

from erc_graph.data.sample.vectors import sample_corpus
from erc_graph.data.tasks import get_task
from erc_graph.errors import ConfigError, CorpusError
from erc_graph.graphs import dataset
from erc_graph.graphs.build import build_graph
from erc_graph.graphs.dataset import graph_dataset

CORPUS = sample_corpus(dialogues=7, seed=2)


def same(one: object, two: object) -> bool:
    """Whether two graphs have the same values."""
    a, b = one.to_dict(), two.to_dict()  # type: ignore[attr-defined]

    def equal(x: object, y: object) -> bool:
        if isinstance(x, dict) and isinstance(y, dict):
            return x.keys() == y.keys() and all(equal(x[key], y[key]) for key in x)
        return torch.equal(x, y) if isinstance(x, torch.Tensor) and isinstance(y, torch.Tensor) else x == y

    return equal(a, b)


def test_its_graphs_are_those_of_the_dialogues() -> None:
    from torch_geometric.data import Dataset

    graphs = graph_dataset(CORPUS, "window", ("text", "audio"))
    assert isinstance(graphs, Dataset) and len(graphs) == 7 and repr(graphs) == "GraphDataset(7)"
    for graph, dialogue in zip(graphs, CORPUS, strict=True):
        assert same(graph, build_graph(dialogue, "window", ("text", "audio")))
    assert same(graphs[-1], graphs[6]) and graphs[2:4][1].dialogue_ids == [CORPUS.dialogue_ids[3]]
    assert sorted(graph.dialogue_ids[0] for graph in graphs.shuffle()) == sorted(CORPUS.dialogue_ids)
    assert graph_dataset(CORPUS, modalities="text")[0].node_types == ["text"]
    assert len(graph_dataset(CORPUS[:0])) == 0


def test_classes_are_those_of_the_task() -> None:
    assert graph_dataset(CORPUS).num_classes == 6
    score = torch.zeros(CORPUS.utterances)
    assert graph_dataset(replace(CORPUS, task=get_task("sentiment"), target=score)).num_classes == 1


@pytest.mark.parametrize("recipe", ["pairwise", "m3net", "dialoguegcn"])
def test_a_batch_is_the_graphs_side_by_side(recipe: str) -> None:
    from torch_geometric.loader import DataLoader

    graphs = graph_dataset(CORPUS, recipe)
    (batch,) = DataLoader(graphs, batch_size=7)
    whole = build_graph(CORPUS, recipe)
    for stream in CORPUS.modalities:
        assert torch.equal(batch[stream].x, whole[stream].x) and torch.equal(batch[stream].batch, CORPUS.dialogue_of)
        assert torch.equal(batch[stream].ptr, CORPUS.ptr)
    for kind in whole.edge_types:
        if "hyperedge" not in (kind[0], kind[2]):
            assert torch.equal(batch[kind].edge_index, whole[kind].edge_index)
    assert batch[3].texts == graphs[3].texts and torch.equal(batch[3]["text"].x, graphs[3]["text"].x)


def test_nothing_is_built_before_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[str] = []
    monkeypatch.setattr(dataset, "build_graph", lambda dialogue, *_: built.append(dialogue.id))
    graphs = graph_dataset(CORPUS)
    graphs[4]
    assert built == [CORPUS.dialogue_ids[0], CORPUS.dialogue_ids[4]]  # the first one shows whether the recipe fits


def test_workers_of_another_process_get_it() -> None:
    part = graph_dataset(CORPUS, "window", "text")[3:5]
    again = pickle.loads(pickle.dumps(part))
    assert len(again) == 2 and same(again[1], part[1]) and again.recipe == part.recipe


def test_what_does_not_fit_is_said_at_once() -> None:
    with pytest.raises(ConfigError, match="unknown name 'pears'"):
        graph_dataset(CORPUS, "pears")
    with pytest.raises(CorpusError, match="no modality 'smell'"):
        graph_dataset(CORPUS, modalities=("smell",))
