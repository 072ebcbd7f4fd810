"""Edges as padded blocks, for dense graphs: every step of message passing consists of a few batched matrix products.

The matrix `W` has one value per pair of a target node and a source node, `x` are the states of sources, and `y` are the states of targets.
There are three products: `W x`, `Wᵀ y` and `y xᵀ`. The gradients of each product are computed by the other two products. The code does not
leave the backward passes to autograd, because autograd computes gradients of gather operations slowly on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.graphs.block_attention import Attend
from erc_graph.graphs.block_relations import RelationRows
from erc_graph.graphs.messages import Edges, expect_heads
from erc_graph.graphs.pair_blocks import Blocks, Bucket, as_given, fold, outer, product, unfold
from erc_graph.graphs.recipe import GraphRecipe
from erc_graph.graphs.weights import angular, directions

_WORDS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
Blocked = list[Tensor]
"""One tensor per group of padded dialogues (`Bucket`): rows `(H, D, S, T, k)`, or values of pairs of nodes `(H, D, S, T, K)`."""


class EdgeBlocks(Edges):
    """The edges of a graph recipe, stored as `P` pairs of a target node and a source node, with padding (`erc_graph.graphs.pair_blocks`).

    Args:
        recipe: The graph recipe.
        nodes: The nodes; only the mask of the present nodes is used.
        batch: The dialogues.
        blocks: All padded pairs of nodes of the batch.
    """

    def __init__(self, recipe: GraphRecipe, nodes: Nodes, batch: Batch, blocks: Blocks) -> None:
        super().__init__(recipe, nodes, batch)
        self.blocks = blocks
        self._bits: dict[int, Tensor | None] = {}
        self._rows: dict[int, _Rows] = {}
        self._masks: dict[torch.dtype, Sequence[Tensor]] = {}

    @cached_property
    def group(self) -> Tensor | None:
        """Return the group of every node, `dialogue · S + stream`, if the only edge rule joins all utterances of a stream; else `None`."""
        if len(self.recipe.edges) != 1:
            return None
        rule, streams = self.recipe.edges[0], self.present.shape[1]
        turns = rule.past is None and rule.future is None and rule.self_loops and rule.count == "turns" and rule.first_turn == "speaks"
        if not turns or rule.scope != "within" or rule.speaker != "any" or rule.source or rule.target:
            return None
        return self.batch.dialogue[:, None] * streams + torch.arange(streams, device=self.batch.device)

    @cached_property
    def relation(self) -> Tensor:
        """Return the index of the relation of every pair of nodes, `(P,)` int64; it is 0 for a pair without an edge."""
        return self.blocks.over_slots("relation", torch.long)

    @cached_property
    def valid(self) -> Tensor:
        """Return the mask of the pairs of nodes that have an edge, `(P,)` bool."""
        valid = self.blocks.over_slots("edge", torch.bool)
        if self.full:
            return valid
        here = self._row_map(1).take(self.present[..., None, None].float())
        both = [torch.cat(parts, -1) for bucket, rows in zip(self.blocks.buckets, here, strict=True) if (parts := _ends(bucket, rows))]
        return valid & torch.cat([part.flatten() for part in both]).bool() if both else valid

    def dot(self, target: Tensor, source: Tensor) -> Tensor:
        """Compute the dot product of target and source of every pair, for each of `H` heads: `(N, S, H, k)`, `(N, S, H, k)` → `(H, P)`."""
        expect_heads("dot", "(N, S, H, k)", target, source)
        dtype = torch.promote_types(target.dtype, source.dtype)
        out: Tensor = _Outer.apply(target.to(dtype), source.to(dtype), self)
        return out

    def add(self, target: Tensor, source: Tensor) -> Tensor:
        """Compute the sum of target value and source value of every pair, for each of `H` heads: `(N, S, H)`, `(N, S, H)` → `(H, P)`."""
        expect_heads("add", "(N, S, H)", target, source)
        # a + b = (a, 1) · (1, b)
        return self.dot(torch.stack([target, torch.ones_like(target)], -1), torch.stack([torch.ones_like(source), source], -1))

    def angular(self, states: Tensor) -> Tensor:
        """Compute the angular similarity of the two states of every pair of nodes: states `(N, S, k)` → `(1, P)` for `P` pairs."""
        unit = directions(states if self.full else torch.where(self.present[..., None], states, 0.0))[:, :, None]
        return angular(self.dot(unit, unit))

    def softmax(self, score: Tensor) -> Tensor:
        """Compute the softmax over the edges into every target: scores `(H, P)` of all pairs of nodes → weights `(H, P)`."""
        out: Tensor = _Softmax.apply(score, self)
        return out

    def attend(self, x: Tensor, drop: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Compute attention with `H` heads: queries, keys and values `(N, S, 3, H, k)` → outputs `(N, S, H, k)`."""
        out: Tensor = Attend.apply(x, drop, self)
        return out

    def degree(self, weight: Tensor | None = None, *, outgoing: bool = False) -> Tensor:
        """Compute the sum of the edge weights of every node, as `Edges.degree` explains: `(H, N, S)`, or `(N, S)` without weights."""
        if weight is None:
            return self._plain_degree[int(outgoing)]
        one = weight.new_ones(*self.present.shape, len(weight), 1)
        return self._product(weight, one, outgoing).squeeze(-1).movedim(-1, 0)

    @cached_property
    def _plain_degree(self) -> tuple[Tensor, Tensor]:
        weight = torch.ones(1, self.blocks.slots, device=self.present.device)
        one = weight.new_ones(*self.present.shape, 1, 1)
        into, out = (self._product(weight, one, outgoing)[:, :, 0, 0] for outgoing in (False, True))
        return into, out

    @cached_property
    def _count(self) -> Tensor:
        """Return the number of edges into every node, `(N, S)`, multiplicities included, or one for a node without edges."""
        times = self.valid.float() if self._times is None else self._times * self.valid
        total = [part.sum(-1, keepdim=True) for part in self.split(times[None])]
        return self._row_map(1).put(total).clamp(min=1)[:, :, 0, 0]

    @cached_property
    def _times(self) -> Tensor | None:
        """Return the multiplicity of the edge of every pair of nodes, `(P,)`, or `None` if all are one."""
        return None if all(rule.times == 1 for rule in self.recipe.edges) else self.blocks.over_slots("times", torch.float32)

    @cached_property
    def _factor(self) -> Tensor | None:
        """Return `scale · times` of the edge of every pair of nodes, `(P,)`, or `None` if all are one."""
        one = all(rule.times * rule.scale == 1 for rule in self.recipe.edges)
        return None if one else self.blocks.over_slots("factor", torch.float64)

    def _sum(self, x: Tensor, weight: Tensor | None, by_relation: bool, mean: bool, shown: Tensor | None) -> Tensor:
        if by_relation and weight is not None and len(self.relations) == 1:
            return self._sum(x, weight, False, mean, shown).unsqueeze(2)
        if by_relation:
            return self._by_relation.spread(self, x, weight, mean)
        if weight is None:
            weight = x.new_ones(1, self.blocks.slots)
        out = self._product(weight, x, False)
        return out / self._count[..., None, None].to(out.dtype) if mean else out

    @cached_property
    def _by_relation(self) -> RelationRows:
        return RelationRows(self.blocks, self.valid, self.relation, self._times, self._factor, len(self.relations), self.present.numel())

    def _product(self, weight: Tensor, x: Tensor, transposed: bool) -> Tensor:
        out: Tensor = _Product.apply(weight, x, self, transposed)
        return out

    # -- between nodes, rows and slots -----------------------------------------------------

    def take(self, x: Tensor) -> Blocked:
        """Copy node states `(N, S, H, k)` to one tensor per group of padded dialogues, with zeros for absent nodes and padding."""
        return self._row_map(x.shape[2]).take(x)

    def put(self, rows: Blocked) -> Tensor:
        """Undo `take`: copy the tensors of all groups of padded dialogues to node states `(N, S, H, k)`, with zeros for absent nodes."""
        return self._row_map(len(rows[0])).put(rows)

    def room(self, heads: int, width: int, like: Tensor) -> Blocked:
        """Return an uninitialised tensor per group of padded dialogues. All share one block of memory, so that `put` needs no copy."""
        return self._row_map(heads).room(width, like)

    def split(self, slots: Tensor) -> Blocked:
        """Split values `(H, P)` of all `P` pairs of nodes into tensor views, one for each group of padded dialogues."""
        return [slots[:, bucket.slots].view(len(slots), *bucket.shape, bucket.width) for bucket in self.blocks.buckets]

    def join(self, slots: Blocked) -> Tensor:
        """Undo `split`: concatenate the tensors of all groups of padded dialogues to values `(H, P)` of all `P` pairs of nodes."""
        flat = [part.reshape(len(part), -1) for part in slots]
        return flat[0] if len(flat) == 1 else torch.cat(flat, 1)

    def cleaned(self, slots: Tensor) -> Blocked:
        """Copy and `split` values `(H, P)`, multiply them by `scale · times` of the edge rule, and set values without an edge to zero."""
        return self.scaled(self.edges_only(slots))

    def clean(self, parts: Blocked) -> Blocked:
        """Multiply values from `split` by `scale · times` of the edge rule, in place; set values of node pairs without an edge to zero."""
        bits = self._bits_of(parts[0].element_size())
        if bits is not None:
            for part, word in zip(parts, self.split(bits), strict=True):
                part.view(bits.dtype).bitwise_and_(word)
        return self.scaled(parts)

    def scaled(self, parts: Blocked) -> Blocked:
        """Multiply values from `split` by the product of the options `scale` and `times` of the edge rule, in place."""
        if self._factor is not None:
            for part, factor in zip(parts, self.split(self._factor.to(parts[0].dtype)[None]), strict=True):
                part.mul_(factor)
        return parts

    def edges_only(self, slots: Tensor) -> Blocked:
        """Copy values `(H, P)`, `split` them, and set the values of pairs of nodes without an edge to zero."""
        bits = self._bits_of(slots.element_size())
        if bits is None:
            return [part.clone(memory_format=torch.contiguous_format) for part in self.split(slots)]
        # Bits, since a product with zero would let NaN through, and a choice by a mask takes four times as long.
        words = [one & other for one, other in zip(self.split(slots.detach().view(bits.dtype)), self.split(bits), strict=True)]
        return [part.view(slots.dtype) for part in words]

    def score_masks(self, dtype: torch.dtype) -> Sequence[Tensor]:
        """Return the terms that are added to attention scores before a softmax, in one tensor per group of padded dialogues.

        A term is the logarithm of the multiplicity of the edge, or a large negative number for a pair of nodes without an edge.
        """
        if dtype not in self._masks:
            times = torch.zeros(()) if self._times is None else self._times.clamp(min=1).log()
            mask = torch.where(self.valid, times.to(dtype), torch.finfo(dtype).min / 4)
            self._masks[dtype] = self.split(mask[None])
        return self._masks[dtype]

    def scales(self, dtype: torch.dtype) -> Sequence[Tensor | None]:
        """Return the factor `scale` of every edge, in one tensor per group of padded dialogues; if all are one, a list of `None`."""
        if all(rule.scale == 1 for rule in self.recipe.edges):
            return [None] * len(self.blocks.buckets)
        times = 1 if self._times is None else self._times.clamp(min=1)
        factor = self.blocks.over_slots("factor", torch.float64) / times
        return self.split(factor.to(dtype)[None])

    @cached_property
    def lonely(self) -> Sequence[Tensor]:
        """Return the indices of the target nodes without edges, padding included, in one tensor per group of padded dialogues."""
        return [(~part[0].any(-1)).flatten().nonzero().flatten() for part in self.split(self.valid[None])]

    def _bits_of(self, size: int) -> Tensor | None:
        """Return bit masks `(1, P)`: all ones for a pair of nodes with an edge, all zeros without; `None` if all pairs have an edge."""
        if size not in self._bits:
            word = torch.where(self.valid, -1, 0).to(_WORDS[size])[None]
            self._bits[size] = None if bool(self.valid.all()) else word
        return self._bits[size]

    def _row_map(self, heads: int) -> _Rows:
        if heads not in self._rows:
            self._rows[heads] = _Rows(self.blocks, self.present, heads, self.full)
        return self._rows[heads]


