"""Drawing of an explanation: the edges with the largest attributions, separated into edges that support and that oppose the label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch

from erc_graph.errors import ConfigError
from erc_graph.graphs.build import NAMES
from erc_graph.graphs.convert import streams_of
from erc_graph.graphs.rules import HYPEREDGE
from erc_graph.report.draw import draw_graph

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

_SIDES = ("for", "against")


class Explained(Protocol):
    """Interface of an explanation that can be drawn (a typing protocol), for example the result of `erc_graph.explain`."""

    @property
    def dialogue(self) -> Any:
        """Return the conversation, which has an `id`."""

    @property
    def turn(self) -> int:
        """Return the position of the explained utterance."""

    @property
    def label(self) -> str:
        """Return the explained label."""

    @property
    def graphs(self) -> Mapping[str, HeteroData]:
        """Return the graphs that the method reads, each under the name of its graph operator."""

    def edges(self, most: int | None = None, part: str | None = None) -> Sequence[Any]:
        """Return edges (`source`, `source_turn`, `target`, `target_turn`, `attribution`), the largest absolute attribution first."""


def draw_explanation(explanation: Explained, path: str | Path, part: str | None = None, most: int = 12) -> Path:
    """Draw the edges of one graph operator with the largest attributions.

    The picture shows two relations: `for` contains the edges that support the label, and `against` contains the edges that oppose it. The
    weight of an edge is its absolute attribution as a percentage of the sum of all absolute attributions. Self-loops are not drawn. An edge
    to or from a hyperedge is drawn as a mark in the row of the hyperedge.

    Args:
        explanation: Result of `erc_graph.explain`.
        path: File name that ends in `.png` or `.svg`.
        part: Name of a graph operator, such as `audio+text` or `fused`; default: the last operator.
        most: Largest number of edges.

    Returns:
        The path.

    Raises:
        ConfigError: the method has no graph, no graph operator has the name `part`, or the file type is unknown.
        StorageError: the file cannot be written.
    """
    graphs = explanation.graphs
    if not graphs:
        raise ConfigError(
            "explanation: expected a method with a graph, found one without; use `inputs` for the attributions of the utterances"
        )
    part = part or list(graphs)[-1]
    if part not in graphs:
        raise ConfigError(f"part: expected the name of a graph operator of the method ({', '.join(graphs)}), found {part!r}")
    graph = _weighty(graphs[part], explanation.edges(part=part), most)
    title = f"{explanation.dialogue.id}, turn {explanation.turn}: {explanation.label} – edges of {part}, % of all"
    return draw_graph(graph, path, title=title)


def _weighty(whole: HeteroData, edges: Sequence[Any], most: int) -> HeteroData:
    """Return a graph with the nodes of `whole` and the `most` first edges, whose relations are `for` and `against`."""
    from torch_geometric.data import HeteroData

    graph = HeteroData()
    for name in streams_of(whole):
        for key, value in whole[name].items():
            graph[name][key] = value
    for name in NAMES:
        graph[name] = whole[name]
    total = sum(abs(edge.attribution) for edge in edges) or 1.0
    joined = [edge for edge in edges if (edge.source, edge.source_turn) != (edge.target, edge.target_turn)][:most]
    between: dict[tuple[str, str, str], list[tuple[int, int, float]]] = {}
    incidences: dict[tuple[str, int, str, int], float] = {}  # (stream, row, side, hyperedge) → percent
    for edge in joined:
        side, share = _SIDES[edge.attribution < 0], 100 * abs(edge.attribution) / total
        if HYPEREDGE in (edge.source, edge.target):
            ends = ((edge.source, edge.source_turn), (edge.target, edge.target_turn))
            (stream, row), (_, hyperedge) = ends if edge.target == HYPEREDGE else ends[::-1]
            key = (stream, row, side, hyperedge)
            incidences[key] = incidences.get(key, 0.0) + share
        else:
            between.setdefault((edge.source, side, edge.target), []).append((edge.source_turn, edge.target_turn, share))
    first = streams_of(whole)[0]
    for side in _SIDES:  # both sides are there, so that each always has its own look
        graph[first, side, first].edge_index = torch.empty(2, 0, dtype=torch.long)
        graph[first, side, first].edge_weight = torch.empty(0)
    for kind, found in between.items():
        graph[kind].edge_index = torch.tensor([(source, target) for source, target, _ in found]).T
        graph[kind].edge_weight = torch.tensor([share for *_, share in found])
    if incidences:
        _add_hyperedges(graph, whole, incidences)
    return graph


def _add_hyperedges(graph: HeteroData, whole: HeteroData, incidences: dict[tuple[str, int, str, int], float]) -> None:
    """Add hyperedges to the graph, with all their members; a hyperedge with edges for and against the label is added twice."""
    halves = sorted({(_SIDES.index(side), hyperedge) for _, _, side, hyperedge in incidences})
    node = graph[HYPEREDGE]
    node.kind = torch.tensor([side for side, _ in halves])
    node.names = [f"{whole[HYPEREDGE].names[hyperedge]}, {_SIDES[side]}" for side, hyperedge in halves]
    node.num_nodes = len(halves)
    found: dict[tuple[str, str, str], list[tuple[int, int, float]]] = {}
    for source, relation, target in whole.edge_types:
        if target != HYPEREDGE:
            continue
        for row, hyperedge in whole[source, relation, target].edge_index.T.tolist():
            for number, side in enumerate(_SIDES):
                if (number, hyperedge) in halves:
                    half, share = halves.index((number, hyperedge)), incidences.get((source, row, side, hyperedge), 0.0)
                    found.setdefault((source, side, HYPEREDGE), []).append((row, half, share))
    for kind, members in found.items():
        graph[kind].edge_index = torch.tensor([(row, half) for row, half, _ in members]).T
        graph[kind].edge_weight = torch.tensor([share for *_, share in members])
