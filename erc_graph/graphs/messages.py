"""`Edges`, the interface of message passing for all graph operators. It is the same for every layout (data structure) of the edges.

A layout has `P` **pairs of nodes**: a target and a source. In the layout `list`, every pair has an edge. In the layout `blocks`, some pairs
are padding and have no edge. A tensor of shape `(H, P)` has one value per attention head and pair. Graph operators use these tensors in the
same way for all layouts.
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
    """Check that node states have an axis for attention heads.

    Args:
        primitive: Name of the called method of the class `Edges`.
        shape: The expected shape, such as `(N, S, H, k)`.
        *states: The states of targets and sources.

    Raises:
        ConfigError: a tensor does not have as many axes as the expected shape.
    """
    for x in states:
        if x.ndim != shape.count(",") + 1:
            raise ConfigError(
                f"edges.{primitive}: expected states of shape {shape}, found {tuple(x.shape)}; x[:, :, None] adds an axis for one head"
            )


class Edges(ABC):
    """The edges of a graph recipe between the present nodes of a batch.

    There are `P` pairs of a target and a source among the nodes of `N` utterances in `S` streams. Some data structures of edges also have
    pairs without an edge.

    Args:
        recipe: The graph recipe.
        nodes: The nodes; only the mask of the present nodes is used.
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
        """Return the group `(N, S)` of every node, if every node has one edge from each node of its group and no other; else `None`."""
        return None

    @property
    def relations(self) -> tuple[str, ...]:
        """Return the names of the `R` relations (kinds of edges) of the recipe."""
        return self.recipe.relations

    @property
    @abstractmethod
    def relation(self) -> Tensor:
        """Return the index of the relation of every pair of nodes, `(P,)` int64; it is arbitrary for a pair without an edge."""

    @property
    @abstractmethod
    def valid(self) -> Tensor:
        """Return the mask of the pairs of nodes that have an edge, `(P,)` bool."""

    @abstractmethod
    def dot(self, target: Tensor, source: Tensor) -> Tensor:
        """Compute the dot product of target and source of every pair, for each of `H` heads: `(N, S, H, k)`, `(N, S, H, k)` → `(H, P)`."""

    @abstractmethod
    def add(self, target: Tensor, source: Tensor) -> Tensor:
        """Compute the sum of target value and source value of every pair, for each of `H` heads: `(N, S, H)`, `(N, S, H)` → `(H, P)`."""

    @abstractmethod
    def angular(self, states: Tensor) -> Tensor:
        """Compute the angular similarity of the states of every pair of nodes (`graphs.weights.angular`): `(N, S, k)` → `(1, P)`."""

    @abstractmethod
    def softmax(self, score: Tensor) -> Tensor:
        """Compute the softmax over the edges into every target: scores `(H, P)` → weights `(H, P)`, zero for pairs without an edge.

        An edge with multiplicity `n` is counted `n` times in the denominator of the softmax, but once in the numerator.
        """

    def attend(self, x: Tensor, drop: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Compute attention. The weights are the `softmax` of the `dot` products of queries and keys; `spread` sums the weighted values.

        Args:
            x: `(N, S, 3, H, k)` queries, keys and values.
            drop: Function applied to the attention weights, such as dropout; `None`: no change.

        Returns:
            `(N, S, H, k)` attention outputs.
        """
        query, key, value = x.unbind(2)
        weight = self.softmax(self.dot(query, key))
        return self.spread(value, weight if drop is None else drop(weight), shown=weight)

    @abstractmethod
    def degree(self, weight: Tensor | None = None, *, outgoing: bool = False) -> Tensor:
        """Compute the sum of `scale · times · weight` over the edges into every node, or out of every node.

        The factors `scale` and `times` are options of the rule of the edge.

        Args:
            weight: `(H, P)` weights of `P` pairs of nodes; default: ones.
            outgoing: Whether to sum over the edges out of a node, and not over the edges into it.

        Returns:
            Degrees `(H, N, S)`, or `(N, S)` without weights.
        """

    def at_relation(self, table: Tensor) -> Tensor:
        """Return, for every pair of nodes, the row of the table `(R, ...)` that belongs to the relation of their edge: `(P, ...)`."""
        return table.index_select(0, self.relation)

    def spread(
        self, x: Tensor, weight: Tensor | None = None, *, by_relation: bool = False, mean: bool = False, shown: Tensor | None = None
    ) -> Tensor:
        """Send messages: compute the sum of `scale · times · weight · x_source` over the edges into every target.

        Args:
            x: `(N, S, H, k)` states of the sources, or `(N, S, k)` for one head. States of absent nodes are ignored.
            weight: `(H, P)` weights of pairs of nodes, or `(1, P)` for all heads; default: ones. Pairs without an edge are ignored.
            by_relation: Whether to compute one sum for each of `R` relations.
            mean: Whether to divide each sum by the number of its edges.
            shown: `(H, P)` weights for drawings of the graph; default: `weight`.

        Returns:
            Sums `(N, S, H, k)`, or `(N, S, R, H, k)` if `by_relation`; they have no axis `H` if `x` has none.
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
        """Compute `spread` for states `(N, S, H, k)` and weights `(H, P)` → `(N, S, H, k)`, or `(N, S, R, H, k)` if `by_relation`."""
