"""The bipartite graph of words and frames."""

from __future__ import annotations

import torch

from erc_graph.graphs.word_windows import window_graph


def test_an_edge_for_every_frame_of_a_word() -> None:
    seen = torch.tensor([[1, 1, 0, 0], [0, 1, 1, 1], [0, 0, 0, 0]]).bool()
    weights = torch.arange(12.0).view(3, 4) * seen
    graph = window_graph(weights, seen, ["well", "no"])
    edge = graph["frame", "window", "word"]
    pairs = {(frame, word): weight for frame, word, weight in zip(*edge.edge_index.tolist(), edge.edge_weight.tolist(), strict=True)}
    assert pairs == {(t, i): float(weights[i, t]) for i in range(3) for t in range(4) if seen[i, t]}
    assert graph["word"].num_nodes == 3 and graph["frame"].num_nodes == 4 and graph.node_types == ["word", "frame"]
    assert graph.words == [], "two words are said, the model reads three"
    assert window_graph(weights, seen, ["well", "no", "$x$"]).words == ["well", "no", "$x$"]
    assert graph.validate()
