"""Sums of messages per relation, for edges that are stored as padded blocks (`erc_graph.graphs.edge_blocks`).

A target node has edges of few relations. For example, if every ordered pair of speakers has its own relation, a target only has edges whose
relation contains the target's speaker. A **row** is a pair of a target and a relation that has at least one edge into this target. Sums are
computed only for rows, so that the matrix products are small.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd import Function

from erc_graph.graphs.pair_blocks import Blocks, Bucket, Chunk, as_given, fold, unfold

if TYPE_CHECKING:
    from erc_graph.graphs.edge_blocks import EdgeBlocks


@dataclass(frozen=True, eq=False)
class _Plan:
    """The matrices that sum the messages of a `Chunk`. A row of a matrix is a target and a relation with at least one edge.

    There are `G` groups of `n` nodes, with at most `M` rows per group and `R` relations. Every group has a matrix.

    Attributes:
        chunk: The chunk: all targets and one kind of possible sources.
        total: `(G, M, n)` `scale · times` of the edge from a source node to the target of a row, or zero without an edge.
        mean: `(G, M, n)` `total`, divided by the number of edges of the row.
        target: `(G · M,)` index of the target of every row in the concatenated groups; arbitrary for an unused row.
        out: `(G · M,)` `node * R + relation` of every row, with the index of the target node; arbitrary for an unused row.
        real: `(G · M,)` bool, false for an unused row.
    """

    chunk: Chunk
    total: Tensor
    mean: Tensor
    target: Tensor
    out: Tensor
    real: Tensor

    @classmethod
    def of(cls, chunk: Chunk, node: Tensor, kinds: int, values: tuple[Tensor, Tensor, Tensor | None, Tensor | None]) -> _Plan:
        """Compute the matrices for a `Chunk`, whose nodes are in `G` groups of `n` nodes.

        Args:
            chunk: The chunk: all targets and one kind of possible sources.
            node: `(G, n)` index of every node.
            kinds: `R`, number of relations.
            values: The arguments `valid`, `relation`, `times` and `factor` of `RelationRows`, in the shape `(G, n, n)`.
        """
        valid, relation, times, factor = values
        groups, size, width = valid.shape
        edge = valid.flatten().nonzero().flatten()
        row = (edge // width) * kinds + relation.flatten()[edge]  # a row for every target and relation, most of them empty
        one = torch.ones_like(row, dtype=torch.float64) if times is None else times.flatten()[edge].double()
        number = one.new_zeros(groups * size * kinds).index_add_(0, row, one)
        filled = number > 0
        place = filled.view(groups, -1).cumsum(1).sub_(1)
        most = int(place[:, -1].max()) + 1 if groups else 0
        place = (place + most * torch.arange(groups, device=row.device)[:, None]).flatten()
        at = filled.nonzero().flatten()
        rows = place[at]

        def put(values: Tensor) -> Tensor:
            return values.new_zeros(groups * most).index_copy_(0, rows, values)

        value = torch.ones_like(one) if factor is None else factor.flatten()[edge]
        total = value.new_zeros(groups * most * width)
        total[place[row] * width + edge % width] = value
        total = total.view(groups, most, width)
        share = put(number[at].reciprocal()).view(groups, most, 1)
        target = put(at // kinds)
        return cls(chunk, total, total * share, target, node.flatten()[target] * kinds + put(at % kinds), put(torch.ones_like(at)).bool())


class RelationRows:
    """Matrices that sum the messages of a batch. A matrix row stands for a target node and a relation with an edge into this node.

    Args:
        blocks: The `P` pairs of a target node and a possible source node, padding included.
        valid: `(P,)` bool, whether the pair has an edge between present nodes.
        relation: `(P,)` int64, index of the relation of every pair.
        times: `(P,)` multiplicity of the edge of every pair; `None`: all multiplicities are one.
        factor: `(P,)` factor of every edge, the product of the rule's options `scale` and `times`; `None`: all factors are one.
        kinds: `R`, number of relations.
        nodes: `N · S`, the number of nodes: utterances times streams.
    """

    def __init__(
        self, blocks: Blocks, valid: Tensor, relation: Tensor, times: Tensor | None, factor: Tensor | None, kinds: int, nodes: int
    ) -> None:
        self.kinds, self.nodes = kinds, nodes
        self.plans: list[tuple[Bucket, list[_Plan]]] = []
        first = 0
        for bucket in blocks.buckets:
            node = blocks.node[first : first + bucket.rows].view(1, *bucket.shape, 1)
            first += bucket.rows

            def slots(values: Tensor | None, chunk: Chunk, bucket: Bucket = bucket) -> Any:
                if values is None:
                    return None
                return fold(chunk.kind, values[bucket.slots].view(1, *bucket.shape, bucket.width)[..., chunk.part])

            plans = []
            for chunk in bucket.chunks:
                about = (slots(valid, chunk), slots(relation, chunk), slots(times, chunk), slots(factor, chunk))
                plans.append(_Plan.of(chunk, fold(chunk.kind, node), kinds, about))
            self.plans.append((bucket, plans))
        self._index: dict[int, tuple[Tensor, Tensor]] = {}
        self._as: dict[torch.dtype, list[tuple[Tensor, Tensor]]] = {}

    def index(self, heads: int) -> tuple[Tensor, Tensor]:
        """Return two index tensors: sum → row of the concatenated matrices, `(N · S · R · H,)`, and row → sum.

        There is one sum for every node, relation and attention head. A sum without edges has no row; its index is the number of rows.
        """
        if heads not in self._index:
            out, real = [], []
            for _, plans in self.plans:
                for plan in plans:
                    head = torch.arange(heads, device=plan.out.device)[:, None]
                    out.append((plan.out * heads + head).flatten())
                    real.append(plan.real.repeat(heads))
            sums, filled = torch.cat(out), torch.cat(real).nonzero().flatten()
            rows = sums.new_full((self.nodes * self.kinds * heads,), len(sums)).index_copy_(0, sums[filled], filled)
            self._index[heads] = rows, sums
        return self._index[heads]

    def matrices(self, dtype: torch.dtype, mean: bool) -> list[Tensor]:
        """Return matrices; their products with the states of sources are the sums of messages, or, if `mean`, the means."""
        if dtype not in self._as:
            self._as[dtype] = [(plan.total.to(dtype), plan.mean.to(dtype)) for _, plans in self.plans for plan in plans]
        return [pair[int(mean)] for pair in self._as[dtype]]

    def spread(self, edges: EdgeBlocks, x: Tensor, weight: Tensor | None, mean: bool) -> Tensor:
        """Compute the sum of messages for each of `R` relations: states `(N, S, H, k)`, weights `(H, P)` or `None` → `(N, S, R, H, k)`."""
        out: Tensor = _ByRelation.apply(x, weight, self, edges, mean)
        return out


def _weighted(plan: _Plan, matrix: Tensor, slots: Tensor) -> Tensor:
    """Multiply the values of a matrix by the weights of their edges: matrix `(G, M, n)`, weights `(H, D, S, T, K)` → `(H · G, M, n)`."""
    weight = fold(plan.chunk.kind, slots[..., plan.chunk.part]).reshape(len(slots), -1, plan.chunk.width)
    return weight.index_select(1, plan.target).view(len(slots), *matrix.shape).mul_(matrix).flatten(0, 1)


class _ByRelation(Function):
    """The autograd function of `RelationRows.spread`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, rows: RelationRows, edges: EdgeBlocks, mean: bool) -> Tensor:
        with as_given(x):
            heads, width = x.shape[2:]
            nodes, slots = edges.take(x), [None] * len(rows.plans) if weight is None else edges.edges_only(weight)
            index, sums = rows.index(heads)
            buffer = x.new_empty(len(sums) + 1, width)
            buffer[-1] = 0
            matrices, first, kept = iter(rows.matrices(x.dtype, mean)), 0, []
            for (_, plans), node, slot in zip(rows.plans, nodes, slots, strict=True):
                for plan in plans:
                    matrix = next(matrices)
                    matrix = matrix if slot is None else _weighted(plan, matrix, slot)
                    kept.append(matrix)
                    end = first + matrix.shape[0] * matrix.shape[1]
                    torch.bmm(matrix, fold(plan.chunk.kind, node), out=buffer[first:end].view(*matrix.shape[:2], width))
                    first = end
            ctx.rows, ctx.edges, ctx.mean, ctx.heads = rows, edges, mean, heads
            ctx.save_for_backward(*kept, *(nodes if weight is not None and ctx.needs_input_grad[1] else ()))
            return buffer.index_select(0, index).view(*x.shape[:2], rows.kinds, heads, width)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows, edges, heads = ctx.rows, ctx.edges, ctx.heads
        count = sum(len(plans) for _, plans in rows.plans)
        kept, nodes = iter(ctx.saved_tensors[:count]), iter(ctx.saved_tensors[count:])
        given = grad.reshape(-1, grad.shape[-1]).index_select(0, rows.index(heads)[1])
        matrices, first, to_nodes, to_slots = iter(rows.matrices(grad.dtype, ctx.mean)), 0, [], []
        for bucket, plans in rows.plans:
            node = next(nodes) if ctx.needs_input_grad[1] else None
            total, parts = None, []
            for plan in plans:
                matrix, plain = next(kept), next(matrices)
                end = first + matrix.shape[0] * matrix.shape[1]
                part = given[first:end].view(*matrix.shape[:2], grad.shape[-1])
                first = end
                if ctx.needs_input_grad[0]:
                    back = unfold(plan.chunk.kind, torch.bmm(matrix.transpose(1, 2), part), bucket.shape)
                    total = back if total is None else total + back
                if node is not None:
                    inner = torch.bmm(part, fold(plan.chunk.kind, node).transpose(1, 2)).view(heads, *plain.shape).mul_(plain)
                    groups = plain.shape[0] * plan.chunk.width if plan.chunk.kind != "turn" else plain.shape[0] * bucket.streams
                    flat = inner.new_zeros(heads, groups, plan.chunk.width).index_add_(1, plan.target, inner.flatten(1, 2))
                    parts.append(unfold(plan.chunk.kind, flat.view(-1, groups // plain.shape[0], plan.chunk.width), bucket.shape))
            to_nodes.append(total)
            to_slots.append(torch.cat(parts, -1) if len(parts) > 1 else parts[0] if parts else None)
        to_x = edges.put(to_nodes) if ctx.needs_input_grad[0] else None
        return to_x, edges.join(to_slots) if ctx.needs_input_grad[1] else None, None, None, None
