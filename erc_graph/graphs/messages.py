"""What every operator sends its messages along: the five primitives of message passing, whatever the edges look like in memory.

A **slot** is a place for an edge; a layout has `P` of them. In a list every slot is an edge, in padded blocks some are none. A value per
slot is a tensor `(H, P)`, heads first, and operators calculate with it without knowing the layout.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.errors import ConfigError
from erc_graph.graphs.hyperedges import HyperEdges, Members
from erc_graph.graphs.recipe import GraphRecipe


def expect_heads(primitive: str, shape: str, *states: Tensor) -> None:
    """Check that states have an axis for their heads.

    Args:
        primitive: The method of `Edges` that was called.
        shape: The expected shape, such as `(N, S, H, k)`.
        *states: The states of both ends.

    Raises:
        ConfigError: some states have another number of axes.
    """
    for x in states:
        if x.ndim != shape.count(",") + 1:
            raise ConfigError(f"edges.{primitive}: expected {shape}, found {tuple(x.shape)}; x[:, :, None] gives states one head")


class Edges(ABC):
    """The edges of a recipe between the nodes of a batch, where both ends are present.

    Args:
        recipe: The recipe.
        nodes: Whose presence counts.
        batch: The dialogues.
    """

    def __init__(self, recipe: GraphRecipe, nodes: Nodes, batch: Batch) -> None:
        self.recipe, self.present, self.streams, self.batch = recipe, nodes.present, nodes.streams, batch

    @cached_property
    def full(self) -> bool:
        """Return whether all nodes are present."""
        return bool(self.present.all())

    @cached_property
    def hyper(self) -> HyperEdges:
        """Return the hyperedges of the recipe."""
        return HyperEdges(self.recipe, self.present, self.streams, Members.kept(self.recipe, self.present.shape[1], self.batch))

    @property
    def group(self) -> Tensor | None:
        """Return `(N, S)` number of a set of nodes, where every node reads its own set and nobody else, all alike; `None` where that is not
        so.
        """
        return None

    @property
    def relations(self) -> tuple[str, ...]:
        """Return the names of the `R` relations."""
        return self.recipe.relations

    @property
    @abstractmethod
    def relation(self) -> Tensor:
        """Return `(P,)` int64 relation of every slot, anything from 0 to R - 1 where there is no edge."""

    @property
    @abstractmethod
    def valid(self) -> Tensor:
        """Return `(P,)` bool: the slots that are edges."""

    @abstractmethod
    def dot(self, target: Tensor, source: Tensor) -> Tensor:
        """Compute `q_i · k_j`: `(N, S, H, k)`, `(N, S, H, k)` → `(H, P)`."""

    @abstractmethod
    def add(self, target: Tensor, source: Tensor) -> Tensor:
        """Compute `a_i + b_j`: `(N, S, H)`, `(N, S, H)` → `(H, P)`."""

    @abstractmethod
    def angular(self, states: Tensor) -> Tensor:
        """Compute `1 - arccos(cos) / π` of both ends, as `erc_graph.graphs.weights.angular`: `(N, S, k)` → `(1, P)`."""

    @abstractmethod
    def softmax(self, score: Tensor) -> Tensor:
        """Compute the softmax over the edges into every target: `(H, P)` → `(H, P)`, zero where there is no edge.

        An edge that counts several times is as many edges; the value is that of one of them.
        """

    def attend(self, x: Tensor, drop: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Compute attention: `softmax` of the `dot` products of queries and keys, and `spread` of the values with these weights.

        Args:
            x: `(N, S, 3, H, k)` queries, keys and values.
            drop: What is done to the weights before they are used, if anything: dropout.

        Returns:
            `(N, S, H, k)`
        """
        query, key, value = x.unbind(2)
        weight = self.softmax(self.dot(query, key))
        return self.spread(value, weight if drop is None else drop(weight), shown=weight)

    @abstractmethod
    def degree(self, weight: Tensor | None = None, *, outgoing: bool = False) -> Tensor:
        """Compute the sum of `scale · times · weight` over the edges into every node, or out of it.

        Args:
            weight: `(H, P)`; default: ones.
            outgoing: Of the edges out of it.

        Returns:
            `(H, N, S)`, without `H` if there is no weight.
        """

    def at_relation(self, table: Tensor) -> Tensor:
        """Return the rows of a table by relation: `(R, ...)` → `(P, ...)`."""
        return table.index_select(0, self.relation)

    def spread(
        self, x: Tensor, weight: Tensor | None = None, *, by_relation: bool = False, mean: bool = False, shown: Tensor | None = None
    ) -> Tensor:
        """Compute the sum of `scale · times · weight · x_source` over the edges into every target. All that an operator sends goes through
        here.

        Args:
            x: `(N, S, H, k)`, or `(N, S, k)` for one head. Absent nodes are not read.
            weight: `(H, P)`, or `(1, P)` for all heads; default: ones. Slots that are no edges are not read.
            by_relation: One sum per relation.
            mean: Divided by the number of edges (of the relation) into the target.
            shown: `(H, P)` the weight to be shown in pictures, where `weight` is not all of it.

        Returns:
            `(N, S, H, k)`, or `(N, S, R, H, k)` by relation; without `H` if `x` has none.
        """
        heads = x.shape[2] if x.ndim == 4 else 1
        if weight is not None and weight.dtype != x.dtype:  # mixed precision
            dtype = torch.promote_types(x.dtype, weight.dtype)
            x, weight = x.to(dtype), weight.to(dtype)
        rows = x if x.ndim == 4 and weight is not None and len(weight) > 1 else x.flatten(2)[:, :, None]
        out = self._sum(rows, weight, by_relation, mean, shown)
        if x.ndim == 3:
            return out.squeeze(-2)
        return out if rows is x else out.squeeze(-2).unflatten(-1, (heads, -1))

    @abstractmethod
    def _sum(self, x: Tensor, weight: Tensor | None, by_relation: bool, mean: bool, shown: Tensor | None) -> Tensor:
        """`spread` of `(N, S, H, k)` with `(H, P)` → `(N, S, H, k)`, or `(N, S, R, H, k)`."""
