from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch

from erc_graph.errors import ConfigError
from erc_graph.report import explanation
from erc_graph.report.explanation import draw_explanation
from tests.report.conftest import four_relations


class Edge(NamedTuple):
    source: str
    source_turn: int
    relation: str
    target: str
    target_turn: int
    attribution: float


EDGES = [
    Edge("text", 0, "same_past", "text", 0, -0.8),  # a self-loop
    Edge("text", 0, "same_past", "text", 2, 0.6),
    Edge("audio", 1, "cross", "text", 1, -0.4),
    Edge("text", 1, "speaker", "hyperedge", 0, 0.1),
    Edge("hyperedge", 0, "speaker", "text", 1, 0.06),
    Edge("hyperedge", 1, "speaker", "text", 2, -0.03),
    Edge("text", 3, "other_future", "text", 2, 0.01),
]


@dataclass
class Why:
    """As `erc_graph.explain` answers."""

    graphs: dict[str, Any]
    dialogue: Any = field(default_factory=lambda: SimpleNamespace(id="talk"))
    turn: int = 2
    label: str = "joy"

    def edges(self, most: int | None = None, part: str | None = None) -> list[Edge]:
        return EDGES[:most] if part == "fused" else []


def why() -> Why:
    graph = four_relations(4, streams=("text", "audio"), hyperedges=("Ann", "Bob"))
    graph["text", "speaker", "hyperedge"].edge_index = torch.tensor([[1, 3, 0, 2], [0, 0, 1, 1]])
    return Why({"pairs": four_relations(4), "fused": graph})


def drawn(monkeypatch: pytest.MonkeyPatch, **arguments: Any) -> Any:
    found: list[Any] = []
    monkeypatch.setattr(explanation, "draw_graph", lambda graph, path, title: found.append((graph, title)))
    draw_explanation(why(), "unused.png", **arguments)
    return found[0]


def shares(graph: Any) -> dict[tuple[str, int, str, str, int], float]:
    return {
        (m, i, relation, n, j): pytest.approx(weight, abs=1e-4)
        for m, relation, n in graph.edge_types
        for (i, j), weight in zip(graph[m, relation, n].edge_index.T.tolist(), graph[m, relation, n].edge_weight.tolist(), strict=True)
    }


def test_edges_by_side_with_their_share_in_percent(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, title = drawn(monkeypatch)
    assert title == "talk, turn 2: joy – edges of fused, % of all"
    assert graph["hyperedge"].names == ["Ann, for", "Bob, against"] and graph["hyperedge"].kind.tolist() == [0, 1]
    assert shares(graph) == {  # of 2.0 in all, the self-loop included
        ("text", 0, "for", "text", 2): 30.0,
        ("audio", 1, "against", "text", 1): 20.0,
        ("text", 1, "for", "hyperedge", 0): 8.0,  # both ways together
        ("text", 3, "for", "hyperedge", 0): 0.0,  # a member that does not matter
        ("text", 2, "against", "hyperedge", 1): 1.5,
        ("text", 0, "against", "hyperedge", 1): 0.0,
        ("text", 3, "for", "text", 2): 0.5,
    }


def test_only_the_weightiest(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, _ = drawn(monkeypatch, most=2)
    assert set(shares(graph)) == {("text", 0, "for", "text", 2), ("audio", 1, "against", "text", 1)}
    assert graph.node_types == ["text", "audio"]


def test_a_picture_with_a_key_for_each_side(tmp_path: Path) -> None:
    svg = draw_explanation(why(), tmp_path / "why.svg", "fused").read_text()
    for words in ("for", "against", "Ann, for", "Bob, against"):
        assert f"<!-- {words} -->" in svg
    png = draw_explanation(why(), tmp_path / "none.png", "pairs").read_bytes()  # no edge has any weight
    assert png.startswith(b"\x89PNG")


def test_what_cannot_be_drawn(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match="expected a method with a graph, found one without; use `inputs` for the attributions of the utterances"
    ):
        draw_explanation(Why({}), tmp_path / "none.png")
    with pytest.raises(ConfigError, match=r"part: expected the name of a graph operator of the method \(pairs, fused\), found 'text'"):
        draw_explanation(why(), tmp_path / "none.png", "text")
    with pytest.raises(ConfigError, match=r"file name ending in \.png or \.svg"):
        draw_explanation(why(), tmp_path / "none.jpg", "fused")
