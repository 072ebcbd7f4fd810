r"""One propagation over a conversation graph, computed in several ways that agree to rounding.

.. math:: P x = D^{-1/2} W D^{-1/2} x

with `W` the edge weights of a recipe (an edge points from source to target, `W[target, source]`) and `D` the in-degrees. A complete
angular graph has self-loops of weight one (less for states shorter than about 0.01), so that this is the renormalised Laplacian of Kipf
and Welling. With in-degrees on both sides a causal recipe stays causal: the degree of an earlier turn never counts a later one. A node
without incoming edges has degree zero and sends nothing; self-loops avoid that.

| method | how |
|---|---|
| `block` | products over dialogues of similar length, an `S × S` mix per turn across streams; hands over to `tiled` by size |
| `tiled` | the same products tile by tile, weights recomputed in the backward pass: memory linear in the turns, windows linear in time |
| `pyg` | gather and scatter over PyG edges |
| `dgl` | weighted sum over a DGL graph |
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from erc_graph.conv.angular.block import BlockPropagation
from erc_graph.graphs.layout import in_buckets
from erc_graph.conv.angular.tiled import BAND, TiledPropagation, windowed
from erc_graph.conv.angular.written import Propagation, inverse_root, rules_by_scope
from erc_graph.data.batch import Batch
from erc_graph.graphs.edges import merged_edges
from erc_graph.graphs.recipe import GraphRecipe
from erc_graph.graphs.weights import angular, directions

Method = Literal["block", "tiled", "pyg", "dgl"]
SPARSE = 4  # how many times fewer weights a band must have than blocks
MANY = 2**24  # weights that `block` keeps at most: 64 MiB in float32, and as much again for their slopes


def in_blocks(recipe: GraphRecipe, batch: Batch, streams: int) -> bool:
    """Whether the weights of all pairs of turns of a dialogue are kept, and not made tile by tile."""
    within, _ = rules_by_scope(recipe)
    weights, rows = streams * sum(size * size for size in batch.sizes), streams * batch.utterances
    reach = sum(max((rule.past or 0, rule.future or 0)[i] for rule in within) for i in (0, 1)) if within else 0
    # In a band every turn has a tile of weights, computed again for every layer: worth it where few of a dialogue's turns are in reach.
    narrow = windowed(within) and weights > SPARSE * (max(BAND, reach) + reach) * rows
    return weights <= MANY and not narrow


def block_propagation(recipe: GraphRecipe, batch: Batch, states: Tensor, present: Tensor) -> Propagation:
    """Propagation as batched matrix products.

    Args:
        recipe: Which edges exist and how they are weighted; edges across streams join the same turn.
        batch: The dialogues.
        states: `(N, S, d)` node states that the angular weights are taken from.
        present: `(N, S)` bool; an absent node has no edges.

    Returns:
        A function `(N, S, k)` → `(N, S, k)`.

    Raises:
        ConfigError: an edge rule across streams reaches other turns.
    """
    if not in_blocks(recipe, batch, states.shape[1]):
        return TiledPropagation(recipe, batch, states, present)
    return BlockPropagation(recipe, batch, states, present, in_buckets(batch.sizes, states.shape[1], batch.device))


class _Listed(Propagation):
    """Propagation over listed edges with their weights; nodes are numbered `stream * N + row`."""

    def __init__(self, recipe: GraphRecipe, batch: Batch, states: Tensor, present: Tensor) -> None:
        streams = {str(i): present[:, i] for i in range(states.shape[1])}
        (self.source, self.target), scale, is_angular = merged_edges(recipe, batch, streams)
        self.shape = states.shape[:2]
        unit = directions(self.rows(states))
        cosine = (unit[self.source] * unit[self.target]).sum(-1)
        weight = scale.to(unit.dtype) * torch.where(is_angular, angular(cosine), 1.0)
        degree = unit.new_zeros(len(unit)).index_add(0, self.target, weight)
        root = inverse_root(degree)
        self.normalised = root[self.target] * weight * root[self.source]

    def rows(self, x: Tensor) -> Tensor:
        """`(N, S, k)` → `(S N, k)`."""
        return x.transpose(0, 1).flatten(0, 1)

    def spread(self, rows: Tensor) -> Tensor:
        """`P x` on rows."""
        return self.sum_edges(rows.to(self.normalised.dtype)).to(rows.dtype)

    def back(self, rows: Tensor) -> Tensor:
        """`(S N, k)` → `(N, S, k)`."""
        return rows.view(self.shape[1], self.shape[0], -1).transpose(0, 1)

    @abstractmethod
    def sum_edges(self, rows: Tensor) -> Tensor:
        """Weighted sum of the sources at every target."""


class PygPropagation(_Listed):
    """Propagation over PyG edges by gather and scatter; same arguments as `block_propagation`."""

    @cached_property
    def _index(self) -> Tensor:
        return torch.stack([self.source, self.target])

    @cached_property
    def _conv(self) -> Callable[..., Tensor]:
        from torch_geometric.nn import SimpleConv

        return SimpleConv(aggr="sum")

    def sum_edges(self, rows: Tensor) -> Tensor:
        """Weighted sum of the sources at every target."""
        return self._conv(rows, self._index, self.normalised)


class DglPropagation(_Listed):
    """Propagation over a DGL graph; same arguments as `block_propagation`."""

    def __init__(self, recipe: GraphRecipe, batch: Batch, states: Tensor, present: Tensor) -> None:
        from erc_graph.graphs.convert import import_dgl

        self._dgl = import_dgl()
        super().__init__(recipe, batch, states, present)
        self._graph = self._dgl.graph((self.source, self.target), num_nodes=states.shape[0] * states.shape[1])

    def sum_edges(self, rows: Tensor) -> Tensor:
        """Weighted sum of the sources at every target."""
        with self._graph.local_scope():
            return self._dgl.ops.u_mul_e_sum(self._graph, rows.contiguous(), self.normalised[:, None])


METHODS: dict[str, Callable[[GraphRecipe, Batch, Tensor, Tensor], Propagation]] = {
    "block": block_propagation,
    "tiled": TiledPropagation,
    "pyg": PygPropagation,
    "dgl": DglPropagation,
}