def _ends(bucket: Bucket, here: Tensor) -> Blocked:
    """Return, per `Chunk`, whether both nodes of every pair are present; `here` is the presence of all nodes, `(1, D, S, T, 1)`."""
    return [unfold(chunk.kind, torch.bmm(rows := fold(chunk.kind, here), rows.transpose(1, 2)), bucket.shape) for chunk in bucket.chunks]


class _Rows:
    """The assignment of nodes and attention heads to rows; the rows of a group of padded dialogues are sorted by head."""

    def __init__(self, blocks: Blocks, present: Tensor, heads: int, full: bool) -> None:
        counts = [bucket.rows for bucket in blocks.buckets]
        self.shape, self.heads = present.shape, heads
        self.shapes = [(heads, *bucket.shape) for bucket in blocks.buckets]
        if heads == 1:
            self.index, real = blocks.node, blocks.real
        else:
            head = torch.arange(heads, device=present.device)[:, None]
            self.index = torch.cat([blocks.node[:0], *((part * heads + head).flatten() for part in blocks.node.split(counts))])
            real = torch.cat([blocks.real[:0], *(part.repeat(heads) for part in blocks.real.split(counts))])
        at = real.nonzero().flatten()
        self.place = torch.empty(present.numel() * heads, dtype=torch.long, device=present.device).index_copy_(0, self.index[at], at)
        self.absent: Tensor | None = None
        if not full:
            flat = present.flatten().repeat_interleave(heads)
            self.absent, real = (~flat).nonzero().flatten(), real & flat[self.index]
        self.empty = (~real).nonzero().flatten()

    def take(self, x: Tensor) -> Blocked:
        return self._apart(x.reshape(-1, x.shape[-1]).index_select(0, self.index).index_fill_(0, self.empty, 0))

    def room(self, width: int, like: Tensor) -> Blocked:
        return self._apart(like.new_empty(len(self.index), width))

    def _apart(self, rows: Tensor) -> Blocked:
        parts = rows.split([h * d * s * t for h, d, s, t in self.shapes])
        return [part.view(*shape, -1) for part, shape in zip(parts, self.shapes, strict=True)]

    def put(self, rows: Blocked) -> Tensor:
        out = self._joined(rows).index_select(0, self.place)
        out = out if self.absent is None else out.index_fill_(0, self.absent, 0)
        return out.view(*self.shape, self.heads, -1)

    def _joined(self, rows: Blocked) -> Tensor:
        """Return all `R` rows as one tensor `(R, k)`, without a copy if they are already in one block of memory."""
        flat = [part.reshape(-1, part.shape[-1]) for part in rows]
        whole = flat[0]._base
        if whole is not None and whole.shape == (len(self.index), flat[0].shape[-1]) and all(part._base is whole for part in flat):
            return whole
        return flat[0] if len(flat) == 1 else torch.cat(flat)


