"""The edges of a recipe between the nodes of a batch, in the layout that suits them."""

from __future__ import annotations

from typing import Any, Literal

from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.graphs.edge_list import EdgeList, Listed
from erc_graph.graphs.messages import Edges
from erc_graph.graphs.recipe import GraphRecipe
from erc_graph.graphs.watch import Sent, Watch

__all__ = ["Edges", "Sent", "Watch", "edges_of"]

Layout = Literal["auto", "list", "blocks", "dgl"]


def edges_of(recipe: GraphRecipe, nodes: Nodes, batch: Batch, *, watch: Watch | None = None, layout: Layout = "auto") -> Edges:
    """The edges of a recipe between the nodes that are present.

    What follows from lengths and speakers is kept with the batch, and so is the answer for the same nodes, for the next layer.

    Args:
        recipe: The recipe.
        nodes: Whose presence counts.
        batch: The dialogues.
        watch: Who looks at the messages; the layout is then a list.
        layout: `list`, `blocks`, `dgl`, or the one that suits.
    """
    key = "edges", recipe.edges, recipe.hyperedges, nodes.streams
    if watch is not None:
        return EdgeList(recipe, nodes, batch, _listed(key, recipe, nodes, batch).between(nodes.present), watch)
    place = (*key, layout)
    found: Any = batch.kept.get(place)
    if found is None or found.present is not nodes.present:
        found = batch.kept[place] = EdgeList(recipe, nodes, batch, _listed(key, recipe, nodes, batch).between(nodes.present))
    edges: Edges = found
    return edges


def _listed(key: tuple[Any, ...], recipe: GraphRecipe, nodes: Nodes, batch: Batch) -> Listed:
    if key not in batch.kept:
        batch.kept[key] = Listed.of(recipe, nodes.streams, batch)
    kept: Listed = batch.kept[key]
    return kept
