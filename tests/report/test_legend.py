from __future__ import annotations

import pytest
from matplotlib.figure import Figure

from erc_graph.report import legend
from erc_graph.report.legend import Block, Entry, columns, size
from erc_graph.report.pen import Pen

BLOCKS = [
    Block("People", [Entry(f"name {i}", node={}) for i in range(7)]),
    Block("Lines", [Entry("line", line={}), Entry("other", line={})]),
]


def names(found: list[list[Block]]) -> list[str]:
    return [entry.text for column in found for block in column for entry in block.entries]


@pytest.mark.parametrize("room", [0.5, 1.2, 2.5, 4.0, 9.0])
def test_every_entry_is_there_once_and_in_order(room: float) -> None:
    assert names(columns(BLOCKS, room)) == names([BLOCKS])


def test_more_room_makes_the_keys_lower_and_wider() -> None:
    shapes = [size(columns(BLOCKS, room)) for room in (0.5, 2.0, 3.0, 4.0)]
    assert [height for _, height in shapes] == sorted((height for _, height in shapes), reverse=True)
    assert len({height for _, height in shapes}) >= 3
    assert all(width <= room for (width, _), room in zip(shapes[1:], (2.0, 3.0, 4.0), strict=True))
    assert columns([], 3.0) == [] and size([]) == (0, 0)


def test_a_broken_block_is_headed_once() -> None:
    headings = [block.heading for column in columns(BLOCKS, 9.0) for block in column]
    assert headings.count("People") == headings.count("Lines") == 1 and len(headings) > 2


def test_samples_stand_beside_their_names() -> None:
    axes = Figure(figsize=(6, 3)).add_axes((0, 0, 1, 1), xlim=(0, 6), ylim=(3, 0))
    legend.draw(Pen(axes), columns(BLOCKS, 5.0), 0.2, 0.5)
    places = {text.get_text(): text.get_position() for text in axes.texts}
    assert len(axes.collections) == 7 and len(axes.lines) == 2
    for line, name in zip(axes.lines, ("line", "other"), strict=True):
        assert set(line.get_ydata()) == {places[name][1]} and max(line.get_xdata()) < places[name][0]
