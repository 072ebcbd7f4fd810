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

from erc_graph.conv.angular import AngularConv
from erc_graph.conv.propagation import Propagate
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

    def __call__(self, recipe: GraphRecipe, batch: Batch, states: Tensor, present: Tensor) -> Propagate:
        """A function `(N, S, k)` → `(N, S, k)`; the batch is `K` copies of one dialogue."""
        copies, turns, streams = len(batch), batch.longest, states.shape[1]
        size = streams * turns
        here = {str(i): present[:turns, i] for i in range(streams)}
        one = batch.select(torch.zeros(1, dtype=torch.long, device=batch.device))
        (source, target), scale, is_angular = merged_edges(recipe, one, here)

        def dense(values: Tensor) -> Tensor:  # (K or 1, E) → (K or 1, target, source)
            return values.new_zeros(len(values), size * size).index_add(1, target * size + source, values).view(-1, size, size)

        def by_copy(x: Tensor) -> Tensor:  # (N, S, k) → (K, S T, k)
            return x.view(copies, turns, streams, -1).transpose(1, 2).reshape(copies, size, -1)

        unit = by_copy(directions(states))
        similarity = angular((unit @ unit.transpose(1, 2)).clamp(-1, 1))
        compared, counted = scale * is_angular, scale * ~is_angular

        def weights(multiplier: Tensor) -> Tensor:
            return dense(multiplier * compared) * similarity + dense(multiplier * counted)

        whole = weights(scale.new_ones(1, len(scale)))
        degree = whole.sum(-1)
        root = torch.where(degree > 0, degree.clamp(min=1e-12).rsqrt(), 0.0)
        messages = whole if self.multiplier is None else weights(self.multiplier)
        messages = root[:, :, None] * messages * root[:, None, :]

        def propagate(x: Tensor) -> Tensor:
            spread = messages @ by_copy(x).to(messages.dtype)
            return spread.view(copies, streams, turns, -1).transpose(1, 2).reshape(len(x), streams, -1).to(x.dtype)

        return propagate


@contextmanager
def propagated_by(conv: AngularConv, method: Callable[[GraphRecipe, Batch, Tensor, Tensor], Propagate]) -> Iterator[None]:
    """Inside the block, `conv` spreads its states by `method`."""
    usual, conv.propagation = conv.propagation, method
    try:
        yield
    finally:
        conv.propagation = usual
