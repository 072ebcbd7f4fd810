from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from erc_graph.data.sample.vectors import sample_corpus
from erc_graph.graphs.build import build_graph
from erc_graph.report.drawn_edges import Pairs, arcs, bows, joined_pairs, strongest


@settings(max_examples=100, deadline=None)
@given(nodes=st.integers(2, 9), most=st.integers(1, 4), data=st.data())
def test_strongest_equals_a_loop(nodes: int, most: int, data: st.DataObject) -> None:
    ends = [(i, j) for i in range(nodes) for j in range(i + 1, nodes) if data.draw(st.booleans())]
    weight = [data.draw(st.sampled_from([0.1, 0.5, 0.9, float("nan")])) for _ in ends]
    a, b = np.array(ends, dtype=int).reshape(-1, 2).T
    keep = strongest(Pairs(a, b, np.array(weight), np.full(len(ends), "r", dtype=object), False), most)

    def rank(k: int) -> tuple[float, int, int]:
        i, j = ends[k]
        return (-weight[k] if weight[k] == weight[k] else 0.0, j - i, k)

    expected = set()
    for node in range(nodes):
        mine = sorted((k for k in range(len(ends)) if node in ends[k]), key=rank)
        expected.update(mine[:most])
    assert set(np.flatnonzero(keep).tolist()) == expected


def test_pairs_take_both_directions_and_all_relations_together() -> None:
    corpus = sample_corpus(dialogues=3, seed=4)
    graph = build_graph(corpus, "speaker")
    pairs = joined_pairs(graph, "text", "text")
    seen: dict[tuple[int, int], list[float]] = {}
    names: dict[tuple[int, int], set[str]] = {}
    for kind in graph.edge_types:
        if kind[0] == kind[2] == "text":
            for i, j, weight in zip(*graph[kind].edge_index.tolist(), graph[kind].edge_weight.tolist(), strict=True):
                seen.setdefault((min(i, j), max(i, j)), []).append(weight)
                names.setdefault((min(i, j), max(i, j)), set()).add(kind[1])
    found = {(a, b): k for k, (a, b) in enumerate(zip(pairs.a.tolist(), pairs.b.tolist(), strict=True))}
    assert found.keys() == seen.keys()
    for pair, k in found.items():
        assert pairs.weight[k] == pytest.approx(np.mean(seen[pair]), abs=1e-6)
        assert set(pairs.relations[k].split(" / ")) == names[pair]
    assert pairs.backward
    assert not joined_pairs(build_graph(corpus, "causal"), "text", "text").backward
    across = joined_pairs(graph, "text", "audio")
    assert np.array_equal(across.a, across.b)
    assert np.array_equal(across.a, np.flatnonzero((corpus.present["text"] & corpus.present["audio"]).numpy()))


def test_curves_end_at_their_nodes() -> None:
    start, end = np.array([0.0, 1.0]), np.array([3.0, 2.0])
    curve = arcs(start, end, 5.0, 2.0, 3.0)
    assert np.allclose(curve[:, 0], [[0, 5], [1, 5]])
    assert np.allclose(curve[:, -1], [[3, 5], [2, 5]])
    assert curve[0, :, 1].min() == pytest.approx(3.0)
    assert curve[1, :, 1].min() > 3.0
    line = bows(start, end, 1.0, 4.0, 0.2)
    assert np.allclose(line[:, 0], [[0, 1], [1, 1]])
    assert np.allclose(line[:, -1], [[3, 4], [2, 4]])
    assert np.allclose(line[:, 12], [[1.7, 2.5], [1.7, 2.5]])
