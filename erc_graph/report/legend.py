"""The legend of a picture: blocks of entries with a heading, arranged in columns."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from erc_graph.report.pen import SOFT, Pen, width

_ROW, _HEAD, _GAP = 0.2, 0.36, 0.35  # height of an entry, of a heading with the space before the next, between columns


@dataclass(frozen=True, eq=False)
class Entry:
    """An entry of the legend: a text with a node symbol (`marker`, `fill`, …), a line symbol, or no symbol."""

    text: str
    node: dict[str, Any] | None = None
    line: dict[str, Any] | None = None


@dataclass(frozen=True, eq=False)
class Block:
    """Entries of the legend under a heading."""

    heading: str
    entries: list[Entry]

    @property
    def height(self) -> float:
        """Return the height in inches."""
        return _HEAD + _ROW * len(self.entries)

    @property
    def width(self) -> float:
        """Return the width in inches."""
        return max(width([self.heading], 8, "bold"), 0.36 + width([entry.text for entry in self.entries], 8))


def columns(blocks: list[Block], room: float) -> list[list[Block]]:
    """Arrange blocks in columns within `room` inches of width; long blocks are divided if the legend then needs less height."""
    longest = max((len(block.entries) for block in blocks), default=0)
    for most in range(3, longest + 1):
        found = [[part] for block in blocks for part in _broken(block, most)]
        if size(found)[0] <= room:
            return found
    height = max((block.height for block in blocks), default=0.0)
    while True:
        found = []
        for block in blocks:
            if not found or sum(other.height for other in found[-1]) + block.height > height + 1e-9:
                found.append([])
            found[-1].append(block)
        if len(found) < 2 or size(found)[0] <= room:
            return found
        height += _ROW


def _broken(block: Block, most: int) -> list[Block]:
    """Divide a block into blocks of similar lengths with at most `most` entries; only the first block has the heading."""
    count = len(block.entries)
    share = math.ceil(count / math.ceil(count / most))
    return [Block("" if start else block.heading, block.entries[start : start + share]) for start in range(0, count, share)]


def size(found: list[list[Block]]) -> tuple[float, float]:
    """Return the width and the height of the columns of the legend, in inches."""
    wide = sum(max(block.width for block in column) + _GAP for column in found) - (_GAP if found else 0)
    return wide, max((sum(block.height for block in column) for column in found), default=0.0)


def draw(pen: Pen, found: list[list[Block]], x: float, top: float) -> None:
    """Draw the columns of the legend; `x` and `top` are the coordinates of the upper left corner."""
    for column in found:
        y = top
        for block in column:
            if block.heading:
                pen.text(x, y, block.heading, 8, fontweight="bold")
            for entry in block.entries:
                y += _ROW
                if entry.line is not None:
                    pen.axes.plot([x, x + 0.27], [y, y], **{"color": SOFT, "solid_capstyle": "round", **entry.line})
                if entry.node is not None:
                    style = dict(entry.node)
                    ring = style.pop("ring", False)
                    marker, fill = style.pop("marker", "o"), style.pop("fill", "white")
                    pen.mark([x + 0.13], y, 0.115, marker, fill, **style)
                    if ring:
                        pen.mark([x + 0.13], y, 0.17, marker, "none", edgecolors="black", linewidths=1.4)
                pen.text(x + (0.36 if entry.line is not None or entry.node is not None else 0), y, entry.text, 8)
            y += _HEAD
        x += max(block.width for block in column) + _GAP
