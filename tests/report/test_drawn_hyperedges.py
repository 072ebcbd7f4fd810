from __future__ import annotations

import numpy as np
import torch

from erc_graph.report.drawn_hyperedges import membership, rows_of
from tests.report.conftest import talk

STREAMS = ["text", "audio"]
SPEAKER = {
    ("text", "speaker", "hyperedge"): [(0, 0), (2, 0), (1, 1)],
    ("hyperedge", "speaker", "text"): [(0, 2), (1, 1), (0, 0)],
    ("audio", "speaker", "hyperedge"): [(1, 1)],
}
TURN = {("text", "turn", "hyperedge"): [(0, 2), (1, 3)], ("audio", "turn", "hyperedge"): [(0, 2)]}


def test_members_of_both_directions_once() -> None:
    weights = {("text", "speaker", "hyperedge"): [0.2, 0.4, 0.6], ("hyperedge", "speaker", "text"): [0.8, 1.0, 0.4]}
    found = membership(talk([0, 1, 0], SPEAKER, weights=weights, hyperedges=("Ann", "Bob"), streams=STREAMS), STREAMS)
    assert found is not None and found.names == ["Ann", "Bob"] and found.relations == ["speaker"] * 2
    rows = list(zip(*(column.tolist() for column in (found.edge, found.stream, found.row)), strict=True))
    assert rows == [(0, 0, 0), (0, 0, 2), (1, 0, 1), (1, 1, 1)]
    assert np.allclose(found.weight, [(0.2 + 0.4) / 2, (0.4 + 0.8) / 2, (0.6 + 1.0) / 2, np.nan], equal_nan=True)
    assert membership(talk([0, 1], {}), ["text"]) is None


def test_a_rule_that_stays_within_turns_is_upright() -> None:
    graph = talk([0, 1, 0], {**SPEAKER, **TURN}, hyperedges=("Ann", "Bob", "turn 0", "turn 1"), streams=STREAMS)
    found = membership(graph, STREAMS)
    assert found is not None and found.upright.tolist() == [False, False, True, True]
    assert rows_of(found, np.zeros(3, dtype=int)) == [("Ann", [0]), ("Bob", [1])]


def test_dialogues_share_rows_beside_each_other() -> None:
    ends = {("text", "stream", "hyperedge"): [(0, 0), (1, 0), (2, 2), (3, 2)], ("text", "speaker", "hyperedge"): [(0, 1), (1, 1), (2, 3)]}
    graph = talk([0, 0, 0, 1], ends, hyperedges=("text", "Ann", "text", "Bob"))
    graph["text"].dialogue = torch.tensor([0, 0, 1, 1])
    found = membership(graph, ["text"])
    assert found is not None
    assert rows_of(found, graph["text"].dialogue.numpy()) == [("text", [0, 2]), ("speaker", [1, 3])]


def test_a_hyperedge_without_members_has_no_row() -> None:
    found = membership(talk([0, 1], {("text", "stream", "hyperedge"): [(0, 0), (1, 0)]}, hyperedges=("text", "empty")), ["text"])
    assert found is not None and rows_of(found, np.zeros(2, dtype=int)) == [("text", [0])]
    assert len(found.edge) == 2
