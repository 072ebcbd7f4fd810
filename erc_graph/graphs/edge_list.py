"""Edges as a list: used for sparse graphs, and to explain or draw single messages."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.graphs.hyperedges import HyperEdges, Members
from erc_graph.graphs.messages import Edges, expect_heads
from erc_graph.graphs.recipe import GraphRecipe
from erc_graph.graphs.rule_edges import EdgeType, graph_edges, rules_of
from erc_graph.graphs.watch import Watch, Watched
from erc_graph.graphs.weights import angular, directions


@dataclass(frozen=True, eq=False)
class Listed:
    """All edges of a graph recipe, sorted by edge type, target and source. Node index: `utterance * S + stream`, with `S` streams.

    Attributes:
        source: `(E,)` int64, index of the source node of every edge.
        target: `(E,)` int64, index of the target node of every edge.
        relation: `(E,)` int64, index of the relation of every edge.
        times: `(E,)` multiplicity of every edge; `None`: all multiplicities are one.
        factor: `(E,)` product `scale · times` of two options of the rule of every edge; `None`: all products are one.
        types: The edge types, in the order of the edges.
        counts: Number of edges of each type.
    """

    source: Tensor
    target: Tensor
    relation: Tensor
    times: Tensor | None
    factor: Tensor | None
    types: tuple[EdgeType, ...]
    counts: tuple[int, ...]

    @classmethod
    def of(cls, recipe: GraphRecipe, streams: tuple[str, ...], batch: Batch) -> Listed:
        """Compute all edges of a graph recipe between the nodes of a batch, as if all nodes were present."""
        here = torch.ones(batch.utterances, dtype=torch.bool, device=batch.device)
        edges = graph_edges(recipe, batch.ptr, batch.speaker, dict.fromkeys(streams, here), sizes=batch.sizes, dtype=None)
        place, width = {name: i for i, name in enumerate(streams)}, len(streams)
        rules, number = rules_of(recipe), {name: i for i, name in enumerate(recipe.relations)}
        counts = tuple(rows.shape[1] for rows in edges.values())

        def per_edge(values: list[Any], dtype: torch.dtype) -> Tensor:
            of_type = torch.tensor(values, dtype=dtype, device=batch.device)
            return of_type.repeat_interleave(torch.tensor(counts, dtype=torch.long, device=batch.device), output_size=sum(counts))

        def ends(row: int) -> Tensor:
            parts = [rows[row].long() * width + place[kind[2 * row]] for kind, rows in edges.items()]
            return torch.cat(parts) if parts else batch.ptr.new_zeros(0, dtype=torch.long)

        chosen = [rules[relation] for _, relation, _ in edges]
        times, factor = [rule.times for rule in chosen], [rule.times * rule.scale for rule in chosen]
        return cls(
            ends(0),
            ends(1),
            per_edge([number[relation] for _, relation, _ in edges], torch.long),
            None if set(times) <= {1} else per_edge(times, torch.float64),
            None if set(factor) <= {1.0} else per_edge(factor, torch.float64),
            tuple(edges),
            counts,
        )

    def between(self, present: Tensor) -> Listed:
        """Return only the edges between present nodes; the mask of the present nodes is `present`, `(N, S)` bool."""
        if bool(present.all()):
            return self
        here = present.flatten()
        keep = here[self.source] & here[self.target]
        counts = tuple(int(part.sum()) for part in keep.split(self.counts)) if self.counts else ()

        def some(values: Tensor | None) -> Any:
            return None if values is None else values[keep]

        return replace(
            self,
            counts=counts,
            **{name: some(getattr(self, name)) for name in ("source", "target", "relation", "times", "factor")},
        )


class EdgeList(Edges):
    """The edges of a graph recipe as a list; message passing consists of gather and scatter operations.

    Args:
        recipe: The graph recipe.
        nodes: The nodes; only the mask of the present nodes is used.
        batch: The dialogues.
        edges: All edges of the recipe between the nodes.
        watch: Object that records the messages; `None`: messages are not recorded.
    """

    def __init__(self, recipe: GraphRecipe, nodes: Nodes, batch: Batch, edges: Listed, watch: Watch | None = None) -> None:
        super().__init__(recipe, nodes, batch)
        self.edges = edges
        self.watch, self.watched = watch, None if watch is None else Watched(watch, edges.types, edges.counts)

    @cached_property
    def hyper(self) -> HyperEdges:
        """Return the hyperedges of the recipe. The observer `watch` of this object also records their messages."""
        members = Members.kept(self.recipe, len(self.streams), self.batch)
        return HyperEdges(self.recipe, self.present, self.streams, members, self.watch, self.watched.end if self.watched else 0)

    @property
    def relation(self) -> Tensor:
        """Return the index of the relation of every edge, `(E,)` int64."""
        return self.edges.relation

    @cached_property
    def valid(self) -> Tensor:
        """Return a mask `(E,)` bool that is true everywhere, because a list of edges has no padding."""
        return torch.ones_like(self.edges.source, dtype=torch.bool)

    def dot(self, target: Tensor, source: Tensor) -> Tensor:
        """Compute the dot product of target and source of every edge, for each of `H` heads: `(N, S, H, k)`, `(N, S, H, k)` → `(H, E)`."""
        expect_heads("dot", "(N, S, H, k)", target, source)
        return (self._targets(target) * self._sources(source)).sum(-1).T

    def add(self, target: Tensor, source: Tensor) -> Tensor:
        """Compute the sum of target value and source value of every edge, for each of `H` heads: `(N, S, H)`, `(N, S, H)` → `(H, E)`."""
        expect_heads("add", "(N, S, H)", target, source)
        return (self._targets(target) + self._sources(source)).T

    def angular(self, states: Tensor) -> Tensor:
        """Compute the angular similarity of the two node states of every edge: states `(N, S, k)` → `(1, E)` for `E` edges."""
        unit = directions(torch.where(self.present[..., None], states, 0.0))
        return angular((self._targets(unit) * self._sources(unit)).sum(-1))[None]

    def softmax(self, score: Tensor) -> Tensor:
        """Compute the softmax over the edges into every target: scores `(H, E)` → weights `(H, E)`."""
        times = self.edges.times
        out: Tensor = _Softmax.apply(score, self.edges.target, self.present.numel(), None if times is None else times.to(score.dtype))
        return out

    def degree(self, weight: Tensor | None = None, *, outgoing: bool = False) -> Tensor:
        """Compute the sum of the edge weights of every node, as `Edges.degree` explains: `(H, N, S)`, or `(N, S)` without weights."""
        factor = self._factor(torch.get_default_dtype() if weight is None else weight.dtype)
        if weight is None:
            weight = torch.ones_like(self.edges.source, dtype=torch.get_default_dtype())[None] if factor is None else factor[None]
            return self.degree_of(weight, outgoing)[0]
        return self.degree_of(weight if factor is None else weight * factor, outgoing)

    def degree_of(self, values: Tensor, outgoing: bool) -> Tensor:
        """Sum the values `(H, E)` of the edges into every node, or, if `outgoing`, out of every node; the sums are `(H, N, S)`."""
        ends = self.edges.source if outgoing else self.edges.target
        return values.new_zeros(len(values), self.present.numel()).index_add(1, ends, values).unflatten(1, self.present.shape)

    def _sum(self, x: Tensor, weight: Tensor | None, by_relation: bool, mean: bool, shown: Tensor | None) -> Tensor:
        factor = self._factor(x.dtype)
        if self.watched is not None:
            self._show(weight if shown is None else shown, None if shown is not None else factor)
            if self.watched.multiplier is not None:
                more = self.watched.multiplier.to(x.dtype)
                factor = more if factor is None else factor * more
        if weight is not None:
            factor = weight if factor is None else weight * factor
        elif factor is not None:
            factor = factor[None]
        kinds = len(self.relations) if by_relation else 1
        place = self.edges.target * kinds + self.edges.relation if by_relation else self.edges.target
        sent = self._sources(x)
        sent = sent if factor is None else sent * factor.T[..., None]
        if mean:
            one = torch.ones_like(place, dtype=x.dtype) if self.edges.times is None else self.edges.times.to(x.dtype)
            number = one.new_zeros(self.present.numel() * kinds).index_add(0, place, one)
            sent = sent * number.reciprocal()[place][:, None, None]
        out = x.new_zeros(self.present.numel() * kinds, *x.shape[2:]).index_add(0, place, sent)
        return out.unflatten(0, (*self.present.shape, kinds) if by_relation else self.present.shape)

    def _show(self, weight: Tensor | None, factor: Tensor | None) -> None:
        one = torch.ones_like(self.edges.source, dtype=torch.get_default_dtype()) if weight is None else weight.detach().mean(0)
        if self.watched is not None:
            self.watched.seen(one if factor is None else one * factor)

    def _factor(self, dtype: torch.dtype) -> Tensor | None:
        return None if self.edges.factor is None else self.edges.factor.to(dtype)

    def _targets(self, x: Tensor) -> Tensor:
        return x.flatten(0, 1).index_select(0, self.edges.target)

    def _sources(self, x: Tensor) -> Tensor:
        return x.flatten(0, 1).index_select(0, self.edges.source)


class _Softmax(Function):
    """The softmax `w_e = exp(s_e) / Σ_f t_f exp(s_f)` over all edges `f` into the target of edge `e`, with multiplicity `t_f`."""

    @staticmethod
    def forward(ctx: Any, score: Tensor, target: Tensor, nodes: int, times: Tensor | None) -> Tensor:
        place = target.expand_as(score)
        most = score.new_full((len(score), nodes), -torch.inf).scatter_reduce_(1, place, score, "amax")
        power = (score - most.gather(1, place)).exp_()
        total = score.new_zeros(len(score), nodes).scatter_add_(1, place, power if times is None else power * times)
        weight = power.div_(total.gather(1, place))
        ctx.save_for_backward(weight, target, times)
        ctx.nodes = nodes
        return weight

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        weight, target, times = ctx.saved_tensors
        place, given = target.expand_as(weight), grad * weight
        total = weight.new_zeros(len(weight), ctx.nodes).scatter_add_(1, place, given).gather(1, place)
        return given - (weight if times is None else weight * times) * total, None, None, None
