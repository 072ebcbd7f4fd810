"""Hyperedges: sets of nodes that exchange weighted means of their states. The computing time is linear in the number of nodes.

For every rule, each node belongs to exactly one hyperedge. The incidence matrix is therefore stored as one hyperedge index per node and
rule.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from erc_graph.data.batch import Batch
from erc_graph.graphs.recipe import GraphRecipe
from erc_graph.graphs.rule_edges import EdgeType, Turns
from erc_graph.graphs.rules import HYPEREDGE
from erc_graph.graphs.watch import Watch, Watched


@dataclass(frozen=True, eq=False)
class Members:
    """The `M` hyperedges of a batch and their nodes, as if all nodes were present.

    Attributes:
        index: `(rules, N, S)` index of the hyperedge of every node, for every rule.
        kind: `(M,)` index of the rule of every hyperedge.
        stream: `(M,)` index of the stream of every hyperedge; -1 for nodes of several streams.
    """

    index: Tensor
    kind: Tensor
    stream: Tensor

    @classmethod
    def of(cls, recipe: GraphRecipe, streams: int, batch: Batch) -> Members:
        """Compute the hyperedges of a batch. They are sorted by rule, then by dialogue, and last by stream, utterance or speaker."""
        index, kind, stream, first = [], [], [], 0
        place = torch.arange(streams, device=batch.device)
        for i, rule in enumerate(recipe.hyperedges):
            if rule.over == "stream":
                of_node, count = batch.dialogue[:, None] * streams + place, len(batch) * streams
            elif rule.over == "turn":
                of_node, count = torch.arange(batch.utterances, device=batch.device)[:, None].expand(-1, streams), batch.utterances
            else:
                turns = Turns.of(batch.ptr, batch.speaker, batch.utterances)
                fresh = turns.own_start[turns.order] == turns.own[turns.order]  # the first turn of every speaker, by dialogue and speaker
                number = fresh.cumsum(0) - 1
                of_node, count = number[turns.own][:, None].expand(-1, streams), int(fresh.sum())
            index.append(of_node + first)
            kind.append(torch.full((count,), i, device=batch.device))
            stream.append(place.repeat(len(batch)) if rule.over == "stream" else torch.full((count,), -1, device=batch.device))
            first += count
        return cls(torch.stack(index), torch.cat(kind), torch.cat(stream))

    @classmethod
    def kept(cls, recipe: GraphRecipe, streams: int, batch: Batch) -> Members:
        """Return the hyperedges that the method `of` computes. The batch stores them, and later calls return the stored hyperedges."""
        key = "members", recipe.hyperedges, streams
        if key not in batch.kept:
            batch.kept[key] = cls.of(recipe, streams, batch)
        members: Members = batch.kept[key]
        return members


class HyperEdges:
    """The hyperedges of a recipe over the nodes of a batch; absent nodes do not belong to any hyperedge.

    Args:
        recipe: The graph recipe.
        present: `(N, S)` bool, whether each node is present.
        streams: Names of the streams.
        members: All hyperedges, as if all nodes were present.
        watch: Object (`Watch`) that records the messages.
        first: Number of edges per dialogue that do not belong to hyperedges. In `watch.multiplier`, these edges come first.
    """

    def __init__(
        self,
        recipe: GraphRecipe,
        present: Tensor,
        streams: tuple[str, ...],
        members: Members,
        watch: Watch | None = None,
        first: int = 0,
    ) -> None:
        self.present, self.members = present, members
        names = [rule.relation for rule in recipe.hyperedges]
        self.into: Watched | None = None
        self.out: Watched | None = None
        if watch is not None:
            counts = present.sum(0).tolist() * len(names)
            into: list[EdgeType] = [(stream, name, HYPEREDGE) for name in names for stream in streams]
            self.into = Watched(watch, into, counts, first)
            self.out = Watched(watch, [(last, name, stream) for stream, name, last in into], counts, self.into.end)

    @property
    def kind(self) -> Tensor:
        """Return the index of the rule of every hyperedge, `(M,)`."""
        return self.members.kind

    @property
    def stream(self) -> Tensor:
        """Return the index of the stream of every hyperedge, `(M,)`, or -1 for a hyperedge with nodes of several streams."""
        return self.members.stream

    def gather(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        """Compute the weighted mean over the nodes of every hyperedge.

        Args:
            x: `(N, S, k)` node states; states of absent nodes are ignored.
            weight: `(N, S)` weights of the nodes; default: ones.

        Returns:
            Means `(M, k)` for `M` hyperedges; zero for a hyperedge without present nodes.
        """
        here = self.present.to(x.dtype) if weight is None else torch.where(self.present, weight, 0.0)
        size = self._summed(here.expand(len(self.members.index), -1, -1)[..., None])
        share = here / torch.where(size == 0, 1.0, size)[self.members.index].squeeze(-1)  # (rules, N, S)
        sent = share * self._multiplier(self.into, share)
        return self._summed(sent[..., None] * torch.where(self.present[..., None], x, 0.0))

    def scatter(self, messages: Tensor, weight: Tensor | None = None) -> Tensor:
        """Compute, for every node, the weighted mean over its hyperedges.

        Args:
            messages: `(M, k)` states of `M` hyperedges.
            weight: `(M,)` weights of the hyperedges; default: ones.

        Returns:
            Means `(N, S, k)`, zero for absent nodes.
        """
        index = self.members.index
        given = torch.ones(index.shape, dtype=messages.dtype, device=index.device) if weight is None else weight[index]
        total = given.sum(0)
        share = given / torch.where(total == 0, 1.0, total) * self.present
        share = share * self._multiplier(self.out, share)
        rows = messages.index_select(0, index.flatten()).unflatten(0, index.shape)
        return (share[..., None] * rows).sum(0)

    def _summed(self, x: Tensor) -> Tensor:
        """Sum the values of the nodes of every hyperedge: `(rules, N, S, k)` → `(M, k)`, for `M` hyperedges."""
        return x.new_zeros(len(self.kind), x.shape[-1]).index_add(0, self.members.index.flatten(), x.flatten(0, 2))

    def _multiplier(self, watched: Watched | None, share: Tensor) -> Tensor | float:
        """Record the weights of messages, `(rules, N, S)`, and return the factors of these messages in `watch.multiplier`."""
        if watched is None:
            return 1.0
        watched.seen(share.detach().movedim(1, 2)[self._by_type])
        if watched.multiplier is None:
            return 1.0
        factor = share.new_ones(share.shape).movedim(1, 2)  # (rules, S, N): by type, then target or source, in the order of rows
        return factor.masked_scatter(self._by_type, watched.multiplier.to(share.dtype)).movedim(1, 2)

    @cached_property
    def _by_type(self) -> Tensor:
        """Return the mask of the present nodes for every rule, `(rules, S, N)` bool; messages are recorded in this order."""
        return self.present.T.expand(len(self.members.index), -1, -1)
