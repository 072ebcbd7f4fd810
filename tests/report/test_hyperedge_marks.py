from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from erc_graph.report.drawn_hyperedges import membership
from erc_graph.report.hyperedge_marks import HyperedgeMarks
from erc_graph.report.pen import Pen
from tests.report.conftest import talk

STREAMS = ["text", "audio"]


def marks(count: int = 2) -> HyperedgeMarks:
    """A row per speaker, and an outline per turn: around both streams in turn 0, around text alone in turn 1."""
    speakers = [(turn, turn % count) for turn in range(2 * count)]
    edges = {
        ("text", "speaker", "hyperedge"): speakers,
        ("text", "turn", "hyperedge"): [(0, count), (1, count + 1)],
        ("audio", "turn", "hyperedge"): [(0, count)],
    }
    weights = {("text", "speaker", "hyperedge"): np.linspace(0.1, 0.9, 2 * count).tolist()}
    names = [f"speaker {i}" for i in range(count)] + ["turn 0", "turn 1"]
    found = membership(
        talk([turn % count % 9 for turn in range(2 * count)], edges, weights=weights, hyperedges=names, streams=STREAMS), STREAMS
    )
    assert found is not None
    return HyperedgeMarks(found, np.zeros(2 * count, dtype=int))


def test_rows_and_outlines_are_where_their_members_are() -> None:
    axes = Figure().add_axes((0, 0, 1, 1))
    x = np.array([0.5, 1.5, 2.5, 3.5])
    marks().draw(Pen(axes), x, 0.0, 4.0, [1.0, 2.0], 0.3)
    boxes = [
        patch.get_path().get_extents(patch.get_transform() - axes.transData) for patch in axes.patches if isinstance(patch, FancyBboxPatch)
    ]
    assert [round(box.x0 + box.width / 2, 3) for box in boxes] == [0.5, 1.5]
    assert boxes[0].y0 < 1.0 - 0.15 and boxes[0].y1 > 2.0 + 0.15 and 1.0 + 0.15 < boxes[1].y1 < 2.0 - 0.15
    assert [set(line.get_xdata()) for line in axes.lines] == [{0.5, 2.5}, {1.5, 3.5}]
    placed = [(float(mark.get_offsets()[0][0]), float(mark.get_offsets()[0][1]), float(mark.get_sizes()[0])) for mark in axes.collections]
    rows = sorted({y for _, y, _ in placed})
    assert [{x for x, y, _ in placed if y == row} for row in rows] == [{0.5, 2.5}, {1.5, 3.5}]
    sizes = {x: size for x, _, size in placed}
    assert sizes[0.5] < sizes[1.5] < sizes[2.5] < sizes[3.5]  # as the weights
    assert [text.get_text() for text in axes.texts] == ["speaker 0", "speaker 1"]


def test_keys_name_the_rules_and_the_weights() -> None:
    (block,) = marks().key_blocks()
    assert [entry.text for entry in block.entries] == ["speaker", "turn", "larger, wider: weight 0.90", "smaller, finer: weight 0.10"]


def test_many_rows_are_cut_and_the_caption_says_so() -> None:
    many = marks(30)
    assert len(many.rows) == 12 and many.remarks == ["18 more rows of hyperedges not drawn"]
    assert marks().remarks == [] and marks().height < many.height
