"""The edges that the picture of a graph shows, and their curves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

STRANDS = 3  # an edge that is listed more often is drawn as often as this


@dataclass(frozen=True, eq=False)
class Lines:
    """`E` lines that represent the edges between two streams (modalities), or within one stream.

    Several edges with the same nodes and relation are one line. An edge and its reverse with the same relation and weight are one line
    without direction.

    Attributes:
        a: `(E,)` index of the utterance in the first stream; within one stream, the index of the earlier utterance.
        b: `(E,)` index of the utterance in the second stream; within one stream, the index of the later utterance.
        relation: `(E,)` index of the relation.
        weight: `(E,)` mean weight of the edges; NaN if the graph has no weights.
        towards: `(E,)` direction: 1 from `a` to `b`, -1 from `b` to `a`, 0 for both directions.
        times: `(E,)` number of occurrences of the edge in the graph.
    """

    a: np.ndarray
    b: np.ndarray
    relation: np.ndarray
    weight: np.ndarray
    towards: np.ndarray
    times: np.ndarray

    def take(self, chosen: np.ndarray) -> Lines:
        """Return the lines that are selected by a mask or by indices."""
        return Lines(*(getattr(self, field.name)[chosen] for field in fields(self)))

    @property
    def pair(self) -> np.ndarray:
        """Return the index `(E,)` of the pair of nodes that each line connects."""
        code: np.ndarray = np.unique(self.a * (int(self.b.max(initial=0)) + 1) + self.b, return_inverse=True)[1]
        return code


def joined_lines(graph: HeteroData, first: str, second: str, relations: list[str]) -> Lines:
    """Return all edges between two streams, in both directions, as lines.

    Args:
        graph: Graph from `build_graph`.
        first: Name of the first stream.
        second: Name of the second stream; it may equal `first`.
        relations: Names of all relations of the graph, in the order of the indices in `Lines.relation`.
    """
    index, weight, kind, forward = (
        [np.empty((2, 0), dtype=np.int64)],
        [np.empty(0)],
        [np.empty(0, dtype=np.int64)],
        [np.empty(0, dtype=bool)],
    )
    for source, relation, target in graph.edge_types:
        if {source, target} != {first, second}:
            continue
        edge = graph[source, relation, target]
        ends = edge.edge_index.cpu().numpy()
        index.append(ends if source == first else ends[::-1])
        known = "edge_weight" in edge
        weight.append(edge.edge_weight.detach().double().cpu().numpy() if known else np.full(ends.shape[1], np.nan))
        kind.append(np.full(ends.shape[1], relations.index(relation)))
        forward.append(ends[0] <= ends[1] if first == second else np.full(ends.shape[1], source == first))
    ends = np.concatenate(index, axis=1)
    ends = np.sort(ends, axis=0) if first == second else ends
    width = int(ends.max(initial=0)) + 1
    code, which = np.unique((ends[0] * width + ends[1]) * len(relations) + np.concatenate(kind), return_inverse=True)
    ahead, amount = np.concatenate(forward), np.concatenate(weight)
    sides = []  # how often and how heavy, from a to b and from b to a
    for side in (ahead, ~ahead):
        count = np.bincount(which[side], minlength=len(code))
        sides.append((count, np.bincount(which[side], amount[side], len(code)) / np.maximum(count, 1)))
    (times, there), (back_times, back) = sides
    both = (times == back_times) & ((np.abs(there - back) <= 1e-6 * np.abs(there)) | (np.isnan(there) & np.isnan(back)))
    parts = [(both, 0, times, there), (~both & (times > 0), 1, times, there), (~both & (back_times > 0), -1, back_times, back)]
    pair, relation = np.divmod(code, max(1, len(relations)))
    return Lines(
        a=np.concatenate([pair[mask] // width for mask, *_ in parts]),
        b=np.concatenate([pair[mask] % width for mask, *_ in parts]),
        relation=np.concatenate([relation[mask] for mask, *_ in parts]),
        weight=np.concatenate([mean[mask] for mask, _, _, mean in parts]),
        towards=np.concatenate([np.full(int(mask.sum()), way) for mask, way, _, _ in parts]),
        times=np.concatenate([count[mask] for mask, _, count, _ in parts]),
    )


def carpet(count: int) -> tuple[int, int]:
    """Return two limits on the number of arcs in a picture of `count` utterances.

    The first limit is the largest number of connected pairs per node for which all arcs (edges within a modality) are drawn. If there are
    more pairs, only arcs to the strongest neighbours of each node are drawn; the second limit is the number of these neighbours.
    """
    return (3, 4) if count <= 16 else (3, 3) if count <= 30 else (2, 2)


def crowded(lanes: Sequence[Lines], count: int) -> bool:
    """Return whether a stream (modality) has too many connected pairs of nodes to draw all edges in a picture of `count` utterances."""
    return any(len(np.unique(lines.pair)) > carpet(count)[0] * count for lines in lanes)


def strongest(lines: Lines, count: int) -> np.ndarray:
    """Return the mask `(E,)` of the lines within one stream (modality) that are drawn if not all lines can be drawn.

    If lines have weights, the lines to the strongest neighbours of each node are drawn; `carpet` gives the number of neighbours. The
    strength of a neighbour is the weight of its strongest line. Without weights, the line to the nearest neighbour of each node is drawn,
    per relation and direction.

    Args:
        lines: Lines within one stream.
        count: Number of utterances in the picture.
    """
    if not len(lines.a):
        return np.ones(0, dtype=bool)
    if np.isnan(lines.weight).all():
        pair, most = np.arange(len(lines.a)), 1
        kind = 2 * lines.relation + (lines.towards < 0)  # a node's nearest of each
    else:
        pair, most = lines.pair, carpet(count)[1]
        kind = np.zeros(len(lines.a), dtype=np.int64)
    first = np.unique(pair, return_index=True)[1]
    weight = np.zeros(len(first))
    np.maximum.at(weight, pair, np.abs(np.nan_to_num(lines.weight)))
    number = int(kind.max()) + 1
    a, b = lines.a[first] * number + kind[first], lines.b[first] * number + kind[first]
    order = np.lexsort((b - a, -weight))  # strongest first
    ends, of = np.concatenate([a[order], b[order]]), np.concatenate([order, order])
    by_node = np.lexsort((np.tile(np.arange(len(order)), 2), ends))
    place = np.arange(len(by_node)) - np.searchsorted(ends[by_node], ends[by_node])
    keep = np.zeros(len(first), dtype=bool)
    keep[of[by_node[place < most]]] = True
    chosen: np.ndarray = keep[pair]
    return chosen


def strands(lines: Lines, apart: bool) -> tuple[Lines, np.ndarray]:
    """Return one line per occurrence of an edge (at most three), and its position `(E,)` among the lines that connect the same nodes.

    Args:
        lines: The lines to draw.
        apart: Whether lines backward in time are drawn below the nodes, so that their positions are counted separately, from 0.
    """
    many = lines.take(np.repeat(np.arange(len(lines.a)), np.minimum(lines.times, STRANDS)))
    bundle = 2 * many.pair + (many.towards < 0 if apart else 0)
    order = np.argsort(bundle, kind="stable")
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order)) - np.searchsorted(bundle[order], bundle[order])
    return many, place


def arcs(start: np.ndarray, end: np.ndarray, y: float, height: np.ndarray) -> np.ndarray:
    """Return half ellipses `(E, 65, 2)` from `start` to `end` at the y coordinate `y`; an arc with negative `height` hangs below `y`."""
    angle = np.linspace(math.pi, 0, 65)
    middle, reach = (start + end)[:, None] / 2, (end - start)[:, None] / 2
    return np.stack([middle + reach * np.cos(angle), y - height[:, None] * np.sin(angle)], axis=-1)


def bows(start: np.ndarray, end: np.ndarray, y_start: float, y_end: float, bow: np.ndarray) -> np.ndarray:
    """Return curves `(E, 25, 2)` between two lanes (lines of nodes), bent to the right by `bow` `(E,)` to avoid nodes in between."""
    t = np.linspace(0, 1, 25)
    x = start[:, None] + (end - start)[:, None] * t + bow[:, None] * 4 * t * (1 - t)
    return np.stack([x, np.broadcast_to(y_start + (y_end - y_start) * t, x.shape)], axis=-1)


def heads(points: np.ndarray, centre: np.ndarray, radius: float, length: float, width: np.ndarray) -> np.ndarray:
    """Return arrowheads `(E, 3, 2)`, tip first, at the outline of the node at which a curve ends.

    Args:
        points: `(E, P, 2)`: the `P` points of each curve, from source to target.
        centre: `(E, 2)` centre of the target node.
        radius: Radius of a node.
        length: Length of an arrowhead.
        width: `(E,)` width of each arrowhead.
    """
    away = np.linalg.norm(points - centre[:, None], axis=2)
    outside = away >= radius
    last = np.where(outside.any(1), outside.shape[1] - 1 - outside[:, ::-1].argmax(1), 0)  # the last point before the rim
    rows, after = np.arange(len(points)), np.minimum(last + 1, points.shape[1] - 1)
    share = np.clip((away[rows, last] - radius) / np.maximum(away[rows, last] - away[rows, after], 1e-9), 0, 1)[:, None]
    tip = points[rows, last] + share * (points[rows, after] - points[rows, last])
    ahead = tip - points[rows, np.maximum(last - 1, 0)]
    ahead = ahead / np.maximum(np.linalg.norm(ahead, axis=1, keepdims=True), 1e-9)
    side = ahead[:, ::-1] * np.array([-1, 1]) * width[:, None] / 2
    base = tip - length * ahead
    return np.stack([tip, base + side, base - side], axis=1)
