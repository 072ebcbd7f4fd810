r"""Propagation with a multiplier on every message: from a graph without edges (0) to the graph as it is (1).

.. math:: P_\mu x = (\mu \odot D^{-1/2} W D^{-1/2}) x

The multiplier stands behind the normalisation. On the weights themselves it would cancel: `W` and `D` both shrink with it, and `P` would
be the whole graph's until the last edge is gone.

Made for asking one dialogue many times at once (integrated gradients): the batch is `K` copies of it, each with multipliers of its own.
Copies are equally long, so an adjacency is one dense matrix per copy, over all streams.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from erc_graph.conv.angular.angular import AngularConv
from erc_graph.conv.angular.written import Propagation
from erc_graph.data.batch import Batch
from erc_graph.graphs.edges import merged_edges
from erc_graph.graphs.recipe import GraphRecipe
from erc_graph.graphs.weights import angular, directions


@dataclass(frozen=True, eq=False)
class MultipliedEdges:
    """A propagation whose messages are multiplied; takes the place of `block`, `pyg` or `dgl` (same arguments as `block_propagation`).

    Attributes:
        multiplier: `(K, E)` one number per copy of the dialogue and edge, edges in the order of `merged_edges`; unset: ones.
    """

    multiplier: Tensor | None = None

    def __call__(self, recipe: GraphRecipe, batch: Batch, states: Tensor, present: Tensor) -> MultipliedPropagation:
        """The propagation of a batch of `K` copies of one dialogue."""
        return MultipliedPropagation(recipe, batch, states, present, self.multiplier)


class MultipliedPropagation(Propagation):
    """`P_μ` of a batch of `K` copies of one dialogue; its rows stand copy by copy, stream by stream, turn by turn."""

    def __init__(self, recipe: GraphRecipe, batch: Batch, states: Tensor, present: Tensor, multiplier: Tensor | None) -> None:
        self.shape = (len(batch), batch.longest, states.shape[1])
        copies, turns, streams = self.shape
        size = streams * turns
        here = {str(i): present[:turns, i] for i in range(streams)}
        one = batch.select(torch.zeros(1, dtype=torch.long, device=batch.device))
        (source, target), scale, is_angular = merged_edges(recipe, one, here)
        unit = directions(self.rows(states)).view(copies, size, -1)
        similarity = angular((unit @ unit.transpose(1, 2)).clamp(-1, 1))

        def dense(values: Tensor) -> Tensor:  # (K or 1, E) → (K or 1, target, source)
            return values.new_zeros(len(values), size * size).index_add(1, target * size + source, values).view(-1, size, size)

        def weights(multiplier: Tensor) -> Tensor:
            return dense(multiplier * (scale * is_angular)) * similarity + dense(multiplier * (scale * ~is_angular))

        whole = weights(scale.new_ones(1, len(scale)))
        degree = whole.sum(-1)
        root = torch.where(degree > 0, degree.clamp(min=1e-12).rsqrt(), 0.0)
        self.messages = root[:, :, None] * (whole if multiplier is None else weights(multiplier)) * root[:, None, :]

    def rows(self, x: Tensor) -> Tensor:
        """`(N, S, k)` → `(K S T, k)`."""
        copies, turns, streams = self.shape
        return x.reshape(copies, turns, streams, -1).transpose(1, 2).flatten(0, 2)

    def spread(self, rows: Tensor) -> Tensor:
        """`P_μ x` on rows."""
        return (self.messages @ rows.reshape(len(self.messages), -1, rows.shape[-1]).to(self.messages.dtype)).flatten(0, 1).to(rows.dtype)

    def back(self, rows: Tensor) -> Tensor:
        """`(K S T, k)` → `(N, S, k)`."""
        copies, turns, streams = self.shape
        return rows.view(copies, streams, turns, -1).transpose(1, 2).flatten(0, 1)


@contextmanager
def propagated_by(conv: AngularConv, method: Callable[[GraphRecipe, Batch, Tensor, Tensor], Propagation]) -> Iterator[None]:
    """Inside the block, `conv` spreads its states by `method`."""
    usual, conv.propagation = conv.propagation, method
    try:
        yield
    finally:
        conv.propagation = usual
