r"""Propagation over a conversation graph, in several implementations that agree up to rounding errors.

.. math:: P x = D^{-1/2} W D^{-1/2} x

`W[target, source]` is the weight of the edge from source to target, and `D` is the diagonal matrix of in-degrees. In a complete angular
graph, self-loops have weight one, or less if the norm of a state is below about 0.01. `P` is then the renormalised adjacency matrix of Kipf
and Welling. Both matrices `D` contain in-degrees, so the operator is causal if the recipe is causal: the in-degree of an utterance never
counts later utterances. A node without incoming edges has degree zero and sends no messages. With self-loops, every node has an incoming
edge.

| layout | computation |
|---|---|
| `auto` | batched products for dialogues of similar length; across `S` streams, an `S × S` matrix per utterance; large batch: `tiled` |
| `tiled` | the same products, tile by tile; weights are computed again in the backward pass; memory is linear in the number of utterances |
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from erc_graph.conv.angular.block import BlockPropagation
from erc_graph.conv.angular.layout import in_buckets
from erc_graph.conv.angular.tiled import BAND, TiledPropagation, windowed
from erc_graph.conv.angular.written import Propagation, rules_by_scope
from erc_graph.data.batch import Batch
from erc_graph.graphs.recipe import GraphRecipe

SPARSE = 4  # how many times fewer weights a band must have than blocks
MANY = 2**24  # weights that `auto` keeps at most: 64 MiB in float32, and as much again for their slopes


def in_blocks(recipe: GraphRecipe, batch: Batch, streams: int) -> bool:
    """Return whether the layout `auto` stores the edge weights of all pairs of utterances; otherwise `auto` is the same as `tiled`."""
    within, _ = rules_by_scope(recipe)
    weights, rows = streams * sum(size * size for size in batch.sizes), streams * batch.utterances
    reach = sum(max((rule.behind or 0, rule.ahead or 0)[i] for rule in within) for i in (0, 1)) if within else 0
    # In a band every turn has a tile of weights, computed again for every layer: worth it where few of a dialogue's turns are in reach.
    narrow = windowed(within) and weights > SPARSE * (max(BAND, reach) + reach) * rows
    return weights <= MANY and not narrow


def block_propagation(recipe: GraphRecipe, batch: Batch, states: Tensor, present: Tensor) -> Propagation:
    """Return the function that propagates states by batched matrix products, over whole dialogues or tile by tile.

    Args:
        recipe: Graph recipe; edges across streams may only join nodes of one utterance.
        batch: The dialogues.
        states: `(N, S, d)` node states from which the angular weights are computed.
        present: `(N, S)` bool; an absent node has no edges.

    Returns:
        The function `x → P x`, from `(N, S, k)` to `(N, S, k)` for any width `k`.

    Raises:
        ConfigError: an edge rule across streams joins nodes of different utterances.
    """
    if not in_blocks(recipe, batch, states.shape[1]):
        return TiledPropagation(recipe, batch, states, present)
    return BlockPropagation(recipe, batch, states, present, in_buckets(batch.sizes, states.shape[1], batch.device))


FORMS: dict[str, Callable[[GraphRecipe, Batch, Tensor, Tensor], Propagation]] = {"auto": block_propagation, "tiled": TiledPropagation}
