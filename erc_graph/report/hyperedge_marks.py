"""Hyperedges in a picture: outlines around the nodes of an utterance, rows of marks below the nodes, and the legend of hyperedges."""

from __future__ import annotations

import math

import numpy as np

from erc_graph.data.printable import one_line
from erc_graph.report.drawn_hyperedges import Membership, rows_of
from erc_graph.report.legend import Block, Entry
from erc_graph.report.pen import SOFT, Pen, width

_ROW, _MOST = 0.24, 12  # height of a row; rows in one picture
_COLOURS = ("#4B4F8C", "#8C4B6B", "#4B7A5A", "#7A6A3A")


class HyperedgeMarks:
    """The marks of the hyperedges in a picture.

    Attributes:
        width: Width of the widest row name, in inches.
        height: Height of all rows, in inches.
        remarks: Remarks for the caption.
    """

    def __init__(self, found: Membership, dialogue: np.ndarray) -> None:
        self.found = found
        rows = rows_of(found, dialogue)
        self.rows = [(one_line(name, 24), edges) for name, edges in rows[:_MOST]]
        self.upright = found.upright
        self.width = width([name for name, _ in self.rows], 8)
        self.height = _ROW * len(self.rows) + (0.25 if self.rows else 0)
        self.remarks = [f"{len(rows) - _MOST} more rows of hyperedges not drawn"] if len(rows) > _MOST else []
        self.relations = list(dict.fromkeys(found.relations))
        known = found.weight[~np.isnan(found.weight)]
        self.span = (float(known.min()), float(known.max())) if len(known) else (math.nan, math.nan)

    def _colour(self, edge: int) -> str:
        return _COLOURS[self.relations.index(self.found.relations[edge]) % len(_COLOURS)]

    def _strength(self, weight: np.ndarray) -> np.ndarray:
        low, high = self.span
        return np.nan_to_num((weight - low) / (high - low), nan=0.5) if high > low else np.full(len(weight), 0.5)

    def draw(self, pen: Pen, x: np.ndarray, left: float, top: float, lanes: list[float], size: float) -> None:
        """Draw the outlines and the rows of marks.

        Args:
            pen: Pen that draws on the axes.
            x: `(N,)` x coordinate of every utterance.
            left: x coordinate of the left end of the lanes (the lines of nodes of a modality).
            top: y coordinate of the upper end of the rows.
            lanes: y coordinate of every lane.
            size: Diameter of a node.
        """
        from matplotlib.patches import FancyBboxPatch

        found = self.found
        half = min(size / 2 + 0.07, 0.75 * size)  # outlines of neighbours do not touch
        bounds = np.searchsorted(found.edge, np.arange(len(found.names) + 1))  # members are sorted by hyperedge
        for edge in np.flatnonzero(self.upright).tolist():
            mine = slice(bounds[edge], bounds[edge + 1])
            if found.row[mine].size == 0:
                continue
            streams, at = found.stream[mine], float(x[found.row[mine][0]])
            up, down = (lanes[k] for k in (streams.min(), streams.max()))
            thick = 0.7 + 1.4 * float(self._strength(found.weight[mine]).mean())
            corners, colour = f"round,pad=0,rounding_size={half}", self._colour(edge)
            box = FancyBboxPatch(
                (at - half, up - half),
                2 * half,
                down - up + 2 * half,
                boxstyle=corners,
                facecolor="none",
                edgecolor=colour,
                linewidth=thick,
                zorder=3,
            )
            pen.axes.add_patch(box)
        for i, (name, edges) in enumerate(self.rows):
            y = top + _ROW * i
            pen.text(left - 0.12, y, name, 8, ha="right", color=SOFT)
            for edge in edges:
                mine = slice(bounds[edge], bounds[edge + 1])
                times = np.bincount(found.row[mine])
                rows = np.flatnonzero(times)
                strength = np.bincount(found.row[mine], self._strength(found.weight[mine]))[rows] / times[rows]
                places, colour = x[rows], self._colour(edge)
                pen.axes.plot([places.min(), places.max()], [y, y], color=colour, linewidth=1.1, alpha=0.55, zorder=3)
                for place, share in zip(places.tolist(), strength.tolist(), strict=True):
                    pen.mark([place], y, 0.07 + 0.07 * share, "s", colour, linewidths=0, zorder=4)

    def key_blocks(self) -> list[Block]:
        """Return the legend, with one entry per rule of the graph recipe and the weights of the largest and the smallest marks."""
        entries = []
        for relation in self.relations:
            edge = self.found.relations.index(relation)
            colour = self._colour(edge)
            if self.upright[edge]:
                entries.append(Entry(relation, node={"edgecolors": colour, "linewidths": 1.4}))
            else:
                entries.append(Entry(relation, node={"marker": "s", "fill": colour, "linewidths": 0}))
        low, high = self.span
        if f"{low:.2f}" != f"{high:.2f}":
            entries.append(Entry(f"larger, wider: weight {high:.2f}"))
            entries.append(Entry(f"smaller, finer: weight {low:.2f}"))
        return [Block("Hyperedge", entries)]
