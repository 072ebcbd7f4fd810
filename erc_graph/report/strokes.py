"""The arcs and lines of the picture of a graph: selection, positions, widths, and entries in legend and caption."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from erc_graph.graphs.rules import HYPEREDGE
from erc_graph.report.drawn_edges import STRANDS, Lines, arcs, bows, carpet, crowded, heads, joined_lines, strands, strongest
from erc_graph.report.legend import Block, Entry
from erc_graph.report.pen import SOFT, Pen
from erc_graph.report.relation_styles import DASHES, looks

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

_NEST = 0.045  # inches between the strands of a bundle


class Strokes:
    """The drawn edges between streams (modalities) and within streams; the nodes of a stream are drawn on one lane.

    Attributes:
        above: Height of the arcs above each lane, in inches.
        below: Height of the arcs below the last lane, in inches.
        remarks: Remarks for the caption.
    """

    def __init__(self, graph: HeteroData, lanes: list[str], x: np.ndarray, step: float, size: float) -> None:
        self.lanes, self.x, self.step, self.size = lanes, x, step, size
        count = len(x)
        self.fine = 1.0 if count <= 30 else 0.75  # thinner lines where there are many
        kinds = [kind for kind in graph.edge_types if HYPEREDGE not in (kind[0], kind[2])]
        self.looks, look_of = looks(kinds)
        relations = list(look_of)
        self.chosen: dict[tuple[int, int], Lines] = {}
        loops = 0
        for i, first in enumerate(lanes):
            for j, second in enumerate(lanes[i:], start=i):
                lines = self.chosen[i, j] = joined_lines(graph, first, second, relations)
                if i == j:
                    inside = self.chosen[i, i] = lines.take(lines.a != lines.b)
                    loops += int(lines.times.sum() - inside.times.sum())
        whole = [self.chosen[i, i] for i in range(len(lanes))]
        if crowded(whole, count):
            self.chosen |= {(i, i): lines.take(strongest(lines, count)) for i, lines in enumerate(whole)}
        total, drawn = (sum(len(lines.a) for lines in some) for some in (whole, [self.chosen[i, i] for i in range(len(lanes))]))
        self.look = {place: np.array([look_of[relations[r]] for r in lines.relation], dtype=int) for place, lines in self.chosen.items()}
        within = [self.chosen[i, i] for i in range(len(lanes))]
        backward = any((lines.towards < 0).any() for lines in within)
        directed = any((lines.towards != 0).any() for lines in within)
        self.apart = len(lanes) == 1 and backward  # edges from later turns below the lane
        weights = np.concatenate([lines.weight for lines in self.chosen.values()])
        known = weights[~np.isnan(weights)]
        self.span = (float(known.min()), float(known.max())) if len(known) else (math.nan, math.nan)
        self.unweighted = bool(np.isnan(weights).any())

        reach = max((float((x[lines.b] - x[lines.a]).max(initial=0)) for lines in within), default=0.0)
        self.longest = max(step, reach)
        rise = min(2.0, 0.45 + 0.1 * reach / step)
        upper = [bool((lines.towards >= 0).any()) if self.apart else bool(len(lines.a)) for lines in within]
        hangs = len(lanes) > 1  # arcs of the last lane hang below it: the lines to the lane above stay clear
        self.above = [rise if arcs_there and not (hangs and i == len(lanes) - 1) else 0.0 for i, arcs_there in enumerate(upper)]
        self.below = rise if self.apart or (hangs and upper[-1]) else 0.0
        self.rise = [-rise if hangs and i == len(lanes) - 1 else rise for i in range(len(lanes))]

        self.remarks = []
        if self.apart:
            self.remarks.append("above the lane: edges from earlier turns, below: from later turns")
        elif directed and not backward:
            self.remarks.append("arcs point forward in time only")
        if drawn < total:
            those = f"{carpet(count)[1]} strongest neighbours" if len(known) else "nearest neighbours of every kind"
            self.remarks.append(f"{drawn} of {total} arcs drawn: for each node, the arcs to its {those}")
        if loops:
            self.remarks.append(f"{loops} self-loop{'s' if loops > 1 else ''} not drawn")
        if any((lines.times > 1).any() for lines in self.chosen.values()):
            self.remarks.append("parallel lines of one kind: an edge that occurs several times")

    def strength(self, weight: np.ndarray) -> np.ndarray:
        """Scale weights to [0, 1] from the smallest to the largest; return 0.5 if all weights are equal, or for a missing weight."""
        low, high = self.span
        return np.nan_to_num((weight - low) / (high - low), nan=0.5) if high > low else np.full(len(weight), 0.5)

    def draw(self, pen: Pen, left: float, y: dict[str, float]) -> None:
        """Draw all lines and arrowheads.

        Args:
            pen: Pen that draws on the axes.
            left: x coordinate of the left end of the lanes.
            y: y coordinate of every lane.
        """
        heights = [y[name] for name in self.lanes]
        for (i, j), lines in self.chosen.items():
            if not len(lines.a):
                continue
            many, place = strands(lines, self.apart)
            look = np.repeat(self.look[i, j], np.minimum(lines.times, STRANDS))
            points = self._arcs(many, place, i, heights[i]) if i == j else self._bows(many, place, i, j, heights)
            points = np.where((many.towards < 0)[:, None, None], points[:, ::-1], points)  # from source to target
            self._stroke(pen, many, points, look, heights[i], heights[j], 2 if i == j else 1)
        if self.apart:
            for sign, words in ((-1, "from earlier"), (1, "from later")):
                pen.text(left - 0.12, heights[0] + sign * 0.42, words, 8, ha="right", color=SOFT)

    def _arcs(self, lines: Lines, place: np.ndarray, lane: int, y: float) -> np.ndarray:
        start, end = self.x[lines.a], self.x[lines.b]
        reach = (end - start) / self.longest
        # Short arcs leave a node further outside than long ones: the arcs of a node do not cross each other near it.
        inset = self.size * (0.06 + 0.26 * (1 - reach)) + _NEST * place
        height = np.abs(self.rise[lane]) * reach**0.6 - 1.3 * _NEST * place
        side = np.where(lines.towards < 0, -1, 1) if self.apart else np.full(len(place), np.sign(self.rise[lane]))
        inset = np.minimum(inset, 0.4 * (end - start))
        return arcs(start + inset, end - inset, y, side * height)

    def _bows(self, lines: Lines, place: np.ndarray, i: int, j: int, y: list[float]) -> np.ndarray:
        count = np.bincount(lines.pair)[lines.pair]
        bow = min(0.45 * self.step, self.size / 2 + 0.12) * (j - i - 1) + 1.6 * _NEST * (place - (count - 1) / 2)
        return bows(self.x[lines.a], self.x[lines.b], y[i], y[j], bow)

    def _stroke(self, pen: Pen, lines: Lines, points: np.ndarray, look: np.ndarray, y_a: float, y_b: float, zorder: int) -> None:
        from matplotlib.collections import LineCollection, PolyCollection
        from matplotlib.colors import to_rgba_array

        strength = self.strength(lines.weight)
        order = strength.argsort(kind="stable")  # the strongest on top
        rgba = to_rgba_array([self.looks[k].paint for k in look])
        rgba[:, 3] = _opacity(strength)
        thick = self.fine * _thickness(strength)
        dashes = [(0, DASHES[self.looks[k].dash] or None) for k in look[order].tolist()]
        collection = LineCollection(list(points[order]), linewidths=thick[order], colors=rgba[order], linestyles=dashes, zorder=zorder)
        pen.axes.add_collection(collection, autolim=False)
        if self.size < 0.2:
            return
        directed = lines.towards != 0
        towards_b = lines.towards > 0
        centre = np.stack([np.where(towards_b, self.x[lines.b], self.x[lines.a]), np.where(towards_b, y_b, y_a)], axis=1)
        tips = heads(points[directed], centre[directed], self.size / 2 + 0.015, 0.085, 0.055 + 0.017 * thick[directed])
        pen.axes.add_collection(
            PolyCollection(list(tips), facecolors=rgba[directed], edgecolors="none", zorder=zorder + 0.1), autolim=False
        )

    def key_blocks(self) -> list[Block]:
        """Return the legend, with the drawn relations and the range of weights."""
        used = sorted({int(k) for look in self.look.values() for k in np.unique(look)})
        entries = [Entry(self.looks[k].name, line=_sample(0.6, self.looks[k].paint, DASHES[self.looks[k].dash])) for k in used]
        low, high = self.span
        weights: list[Entry] = []
        if f"{low:.2f}" != f"{high:.2f}":
            weights = [Entry(f"{high:.2f}", line=_sample(1.0, SOFT)), Entry(f"{low:.2f}", line=_sample(0.0, SOFT))]
        elif not math.isnan(low):
            weights = [Entry(f"{low:.2f}", line=_sample(0.5, SOFT))]
        if entries and self.unweighted:
            weights.append(Entry("not weighted", line=_sample(0.5, SOFT)))
        return [Block("Relation", entries), Block("Weight", weights)]


def _sample(strength: float, colour: str, dashes: tuple[float, ...] = ()) -> dict[str, object]:
    at = np.array(strength)
    style = (0, dashes) if dashes else "-"
    return {"color": colour, "alpha": float(_opacity(at)), "linewidth": float(_thickness(at)), "linestyle": style, "dash_capstyle": "butt"}


def _thickness(strength: np.ndarray) -> np.ndarray:
    return 0.6 + 2.1 * strength


def _opacity(strength: np.ndarray) -> np.ndarray:
    return 0.38 + 0.55 * strength
