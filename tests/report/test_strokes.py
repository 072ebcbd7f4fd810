from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from erc_graph.report.pen import Pen
from erc_graph.report.relation_styles import COLOURS
from erc_graph.report.strokes import Strokes
from tests.report.conftest import four_relations, talk

Ends = list[tuple[int, ...]]


def drawn(graph: Any, lanes: tuple[str, ...] = ("text",)) -> tuple[Strokes, list[LineCollection], list[PolyCollection]]:
    """Strokes of turns one inch apart, lanes two inches apart."""
    strokes = Strokes(graph, list(lanes), np.arange(len(graph.speakers)) + 0.5, 1.0, 0.3)
    axes = Figure().add_axes((0, 0, 1, 1))
    strokes.draw(Pen(axes), 0.0, {name: 2.0 * (i + 1) for i, name in enumerate(lanes)})
    kinds = (LineCollection, PolyCollection)
    lines, tips = ([one for one in axes.collections if type(one) is kind] for kind in kinds)
    return strokes, lines, tips


def segments(lines: list[LineCollection]) -> list[np.ndarray]:
    return [segment for one in lines for segment in one.get_segments()]


def test_in_one_lane_edges_from_later_turns_hang_below() -> None:
    strokes, lines, _ = drawn(talk([0, 1, 0], {("text", "past", "text"): [(0, 2)], ("text", "future", "text"): [(2, 1)]}))
    above, below = sorted(segments(lines), key=lambda points: float(points[:, 1].mean()))
    assert above[:, 1].max() <= 2 + 1e-9 and below[:, 1].min() >= 2 - 1e-9
    assert above[0, 0] < above[-1, 0] and below[0, 0] > below[-1, 0]  # from source to target
    assert strokes.above == [strokes.below] and strokes.below > 0
    assert any("from earlier turns, below: from later turns" in remark for remark in strokes.remarks)


def test_a_symmetric_relation_is_one_line_without_arrowhead() -> None:
    strokes, lines, tips = drawn(talk([0, 1], {("text", "context", "text"): [(0, 1), (1, 0), (1, 1)]}))
    assert len(segments(lines)) == 1 and not any(len(one.get_paths()) for one in tips)
    assert strokes.below == 0 and "1 self-loop not drawn" in strokes.remarks


def test_forward_edges_have_arrowheads_and_the_caption_says_so() -> None:
    strokes, _, (tips,) = drawn(talk([0, 1, 0], {("text", "past", "text"): [(0, 1), (0, 2)]}))
    assert len(tips.get_paths()) == 2 and "arcs point forward in time only" in strokes.remarks
    for path, x in zip(tips.get_paths(), (1.5, 2.5), strict=True):
        assert np.linalg.norm(path.vertices[0] - [x, 2.0]) < 0.2


def test_relations_weights_and_patterns_of_lines() -> None:
    kinds: dict[tuple[str, str, str], Ends] = {("text", "same_past", "text"): [(0, 2)], ("text", "other_past", "text"): [(0, 1), (1, 2)]}
    kinds |= {("text", "same_future", "text"): [(2, 0)], ("text", "other_future", "text"): [(1, 0)]}
    weights = {kind: [0.2 + 0.4 * (kind[1] == "same_past")] * len(ends) for kind, ends in kinds.items()}
    weights["text", "other_future", "text"] = [1.0]
    strokes, (lines,), _ = drawn(talk([0, 1, 0], kinds, weights=weights))
    found = {
        (to_hex(colour, keep_alpha=False).upper(), dash is not None): (float(thick), float(colour[3]))
        for colour, thick, (_, dash) in zip(lines.get_colors(), lines.get_linewidths(), lines.get_linestyles(), strict=True)
    }
    looks = [(COLOURS[0], False), (COLOURS[1], False), (COLOURS[0], True), (COLOURS[1], True)]
    assert set(found) == set(looks)
    thin, middle, thick = found[looks[1]], found[looks[0]], found[looks[3]]
    assert thin < middle < thick and thin[1] < middle[1] < thick[1] and found[looks[2]] == thin
    keys = {block.heading: [entry.text for entry in block.entries] for block in strokes.key_blocks()}
    assert keys == {"Relation": ["same_past", "other_past", "same_future", "other_future"], "Weight": ["1.00", "0.20"]}


@pytest.mark.parametrize("weight", [None, 0.5])
def test_equal_or_missing_weights_are_drawn_alike(weight: float | None) -> None:
    kind = ("text", "past", "text")
    strokes, (lines,), _ = drawn(talk([0] * 3, {kind: [(0, 1), (1, 2)]}, weights=None if weight is None else {kind: [weight] * 2}))
    assert len(set(lines.get_linewidths())) == 1
    assert [entry.text for entry in strokes.key_blocks()[1].entries] == ["not weighted" if weight is None else "0.50"]


def test_relations_between_the_same_nodes_stand_beside_each_other() -> None:
    kinds: dict[tuple[str, str, str], Ends] = {("text", name, "text"): [(0, 2)] for name in ("a", "b", "c")}
    tops = sorted(float(points[:, 1].min()) for points in segments(drawn(talk([0] * 3, kinds))[1]))
    assert np.diff(tops).min() > 0.03
    across: dict[tuple[str, str, str], Ends] = {("text", "up", "audio"): [(0, 0)], ("audio", "down", "text"): [(0, 0)]}
    middles = [float(points[12, 0]) for points in segments(drawn(talk([0], across, streams=("text", "audio")), ("text", "audio"))[1])]
    assert abs(middles[0] - middles[1]) > 0.03 and np.mean(middles) == pytest.approx(0.5)


def test_an_edge_that_counts_several_times_has_several_strands() -> None:
    strokes, lines, _ = drawn(talk([0] * 2, {("text", "past", "text"): [(0, 1)] * 2}))
    assert len(segments(lines)) == 2 and "parallel lines of one kind: an edge that occurs several times" in strokes.remarks


def test_of_a_crowded_graph_the_strongest_neighbours_are_drawn() -> None:
    strokes, lines, _ = drawn(four_relations(20, window=19))
    assert len(segments(lines)) < 200
    assert any(
        f"{len(segments(lines))} of 380 arcs drawn: for each node, the arcs to its 3 strongest neighbours" in text
        for text in strokes.remarks
    )


def test_arcs_of_the_last_of_several_lanes_hang_below_it() -> None:
    strokes, lines, _ = drawn(four_relations(4, streams=("text", "audio")), ("text", "audio"))
    within = [points for points in segments(lines) if points[0, 1] == pytest.approx(points[-1, 1])]
    assert {float(points[0, 1]) for points in within} == {2.0, 4.0}
    for points in within:
        assert points[:, 1].max() <= 2 + 1e-9 if points[0, 1] == 2 else points[:, 1].min() >= 4 - 1e-9
    assert strokes.above[0] > 0 == strokes.above[1] and strokes.below > 0
