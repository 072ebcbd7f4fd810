"""The edges of a graph recipe between the nodes of a batch, in the data structure (layout) that is estimated to be fastest."""

from __future__ import annotations

from typing import Any, Literal, cast

from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.graphs.edge_blocks import EdgeBlocks
from erc_graph.graphs.edge_dgl import EdgeDgl
from erc_graph.graphs.edge_list import EdgeList, Listed
from erc_graph.graphs.messages import Edges
from erc_graph.graphs.pair_blocks import Blocks, padded_slots
from erc_graph.graphs.recipe import GraphRecipe
from erc_graph.graphs.rule_edges import reached
from erc_graph.graphs.rules import EdgeRule
from erc_graph.graphs.watch import Sent, Watch

__all__ = ["Edges", "Sent", "Watch", "edges_of"]

MOST = 2**24  # slots of blocks, above which edges are listed
SPARSE = 12  # a slot of a block costs about a twelfth of an edge in a list
Layout = Literal["auto", "list", "blocks", "dgl"]


def edges_of(recipe: GraphRecipe, nodes: Nodes, batch: Batch, *, watch: Watch | None = None, layout: Layout = "auto") -> Edges:
    """Return the edges of a graph recipe between present nodes.

    Without `watch`, the edges are stored in the batch, so that the next layer of the method can use them again.

    Args:
        recipe: The graph recipe.
        nodes: The nodes; only the mask of the present nodes is used.
        batch: The dialogues.
        watch: Object that records the messages; with it, the layout is always `list`.
        layout: Data structure of the edges: `list`, `blocks`, `dgl`, or `auto`. With `auto`, the function chooses `list` or `blocks` by
            their estimated cost.
    """
    key = "edges", recipe.edges, recipe.hyperedges, nodes.streams
    if watch is not None:
        return EdgeList(recipe, nodes, batch, _listed(key, recipe, nodes, batch).between(nodes.present), watch)
    if layout == "auto":
        layout = "blocks" if _dense(recipe, nodes.streams, batch) else "list"
    present = nodes.present
    place = (*key, layout)
    found: Any = batch.kept.get(place)
    if found is not None and (found.present is present or (found.full and bool(present.all()))):
        return cast(Edges, found)
    made: Edges
    if layout == "blocks" and padded_slots(recipe, nodes.streams, batch.sizes):
        pairs = (*key, "pairs")
        if pairs not in batch.kept:
            batch.kept[pairs] = Blocks.of(recipe, nodes.streams, batch)
        made = EdgeBlocks(recipe, nodes, batch, batch.kept[pairs])
    else:
        listed = _listed(key, recipe, nodes, batch).between(present)
        made = EdgeDgl(recipe, nodes, batch, listed) if layout == "dgl" else EdgeList(recipe, nodes, batch, listed)
    batch.kept[place] = made
    return made


def _dense(recipe: GraphRecipe, streams: tuple[str, ...], batch: Batch) -> bool:
    """Return whether padded blocks cost less than a list. They cost more if they are large, or if few of their node pairs have an edge."""
    slots = padded_slots(recipe, streams, batch.sizes)
    return 0 < slots <= MOST and slots <= SPARSE * sum(about(rule, batch.sizes) * len(rule.joined(streams)) for rule in recipe.edges)


def about(rule: EdgeRule, sizes: tuple[int, ...]) -> int:
    """Estimate the number of edges of a rule within a stream. The estimate assumes that a speaker has half of a dialogue's utterances."""
    total = sum(sizes)
    for reach in (rule.past, rule.future):
        far = None if reach is None else 2 * int(reach[4:]) if isinstance(reach, str) else reach * (2 if rule.count == "own" else 1)
        total += reached(sizes, far)
    return total // 2 if rule.speaker in ("same", "other") else total


def _listed(key: tuple[Any, ...], recipe: GraphRecipe, nodes: Nodes, batch: Batch) -> Listed:
    if key not in batch.kept:
        batch.kept[key] = Listed.of(recipe, nodes.streams, batch)
    kept: Listed = batch.kept[key]
    return kept
