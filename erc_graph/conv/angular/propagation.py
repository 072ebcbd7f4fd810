r"""One propagation over a conversation graph, computed in several ways that agree to rounding.

.. math:: P x = D^{-1/2} W D^{-1/2} x

with `W` the edge weights of a recipe (an edge points from source to target, `W[target, source]`) and `D` the in-degrees. A complete angular
graph has self-loops of weight one (less for states shorter than about 0.01), so that this is the renormalised Laplacian of Kipf and
Welling. With in-degrees on both sides a causal recipe stays causal: the degree of an earlier utterance never counts a later one. A node
without incoming edges has degree zero and sends nothing; self-loops avoid that.

| form | how |
|---|---|
| `auto` | products over dialogues of similar length, an `S × S` mix per utterance across streams; hands over to `tiled` by size |
| `tiled` | the same products tile by tile, weights recomputed in the backward pass: memory linear in the turns, windows linear in time |
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
    """Return whether the weights of all pairs of utterances of a dialogue are kept, and not made tile by tile."""
    within, _ = rules_by_scope(recipe)
    weights, rows = streams * sum(size * size for size in batch.sizes), streams * batch.utterances
    reach = sum(max((rule.behind or 0, rule.ahead or 0)[i] for rule in within) for i in (0, 1)) if within else 0
    # In a band every turn has a tile of weights, computed again for every layer: worth it where few of a dialogue's turns are in reach.
    narrow = windowed(within) and weights > SPARSE * (max(BAND, reach) + reach) * rows
    return weights <= MANY and not narrow


def block_propagation(recipe: GraphRecipe, batch: Batch, states: Tensor, present: Tensor) -> Propagation:
    """Return the propagation as batched matrix products.

    Args:
        recipe: Which edges exist and how they are weighted; edges across streams join the same utterance.
        batch: The dialogues.
        states: `(N, S, d)` node states that the angular weights are taken from.
        present: `(N, S)` bool; an absent node has no edges.

    Returns:
        A function `(N, S, k)` → `(N, S, k)`.

    Raises:
        ConfigError: an edge rule across streams reaches other utterances.
    """
    if not in_blocks(recipe, batch, states.shape[1]):
        return TiledPropagation(recipe, batch, states, present)
    return BlockPropagation(recipe, batch, states, present, in_buckets(batch.sizes, states.shape[1], batch.device))


FORMS: dict[str, Callable[[GraphRecipe, Batch, Tensor, Tensor], Propagation]] = {"auto": block_propagation, "tiled": TiledPropagation}
