"""Edges as a DGL graph. Message passing uses the kernels of DGL, which do not copy a node state for every edge."""

from __future__ import annotations

import warnings
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.graphs.convert import import_dgl
from erc_graph.graphs.edge_list import Listed
from erc_graph.graphs.messages import Edges, expect_heads
from erc_graph.graphs.recipe import GraphRecipe
from erc_graph.graphs.weights import angular, directions


class EdgeDgl(Edges):
    """The `E` edges of a graph recipe as a DGL graph, in the order of `erc_graph.graphs.edge_list`.

    Args:
        recipe: The graph recipe.
        nodes: The nodes; only the mask of the present nodes is used.
        batch: The dialogues.
        edges: All edges of the recipe between the nodes.

    Raises:
        ConfigError: DGL is not installed, or its compiled part cannot be loaded.
    """

    def __init__(self, recipe: GraphRecipe, nodes: Nodes, batch: Batch, edges: Listed) -> None:
        super().__init__(recipe, nodes, batch)
        self.edges, self.dgl = edges, import_dgl()
        self.graph = self._graph(edges.target, self.present.numel())

    @property
    def relation(self) -> Tensor:
        """Return the index of the relation of every edge, `(E,)` int64."""
        return self.edges.relation

    @cached_property
    def valid(self) -> Tensor:
        """Return a mask `(E,)` bool that is true everywhere, because a DGL graph has no padding between edges."""
        return torch.ones_like(self.edges.source, dtype=torch.bool)

    def dot(self, target: Tensor, source: Tensor) -> Tensor:
        """Compute the dot product of target and source of every edge, for each of `H` heads: `(N, S, H, k)`, `(N, S, H, k)` → `(H, E)`."""
        expect_heads("dot", "(N, S, H, k)", target, source)
        found: Tensor = self.dgl.ops.u_dot_v(self.graph, source.flatten(0, 1), target.flatten(0, 1))
        return found.squeeze(-1).T

    def add(self, target: Tensor, source: Tensor) -> Tensor:
        """Compute the sum of target value and source value of every edge, for each of `H` heads: `(N, S, H)`, `(N, S, H)` → `(H, E)`."""
        expect_heads("add", "(N, S, H)", target, source)
        found: Tensor = self.dgl.ops.u_add_v(self.graph, source.flatten(0, 1), target.flatten(0, 1))
        return found.T

    def angular(self, states: Tensor) -> Tensor:
        """Compute the angular similarity of the two node states of every edge: states `(N, S, k)` → `(1, E)` for `E` edges."""
        unit = directions(torch.where(self.present[..., None], states, 0.0))[:, :, None]
        return angular(self.dot(unit, unit))

    def softmax(self, score: Tensor) -> Tensor:
        """Compute the softmax over the edges into every target: scores `(H, E)` → weights `(H, E)`."""
        times = self.edges.times
        rows = score.T if times is None else score.T + times.to(score.dtype).log()[:, None]
        found: Tensor = self.dgl.ops.edge_softmax(self.graph, rows.contiguous()).T
        return found if times is None else found / times.to(score.dtype)

    def degree(self, weight: Tensor | None = None, *, outgoing: bool = False) -> Tensor:
        """Compute the sum of the edge weights of every node, as `Edges.degree` explains: `(H, N, S)`, or `(N, S)` without weights."""
        dtype = torch.get_default_dtype() if weight is None else weight.dtype
        values = torch.ones_like(self.edges.source, dtype=dtype)[None] if weight is None else weight
        values = values if self.edges.factor is None else values * self.edges.factor.to(dtype)
        found = self._into(self._reversed if outgoing else self.graph, values)
        return found[0] if weight is None else found

    def _into(self, graph: Any, values: Tensor) -> Tensor:
        """Sum the values of the edges into every target node of `graph`: `(H, E)` → `(H, N, S)`."""
        found: Tensor = self.dgl.ops.copy_e_sum(graph, values.T.contiguous())
        return found.T.unflatten(1, self.present.shape)

    def _sum(self, x: Tensor, weight: Tensor | None, by_relation: bool, mean: bool, shown: Tensor | None) -> Tensor:
        graph = self._by_relation if by_relation else self.graph
        factor = None if self.edges.factor is None else self.edges.factor.to(x.dtype)[None]
        values = factor if weight is None else weight if factor is None else weight * factor
        rows = x.flatten(0, 1)
        kinds = len(self.relations)
        if values is None:
            out = self.dgl.ops.copy_u_sum(graph, rows)
        else:
            out = self.dgl.ops.u_mul_e_sum(graph, rows, values.T[..., None].contiguous())
        if mean:
            one = torch.ones_like(self.edges.source, dtype=x.dtype) if self.edges.times is None else self.edges.times.to(x.dtype)
            out = out / self.dgl.ops.copy_e_sum(graph, one[:, None]).clamp(min=1)[..., None]
        return out.unflatten(0, (*self.present.shape, kinds) if by_relation else self.present.shape)

    def _graph(self, place: Tensor, places: int) -> Any:
        """Build a DGL graph with `places` targets; edge `e` goes from its source node to target number `place[e]`."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self.dgl.create_block((self.edges.source, place), self.present.numel(), places)

    @cached_property
    def _reversed(self) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self.dgl.create_block((self.edges.target, self.edges.source), self.present.numel(), self.present.numel())

    @cached_property
    def _by_relation(self) -> Any:
        kinds = len(self.relations)
        return self._graph(self.edges.target * kinds + self.edges.relation, self.present.numel() * kinds)
