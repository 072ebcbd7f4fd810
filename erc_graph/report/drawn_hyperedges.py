"""Data for the drawing of hyperedges.

A hyperedge within one utterance is drawn as an outline around its nodes. Other hyperedges are drawn as rows of marks below the nodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from erc_graph.graphs.rules import HYPEREDGE

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData


@dataclass(frozen=True, eq=False)
class Membership:
    """The `I` memberships of nodes in `M` hyperedges; a membership is a pair of a node and a hyperedge that contains the node.

    Attributes:
        names: `(M,)` names of the hyperedges.
        relations: `(M,)` name of the rule of the graph recipe that made each hyperedge.
        edge: `(I,)` index of the hyperedge, in ascending order.
        stream: `(I,)` index of the stream (modality) of the node.
        row: `(I,)` index of the utterance of the node.
        weight: `(I,)` mean weight of the edges from and to the hyperedge; NaN if there are no weights.
    """

    names: list[str]
    relations: list[str]
    edge: np.ndarray
    stream: np.ndarray
    row: np.ndarray
    weight: np.ndarray

    @property
    def upright(self) -> np.ndarray:
        """Return the mask `(M,)` of the hyperedges whose recipe rule joins, in this graph, only nodes of the same utterance."""
        low, high = (np.full(len(self.names), start) for start in (np.iinfo(np.int64).max, -1))
        np.minimum.at(low, self.edge, self.row)
        np.maximum.at(high, self.edge, self.row)
        wide = {relation for relation, leaves in zip(self.relations, (low < high).tolist(), strict=True) if leaves}
        return np.array([relation not in wide for relation in self.relations], dtype=bool)


def membership(graph: HeteroData, streams: list[str]) -> Membership | None:
    """Return the hyperedges of a graph with their nodes, or `None` if the graph has no hyperedges."""
    if HYPEREDGE not in graph.node_types:
        return None
    node = graph[HYPEREDGE]
    count = int(node.num_nodes)
    rows = max(int(graph[name].num_nodes) for name in streams)
    relations = [""] * count
    codes, weights = [np.empty(0, dtype=np.int64)], [np.empty(0)]
    for source, relation, target in graph.edge_types:
        if HYPEREDGE not in (source, target):
            continue
        store = graph[source, relation, target]
        ends = store.edge_index.cpu().numpy()
        members, edges = ends if target == HYPEREDGE else ends[::-1]
        for i in np.unique(edges).tolist():
            relations[i] = relation
        stream = streams.index(source if target == HYPEREDGE else target)
        codes.append((edges * len(streams) + stream) * rows + members)
        weighted = "edge_weight" in store
        weights.append(store.edge_weight.detach().double().cpu().numpy() if weighted else np.full(len(edges), np.nan))
    code, which = np.unique(np.concatenate(codes), return_inverse=True)
    weight = np.concatenate(weights)
    known = ~np.isnan(weight)
    total, times = np.bincount(which[known], weight[known], len(code)), np.bincount(which[known], minlength=len(code))
    mean = np.where(times > 0, total / np.maximum(times, 1), np.nan)
    edge, rest = np.divmod(code, len(streams) * rows)
    return Membership(list(node.names), relations, edge, rest // rows, rest % rows, mean)


def rows_of(found: Membership, dialogue: np.ndarray) -> list[tuple[str, list[int]]]:
    """Return the rows in which hyperedges are drawn as marks: for each row, a name and the indices of its hyperedges.

    Hyperedges of different dialogues can share a row. Hyperedges within one utterance (`upright`) are outlines, and have no row.

    Args:
        found: The hyperedges.
        dialogue: `(N,)` index of the dialogue of every utterance.
    """
    where = dict(zip(found.edge.tolist(), dialogue[found.row].tolist(), strict=True))
    upright = found.upright
    rows: dict[tuple[str, int], list[int]] = {}
    seen: dict[tuple[str, int], int] = {}
    for i, relation in enumerate(found.relations):
        if upright[i] or i not in where:
            continue
        place = seen[relation, where[i]] = seen.get((relation, where[i]), -1) + 1
        rows.setdefault((relation, place), []).append(i)
    order = list(dict.fromkeys(found.relations))
    result = []
    for (relation, _), edges in sorted(rows.items(), key=lambda item: (order.index(item[0][0]), item[0][1])):
        names = {found.names[i] for i in edges}
        result.append((names.pop() if len(names) == 1 else relation, edges))
    return result
