"""Fused attention: scores, softmax and weighted sums are computed for one group of padded dialogues after another.

The outputs equal `spread(value, softmax(dot(query, key)))`, where `spread`, `softmax` and `dot` are methods of
`erc_graph.graphs.messages.Edges`. The fused computation needs less memory. It stores two copies of the node states instead of eight, and no
tensor with one value for every pair of nodes in the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd import Function

from erc_graph.graphs.pair_blocks import as_given, outer, product

if TYPE_CHECKING:
    from erc_graph.graphs.edge_blocks import EdgeBlocks


class Attend(Function):
    """Autograd function of attention with `H` heads: queries, keys and values `(N, S, 3, H, k)` → outputs `(N, S, H, k)`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, drop: Callable[[Tensor], Tensor] | None, edges: EdgeBlocks) -> Tensor:
        """Compute the attention outputs, for one group of padded dialogues after another."""
        with as_given(x):
            rows, kept = edges.take(x.flatten(2, 3)), []
            sums = edges.room(x.shape[3], x.shape[4], x)
            scales = edges.scales(x.dtype)
            parts = zip(edges.blocks.buckets, rows, edges.score_masks(x.dtype), edges.lonely, scales, sums, strict=True)
            for bucket, row, mask, lonely, scale, total in parts:
                query, key, value = row.unflatten(0, (3, -1)).unbind(0)  # (H, D, S, T, k)
                score = outer(bucket, query, key).add_(mask)
                weight = torch.softmax(score, -1)
                weight.view(len(weight), -1, weight.shape[-1]).index_fill_(1, lonely, 0)
                factor = scale
                if drop is not None:
                    factor = drop(torch.ones_like(weight) if scale is None else scale.expand_as(weight))
                product(bucket, weight if factor is None else weight * factor, value, False, total)
                kept += [weight, weight[:0] if factor is None else factor]
            ctx.edges, ctx.count = edges, len(rows)
            ctx.save_for_backward(*rows, *kept)
            return edges.put(sums)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """Return the gradients of the queries, keys and values, in one tensor of shape `(N, S, 3, H, k)`."""
        edges, saved = ctx.edges, ctx.saved_tensors
        rows, kept = saved[: ctx.count], saved[ctx.count :]
        found = edges.room(3 * grad.shape[2], grad.shape[3], grad)
        for i, (bucket, row, given, into) in enumerate(zip(edges.blocks.buckets, rows, edges.take(grad), found, strict=True)):
            query, key, value = row.unflatten(0, (3, -1)).unbind(0)
            weight, factor = kept[2 * i], kept[2 * i + 1]
            slope, sent = outer(bucket, given, value), weight
            if len(factor):
                slope, sent = slope.mul_(factor), weight * factor
            slope = torch._softmax_backward_data(slope, weight, -1, weight.dtype)
            parts = ((slope, key, False), (slope, query, True), (sent, given, True))
            for part, third in zip(parts, into.unflatten(0, (3, -1)), strict=True):
                product(bucket, *part, third)
        return edges.put(found).unflatten(2, (3, -1)), None, None
