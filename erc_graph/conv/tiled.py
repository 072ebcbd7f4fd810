"""Propagation tile by tile: weights are computed from directions when they are needed, forward and backward, and kept nowhere.

Memory grows with the number of turns. Two ways to cut, which differ in what a tile sees:

- **strips**, where some rule reaches all turns: some targets of every dialogue of a bucket against all sources;
- **bands**, where every rule within streams is a window: the turns stand in one string, a tile is a few targets against
  the sources that they reach, and many tiles are one batched product. Time is linear in the turns.

Degrees are the same product with a one per node. With `y = r x` and `z = A y`, the gradient of `P x = r z` for an outgoing `g` is
`∂x = r ∘ Aᵀ(r g)`, `∂A = (r g) yᵀ`, `∂r = g·z + x·Aᵀ(r g)`, and `∂A` of a tile becomes a gradient of directions at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from erc_graph.conv.layout import Bucket, Layout, in_buckets, in_one_string
from erc_graph.conv.operator import (
    Factor,
    WrittenPropagation,
    bend,
    factors,
    full_precision,
    inverse_root,
    is_whole,
    rules_by_scope,
    scales,
    weigh,
    working,
)
from erc_graph.data.batch import Batch
from erc_graph.graphs.recipe import EdgeRule, GraphRecipe
from erc_graph.graphs.weights import TINY, angular

STRIP = 2**22  # weights of a strip: 16 MiB in float32, and a few times that in the backward pass
BAND = 32  # targets of a tile, unless a window is longer
ROWS = 2**12  # targets of the tiles that are computed at once; what they need stays in the processor's cache


class _Tile:
    """Some targets and the sources that they may reach."""

    def __init__(self, weights: tuple[Factor, Factor]) -> None:
        self.weights = weights

    def targets(self, rows: Tensor) -> Tensor:
        """`(R, k)` → `(b, t, k)`, a view."""
        raise NotImplementedError

    def sources(self, rows: Tensor) -> Tensor:
        """`(R, k)` → `(b, s, k)`, a view; rows may appear in several tiles."""
        raise NotImplementedError

    def give(self, rows: Tensor, part: Tensor, x: Tensor) -> None:
        """Add `part @ x`, `(b, s, t)` and `(b, t, k)`, to the rows of the sources."""
        raise NotImplementedError


class _Strip(_Tile):
    def __init__(self, bucket: Bucket, first: int, last: int, weights: tuple[Factor, Factor]) -> None:
        super().__init__(weights)
        self.bucket, self.first, self.last = bucket, first, last

    def targets(self, rows: Tensor) -> Tensor:
        return self.bucket.sequences(rows)[:, self.first : self.last]

    def sources(self, rows: Tensor) -> Tensor:
        return self.bucket.sequences(rows)

    def give(self, rows: Tensor, part: Tensor, x: Tensor) -> None:
        self.bucket.sequences(rows).baddbmm_(part, x)


class _Band(_Tile):
    def __init__(self, first: int, tiles: int, size: int, past: int, future: int, weights: tuple[Factor, Factor]) -> None:
        super().__init__(weights)
        self.first, self.tiles, self.size, self.past, self.future = first, tiles, size, past, future

    def _window(self, rows: Tensor, start: int, length: int) -> Tensor:
        k = rows.shape[1]
        offset = rows.storage_offset() + (self.first * self.size + start) * k
        return rows.as_strided((self.tiles, length, k), (self.size * k, k, 1), offset)

    def targets(self, rows: Tensor) -> Tensor:
        return self._window(rows, self.past, self.size)

    def sources(self, rows: Tensor) -> Tensor:
        return self._window(rows, 0, self.past + self.size + self.future)

    def give(self, rows: Tensor, part: Tensor, x: Tensor) -> None:
        # Neighbouring tiles share sources, but no two tiles share a row within one of these three pieces.
        total = torch.bmm(part, x)
        start = 0
        for length in (self.past, self.size, self.future):
            if length:
                self._window(rows, start, length).add_(total[:, start : start + length])
            start += length


class _Plan:
    """How the weights within streams are cut into tiles.

    Attributes:
        layout: Where the nodes stand.
    """

    def __init__(self, rules: Sequence[EdgeRule], batch: Batch, streams: int, dtype: torch.dtype) -> None:
        self.rules, self.dtype = rules, dtype
        reach = [(rule.past, rule.future) for rule in rules]
        self.window = windowed(rules)
        if self.window:
            self.past, self.future = (max((pair[i] or 0 for pair in reach), default=0) for i in (0, 1))
            self.size = max(BAND, self.past, self.future)
            self.layout = in_one_string(batch.sizes, streams, self.past, self.future, self.size, batch.device)
        else:
            self.layout = in_buckets(batch.sizes, streams, batch.device)
        self.speaker = None
        if any(rule.speaker != "any" for rule in rules):
            self.speaker = self.layout.arrange(batch.speaker[:, None, None].expand(-1, streams, 1))
        self.whole = all(is_whole(rule) for rule in rules)
        self.angular = any(rule.weight == "angular" and rule.scale for rule in rules)

    def tiles(self) -> Iterator[_Tile]:
        """All of them, in order; the weights by the rules are made with each."""
        if not self.rules:
            return
        device = self.layout.place.device
        if self.window:
            count = (self.layout.rows - self.past - self.future) // self.size
            behind = torch.arange(self.size, device=device)[:, None] + self.past
            behind = behind - torch.arange(self.past + self.size + self.future, device=device)
            fixed = None if self.speaker is not None else factors(self.rules, behind, None, self.dtype)
            step = max(1, ROWS // self.size)
            for first in range(0, count, step):
                tile = _Band(first, min(step, count - first), self.size, self.past, self.future, fixed or (0.0, 0.0))
                yield self._heard(tile, behind) if fixed is None else tile
            return
        for bucket in self.layout.buckets:
            step = max(8, STRIP // max(1, bucket.end - bucket.first))
            for first in range(0, bucket.turns, step):
                last = min(first + step, bucket.turns)
                behind = torch.arange(first, last, device=device)[:, None] - torch.arange(bucket.turns, device=device)
                yield self._heard(_Strip(bucket, first, last, (0.0, 0.0)), behind)

    def _heard(self, tile: _Tile, behind: Tensor) -> _Tile:
        same = None if self.speaker is None else tile.targets(self.speaker) == tile.sources(self.speaker).mT
        tile.weights = factors(self.rules, behind, same, self.dtype)
        return tile

    def similar(self, tile: _Tile, unit: Tensor, *, with_slope: bool) -> tuple[Tensor, Tensor | None]:
        """Weights `(b, t, s)` of a tile, and how fast they change with the cosines."""
        targets, sources = tile.targets(unit), tile.sources(unit)
        if not self.angular:
            zero = unit.new_zeros(len(targets), targets.shape[1], sources.shape[1])
            return weigh(zero, *tile.weights), None
        cosine = torch.bmm(targets, sources.mT)
        slope = bend(cosine, with_slope=with_slope)
        return weigh(cosine, *tile.weights), None if slope is None else weigh(slope, tile.weights[0], 0.0)

    def sum(self, y: Tensor, unit: Tensor) -> Tensor:
        """`A y`."""
        out = torch.zeros_like(y)
        for tile in self.tiles():
            weights, _ = self.similar(tile, unit, with_slope=False)
            tile.targets(out).copy_(torch.bmm(weights, tile.sources(y)))
        return out

    def pull(self, grad: Tensor, y: Tensor, unit: Tensor, to_y: Tensor | None, to_unit: Tensor | None) -> None:
        """Add the gradients of `A y`, where they are asked for."""
        to_unit = to_unit if self.angular else None
        for tile in self.tiles():
            weights, slope = self.similar(tile, unit, with_slope=to_unit is not None)
            into = tile.targets(grad)
            if to_y is not None:
                tile.give(to_y, weights.mT, into)
            if to_unit is not None and slope is not None:
                edge = torch.bmm(into, tile.sources(y).mT).mul_(slope)
                tile.give(to_unit, edge.mT, tile.targets(unit))
                tile.targets(to_unit).add_(torch.bmm(edge, tile.sources(unit)))


def windowed(rules: Sequence[EdgeRule]) -> bool:
    """Whether no rule reaches all turns, so that tiles may be cut as bands."""
    return all(rule.past is not None and rule.future is not None for rule in rules)


class _Directions(Function):
    """States scaled to length one, as `erc_graph.graphs.weights.directions`, with one tensor kept."""

    @staticmethod
    def forward(ctx: Any, states: Tensor) -> Tensor:
        shrink = torch.rsqrt(torch.linalg.vecdot(states, states)[:, None] + TINY)
        unit = states * shrink
        ctx.save_for_backward(unit, shrink)
        return unit

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        unit, shrink = ctx.saved_tensors
        along = torch.linalg.vecdot(grad, unit)[:, None]
        return torch.addcmul(grad, unit, along, value=-1).mul_(shrink)


class _Degrees(Function):
    """Sums of weights over the nodes that are there, `(R, 1)`, within streams."""

    @staticmethod
    def forward(ctx: Any, here: Tensor, unit: Tensor, plan: _Plan) -> Tensor:
        ctx.save_for_backward(here, unit)
        ctx.plan = plan
        return plan.sum(here, unit)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor | None, None]:
        here, unit = ctx.saved_tensors
        if not ctx.needs_input_grad[1]:
            return None, None, None
        to_unit = torch.zeros_like(unit)
        ctx.plan.pull(grad.contiguous(), here, unit, None, to_unit)
        return None, to_unit, None


def _mixes(layout: Layout, mix: Tensor) -> list[tuple[Bucket, Tensor]]:
    if not len(mix):
        return []
    parts = mix.split([bucket.dialogues * bucket.turns for bucket in layout.buckets])
    return list(zip(layout.buckets, parts, strict=True))


class TiledPropagation(WrittenPropagation):
    """Weights are computed when they are needed; same arguments as `BlockPropagation`, but for the layout, which is its own."""

    keeps = False

    def __init__(self, recipe: GraphRecipe, batch: Batch, states: Tensor, present: Tensor) -> None:
        within, across = rules_by_scope(recipe)
        self.streams = states.shape[1]
        self.plan = _Plan(within, batch, self.streams, working(states[:0]).dtype)
        self.layout = layout = self.plan.layout
        self.states = layout.arrange(states)
        own = working(self.states)
        here = layout.arrange(present[..., None].to(own.dtype))  # (R, 1)
        with full_precision(own.device):
            unit = _Directions.apply(own)
            degree = _Degrees.apply(here, unit, self.plan)
            mix = self._mix(here, unit, scales(across)) if any(scales(across)) and self.streams > 1 and len(own) else None
            if mix is not None:
                parts = [part.sum(-1).T.reshape(-1) for _, part in _mixes(layout, mix)]
                parts.append(degree.new_zeros(layout.rows - sum(len(part) for part in parts)))
                degree = degree + torch.cat(parts)[:, None]
            self.parts = (unit, here * inverse_root(degree), here.new_empty(0) if mix is None else mix)

    def _mix(self, here: Tensor, unit: Tensor, across: tuple[float, float]) -> Tensor:
        """`(turns, S, S)` weights across streams."""
        there = torch.cat([bucket.streams_of(here) for bucket in self.layout.buckets])  # (turns, S, 1)
        pairs = there * there.mT * (1 - torch.eye(self.streams, device=here.device, dtype=here.dtype))
        if not across[0]:
            return pairs * across[1]
        cosine = torch.cat([bucket.streams_of(unit) @ bucket.streams_of(unit).mT for bucket in self.layout.buckets])
        return pairs * (across[0] * angular(cosine.clamp(-1, 1)) + across[1])

    def rows(self, x: Tensor) -> Tensor:
        """`(N, S, k)` → `(R, k)`."""
        return self.layout.arrange(x)

    def apply(self, x: Tensor, parts: tuple[Tensor, ...]) -> Tensor:
        """`P x`, without autograd."""
        unit, root, mix = parts
        y = x * root
        out = self.plan.sum(y, unit)
        for bucket, part in _mixes(self.layout, mix):
            bucket.streams_of(out).add_(torch.bmm(part, bucket.streams_of(y)))
        return out.mul_(root)

    def pull(self, grad: Tensor, x: Tensor, out: Tensor, parts: tuple[Tensor, ...], into: list[Tensor | None]) -> Tensor:
        """Gradient of `x`; those of directions, roots and mixes go to `into`."""
        unit, root, mix = parts
        to_unit, to_root, to_mix = into
        if to_root is not None:
            to_root += torch.where(root > 0, torch.linalg.vecdot(grad, out)[:, None] / root, 0.0)
        y, above = x * root, grad * root
        to_y = torch.zeros_like(y)
        self.plan.pull(above, y, unit, to_y, to_unit)
        for bucket, part in _mixes(self.layout, mix):
            bucket.streams_of(to_y).add_(torch.bmm(part.mT, bucket.streams_of(above)))
        for bucket, part in _mixes(self.layout, to_mix) if to_mix is not None else ():
            part.baddbmm_(bucket.streams_of(above), bucket.streams_of(y).mT)
        if to_root is not None:
            to_root += torch.linalg.vecdot(to_y, x)[:, None]
        return to_y.mul_(root)

    def back(self, rows: Tensor) -> Tensor:
        """`(R, k)` → `(N, S, k)`."""
        return self.layout.restore(rows, self.streams)
