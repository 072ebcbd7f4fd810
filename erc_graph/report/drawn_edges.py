"""Which edges of a graph a picture shows, and their curves."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData


@dataclass(frozen=True, eq=False)
class Pairs:
    """Joined pairs of nodes of two streams (or of one): both directions and all relations taken together.

    Attributes:
        a: `(E,)` rows in the first stream; within one stream the earlier row.
        b: `(E,)` rows in the second stream.
        weight: `(E,)` mean weight, NaN where the graph has none.
        relations: `(E,)` names of the relations that join the pair, as `same_past / same_future`.
        backward: Whether an edge within a stream points back in time.
    """

    a: np.ndarray
    b: np.ndarray
    weight: np.ndarray
    relations: np.ndarray
    backward: bool

    def take(self, chosen: np.ndarray) -> Pairs:
        """Only the chosen pairs."""
        return Pairs(self.a[chosen], self.b[chosen], self.weight[chosen], self.relations[chosen], self.backward)


def joined_pairs(graph: HeteroData, first: str, second: str) -> Pairs:
    """All edges between two streams, in either direction, as pairs."""
    kinds = [kind for kind in graph.edge_types if {kind[0], kind[2]} == {first, second}]
    relations = list(dict.fromkeys(kind[1] for kind in kinds))
    index, weight, bit = [], [], []
    for kind in kinds:
        edge = graph[kind]
        index.append(edge.edge_index.cpu().numpy()[:: 1 if kind[0] == first else -1])
        known = "edge_weight" in edge
        weight.append(edge.edge_weight.detach().float().cpu().numpy() if known else np.full(edge.num_edges, np.nan))
        bit.append(np.full(edge.num_edges, 1 << relations.index(kind[1])))
    ends = np.concatenate(index, axis=1)
    backward = first == second and bool((ends[0] > ends[1]).any())
    if first == second:
        ends = np.sort(ends, axis=0)
    width = int(ends.max(initial=0)) + 1
    code, which = np.unique(ends[0] * width + ends[1], return_inverse=True)
    mean = np.bincount(which, np.concatenate(weight), len(code)) / np.bincount(which, minlength=len(code))
    bits = np.zeros(len(code), dtype=np.int64)
    np.bitwise_or.at(bits, which, np.concatenate(bit))
    sets, of = np.unique(bits, return_inverse=True)
    names = [" / ".join(name for i, name in enumerate(relations) if mask >> i & 1) for mask in sets.tolist()]
    return Pairs(code // width, code % width, mean, np.array(names, dtype=object)[of], backward)


def strongest(pairs: Pairs, most: int) -> np.ndarray:
    """`(E,)` bool: pairs within one stream that are among the `most` strongest of at least one end; among equals the nearest."""
    order = np.lexsort((pairs.b - pairs.a, -np.nan_to_num(pairs.weight)))  # strongest first
    ends = np.concatenate([pairs.a[order], pairs.b[order]])
    pair = np.concatenate([order, order])
    rank = np.tile(np.arange(len(order)), 2)
    by_node = np.lexsort((rank, ends))
    place = np.arange(len(by_node)) - np.searchsorted(ends[by_node], ends[by_node])
    keep = np.zeros(len(pairs.a), dtype=bool)
    keep[pair[by_node[place < most]]] = True
    return keep


def arcs(start: np.ndarray, end: np.ndarray, y: float, rise: float, longest: float) -> np.ndarray:
    """Half ellipses `(E, 33, 2)` above `y` (the y axis points down), the higher the wider; `rise` at width `longest`."""
    angle = np.linspace(math.pi, 0, 33)
    reach = (end - start)[:, None]
    height = rise * (reach / longest) ** 0.6
    return np.stack([(start + end)[:, None] / 2 + reach / 2 * np.cos(angle), y - height * np.sin(angle)], axis=-1)


def bows(start: np.ndarray, end: np.ndarray, y_start: float, y_end: float, bow: float) -> np.ndarray:
    """Lines `(E, 25, 2)` from lane to lane, bent to the right by `bow` in the middle, around the node of a lane between."""
    t = np.linspace(0, 1, 25)
    x = start[:, None] + (end - start)[:, None] * t + bow * 4 * t * (1 - t)
    return np.stack([x, np.broadcast_to(y_start + (y_end - y_start) * t, x.shape)], axis=-1)