class _Outer(Function):
    """The autograd function of `EdgeBlocks.dot`."""

    @staticmethod
    def forward(ctx: Any, target: Tensor, source: Tensor, edges: EdgeBlocks) -> Tensor:
        with as_given(target):
            targets, sources = edges.take(target), edges.take(source)
            ctx.edges, ctx.count = edges, len(targets)
            ctx.save_for_backward(*targets, *sources)
            slots = [outer(*parts) for parts in zip(edges.blocks.buckets, targets, sources, strict=True)]
            return edges.join(slots)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        edges, saved = ctx.edges, ctx.saved_tensors
        targets, sources, slots = saved[: ctx.count], saved[ctx.count :], edges.split(grad.contiguous())
        buckets, found = edges.blocks.buckets, []
        for needed, rows, transposed in ((ctx.needs_input_grad[0], sources, False), (ctx.needs_input_grad[1], targets, True)):
            parts = [product(bucket, w, x, transposed) for bucket, w, x in zip(buckets, slots, rows, strict=True)] if needed else []
            found.append(edges.put(parts) if needed else None)
        return found[0], found[1], None


class _Product(Function):
    """The autograd function of the products `W x` and `Wᵀ y`, where `W` is zero for pairs of nodes without an edge."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, x: Tensor, edges: EdgeBlocks, transposed: bool) -> Tensor:
        with as_given(x):
            slots, rows = edges.cleaned(weight), edges.take(x)
            ctx.edges, ctx.transposed, ctx.count = edges, transposed, len(rows)
            ctx.save_for_backward(*slots, *rows)
            return edges.put([product(*parts, transposed) for parts in zip(edges.blocks.buckets, slots, rows, strict=True)])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        edges, saved = ctx.edges, ctx.saved_tensors
        slots, rows, given = saved[: ctx.count], saved[ctx.count :], edges.take(grad)
        buckets = edges.blocks.buckets
        to_weight = to_x = None
        if ctx.needs_input_grad[0]:
            ends = (rows, given) if ctx.transposed else (given, rows)
            parts = [outer(*three) for three in zip(buckets, *ends, strict=True)]
            to_weight = edges.join(edges.clean(parts))
        if ctx.needs_input_grad[1]:
            to_x = edges.put([product(*three, not ctx.transposed) for three in zip(buckets, slots, given, strict=True)])
        return to_weight, to_x, None, None


class _Softmax(Function):
    """The autograd function of `EdgeBlocks.softmax`: a softmax over the edges into a target, and zero for pairs without an edge."""

    @staticmethod
    def forward(ctx: Any, score: Tensor, edges: EdgeBlocks) -> Tensor:
        ctx.edges, parts = edges, []
        for slots, mask, lonely in zip(edges.edges_only(score), edges.score_masks(score.dtype), edges.lonely, strict=True):
            weight = torch.softmax(slots.add_(mask), -1)
            weight.view(len(score), -1, weight.shape[-1]).index_fill_(1, lonely, 0)
            parts.append(weight)
        out = edges.join(parts)
        ctx.save_for_backward(out)
        if edges._times is None:
            return out
        return out / edges._times.clamp(min=1).to(out.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        edges, (out,) = ctx.edges, ctx.saved_tensors
        if edges._times is not None:
            grad = grad / edges._times.clamp(min=1).to(grad.dtype)
        pairs = zip(edges.split(grad.contiguous()), edges.split(out), strict=True)
        parts = [torch._softmax_backward_data(g.contiguous(), w.contiguous(), -1, out.dtype) for g, w in pairs]
        return edges.join(parts), None
