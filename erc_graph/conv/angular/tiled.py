"""Propagation tile by tile: the forward and the backward pass compute the edge weights of a tile when needed, and never store weights.

A tile is a block of the weight matrix: some target nodes and all their possible source nodes. Memory is linear in the number of utterances.
There are two kinds of tiles:

- **strips**, if a rule joins all utterances. A strip contains a few targets of every dialogue in a group, with all their sources.
- **bands**, if every rule within streams is a window. A band contains a few targets, with the sources in their windows. All dialogues of a
  stream follow each other, and one batched product computes many tiles. Time is linear in the number of utterances.

Degrees are computed by the same products, from a vector of ones instead of states `x`. `A` are the edge weights, `r` are the inverse roots
of the degrees, `y = r x` and `z = A y`. Let `g` be the gradient of the output `P x = r z`. Then the gradients are `∂x = r ∘ Aᵀ(r g)`,
`∂A = (r g) yᵀ` and `∂r = g·z + x·Aᵀ(r g)`. Before the next tile, the gradient `∂A` of a tile is converted to a gradient of the states that
are scaled to length one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from erc_graph.conv.angular.layout import Bucket, Piece, Rows, in_buckets, in_one_string
from erc_graph.conv.angular.written import (
    Factor,
    WrittenPropagation,
    backward_in_full_precision,
    bend,
    blend,
    factors,
    full_precision,
    inverse_root,
    is_whole,
    rules_by_scope,
    scales,
    slope,
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
    """A tile: `b` blocks of the weight matrix, each with `t` target nodes and their `s` possible source nodes."""

    def __init__(self, weights: tuple[Factor, Factor]) -> None:
        self.factors = weights

    def targets(self, rows: Tensor) -> Tensor:
        """Return a view of the rows of the targets: `(R, k)` → `(b, t, k)`, for `t` targets in each of `b` blocks."""
        raise NotImplementedError

    def sources(self, rows: Tensor) -> Tensor:
        """Return a view of the rows of the sources: `(R, k)` → `(b, s, k)`, for `s` sources in each of `b` blocks."""
        raise NotImplementedError

    def give(self, rows: Tensor, part: Tensor, x: Tensor) -> None:
        """Add the product of `part`, `(b, s, t)`, and `x`, `(b, t, k)`, to the rows of the sources."""
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
        step = rows.stride(0)
        offset = rows.storage_offset() + (self.first * self.size + start) * step
        return rows.as_strided((self.tiles, length, rows.shape[1]), (self.size * step, step, 1), offset)

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
    """The division of the edge weights within streams into tiles (blocks of the weight matrix).

    Attributes:
        layout: Arrangement of the nodes as rows.
    """

    def __init__(self, rules: Sequence[EdgeRule], batch: Batch, streams: int, dtype: torch.dtype) -> None:
        self.rules, self.dtype = rules, dtype
        reach = [(rule.behind, rule.ahead) for rule in rules]
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

    def tiles(self, piece: Piece) -> Iterator[_Tile]:
        """Yield all tiles of a group of rows (`Piece`), in order."""
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
                yield self._heard(piece, tile, behind) if fixed is None else tile
            return
        for bucket in piece.buckets:
            step = max(8, STRIP // max(1, bucket.end - bucket.first))
            for first in range(0, bucket.turns, step):
                last = min(first + step, bucket.turns)
                behind = torch.arange(first, last, device=device)[:, None] - torch.arange(bucket.turns, device=device)
                yield self._heard(piece, _Strip(bucket, first, last, (0.0, 0.0)), behind)

    def _heard(self, piece: Piece, tile: _Tile, behind: Tensor) -> _Tile:
        same = None
        if self.speaker is not None:
            speaker = self.speaker[piece.rows]
            same = tile.targets(speaker) == tile.sources(speaker).mT
        tile.factors = factors(self.rules, behind, same, self.dtype)
        return tile

    def weights(self, tile: _Tile, unit: Tensor) -> Tensor:
        """Compute the edge weights of a tile, `(b, t, s)`: `t` targets and `s` sources for each of `b` blocks."""
        targets, sources = tile.targets(unit), tile.sources(unit)
        if not self.angular:
            return weigh(unit.new_zeros(len(targets), targets.shape[1], sources.shape[1]), *tile.factors)
        return weigh(bend(torch.bmm(targets, sources.mT)), *tile.factors)

    def sum(self, piece: Piece, y: Tensor, unit: Tensor, out: Tensor) -> None:
        """Compute the weighted sums `A y` of a group of rows (`Piece`), with edge weights `A`, and write them to `out`."""
        out.zero_()
        for tile in self.tiles(piece):
            tile.targets(out).copy_(torch.bmm(self.weights(tile, unit), tile.sources(y)))

    def pull(self, piece: Piece, grad: Tensor, unit: Tensor, out: Tensor) -> None:
        """Compute the gradient `Aᵀ grad` of a group of rows (`Piece`), with edge weights `A`, and write it to `out`."""
        out.zero_()
        for tile in self.tiles(piece):
            tile.give(out, self.weights(tile, unit).mT, tile.targets(grad))

    def pull_edges(self, piece: Piece, grad: Tensor, x: Tensor, unit: Tensor, root: Tensor | None, to_unit: Tensor) -> None:
        """Add the gradient of the scaled states `unit` to `to_unit`.

        `grad` is the gradient of `R A R x`, with edge weights `A` and the diagonal matrix `R` of `root`. Without `root`, `grad` is the
        gradient of `A x`.
        """
        for tile in self.tiles(piece) if self.angular else ():
            targets, sources = tile.targets(unit), tile.sources(unit)
            edge = weigh(slope(torch.bmm(targets, sources.mT)), tile.factors[0], 0.0)
            edge.mul_(torch.bmm(tile.targets(grad), tile.sources(x).mT))
            if root is not None:
                edge.mul_(tile.targets(root)).mul_(tile.sources(root).mT)
            tile.give(to_unit, edge.mT, targets)
            tile.targets(to_unit).add_(torch.bmm(edge, sources))


def windowed(rules: Sequence[EdgeRule]) -> bool:
    """Return whether every rule is limited to a window of utterances, so that all tiles can be of the kind `_Band`."""
    return all(rule.behind is not None and rule.ahead is not None for rule in rules)


class _Directions(Function):
    """Scale states to length one, as `erc_graph.graphs.weights.directions`; fewer tensors are stored for the backward pass."""

    @staticmethod
    def forward(ctx: Any, states: Tensor) -> Tensor:
        shrink = torch.rsqrt(torch.linalg.vecdot(states, states)[:, None] + TINY)
        unit = states * shrink
        ctx.save_for_backward(unit, shrink)
        return unit

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        unit, shrink = ctx.saved_tensors
        along = torch.linalg.vecdot(grad, unit)[:, None]
        return torch.addcmul(grad, unit, along, value=-1).mul_(shrink)


class _Degrees(Function):
    """Compute the in-degrees within streams, `(R, 1)`: sums of edge weights over present source nodes."""

    @staticmethod
    def forward(ctx: Any, here: Tensor, unit: Tensor, plan: _Plan) -> Tensor:
        ctx.save_for_backward(here, unit)
        ctx.plan, out = plan, torch.empty_like(here)
        for piece in plan.layout.pieces:
            plan.sum(piece, here[piece.rows], unit[piece.rows], out[piece.rows])
        return out

    @staticmethod
    @backward_in_full_precision
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor | None, None]:
        here, unit = ctx.saved_tensors
        if not ctx.needs_input_grad[1]:
            return None, None, None
        to_unit = torch.zeros_like(unit)
        for piece in ctx.plan.layout.pieces:
            rows = piece.rows
            ctx.plan.pull_edges(piece, grad[rows].contiguous(), here[rows], unit[rows], None, to_unit[rows])
        return None, to_unit, None


class TiledPropagation(WrittenPropagation):
    """Propagation that computes edge weights again whenever they are needed. It has the arguments of `BlockPropagation` except `layout`."""

    at_once = True

    def __init__(self, recipe: GraphRecipe, batch: Batch, states: Tensor, present: Tensor) -> None:
        within, across = rules_by_scope(recipe)
        self.streams = states.shape[1]
        own = working(states)
        self.plan = _Plan(within, batch, self.streams, own.dtype)
        self.layout = layout = self.plan.layout
        here = layout.arrange(present[..., None].to(own.dtype))  # (R, 1)
        with full_precision(own.device):
            unit = _Directions.apply(layout.arrange(own))
            degree = _Degrees.apply(here, unit, self.plan)
            mix = self._mix(here, unit, scales(across)) if any(scales(across)) and self.streams > 1 and len(own) else None
            if mix is not None:
                parts = [part.sum(-1).T.reshape(-1) for piece in layout.pieces for part in piece.mixes(mix[piece.turns])]
                parts.append(degree.new_zeros(layout.rows - sum(len(part) for part in parts)))
                degree = degree + torch.cat(parts)[:, None]
            self.parts = (unit, here * inverse_root(degree), here.new_empty(0) if mix is None else mix)

    def _mix(self, here: Tensor, unit: Tensor, across: tuple[float, float]) -> Tensor:
        """Compute the edge weights across the `S` streams of every utterance, `(turns, S, S)`; they are zero for absent nodes."""
        there, u = (self._turns(rows) for rows in (here, unit))  # (turns, S, 1), (turns, S, d)
        pairs = there * there.mT * (1 - torch.eye(self.streams, device=here.device, dtype=here.dtype))
        if not across[0]:
            return pairs * across[1]
        return pairs * (across[0] * angular((u @ u.mT).clamp(-1, 1)) + across[1])

    def _turns(self, rows: Tensor) -> Tensor:
        """Gather the rows of all streams of every utterance: `(R, k)` → `(turns, S, k)`."""
        return torch.cat([piece.by_turn(rows[piece.rows]) for piece in self.layout.pieces])

    def narrow(self, piece: Piece, parts: Sequence[Tensor | None]) -> tuple[Any, ...]:
        """Return, for a group of rows (`Piece`), the states scaled to length one, inverse roots of degrees, and weights across streams."""
        places = (piece.rows, piece.rows, piece.turns)
        return tuple(None if part is None else part[place] for part, place in zip(parts, places, strict=True))

    def apply(self, x: Rows, parts: tuple[Tensor, ...], out: Rows) -> None:
        """Compute the propagated states `P x` of a group of rows (`Piece`), and write them to `out`."""
        unit, root, mix = parts
        y = Rows(x.piece, x.rows * root)
        self.plan.sum(x.piece, y.rows, unit, out.rows)
        if len(mix):
            blend(x.piece.mixes(mix), y, out)
        out.rows.mul_(root)

    def pull(self, grad: Rows, x: Rows, out: Rows, parts: tuple[Tensor, ...], into: tuple[Tensor | None, ...], to_x: Rows) -> None:
        """Write the gradient of `x` to `to_x`, and add the gradient of the inverse roots of the degrees to `into`."""
        unit, root, mix = parts
        above = Rows(x.piece, grad.rows * root)
        self.plan.pull(x.piece, above.rows, unit, to_x.rows)
        if len(mix):
            blend(x.piece.mixes(mix.mT), above, to_x)
        to_root = into[1]
        if to_root is not None:
            along = torch.linalg.vecdot(grad.rows, out.rows)[:, None]
            to_root += torch.where(root > 0, along / root, 0.0) + torch.linalg.vecdot(to_x.rows, x.rows)[:, None]
        to_x.rows.mul_(root)

    def pull_edges(self, grad: Rows, x: Rows, parts: tuple[Tensor, ...], into: tuple[Tensor | None, ...]) -> None:
        """Add the gradients of the scaled states and of the edge weights across streams to `into`."""
        unit, root, _ = parts
        to_unit, _, to_mix = into
        if to_unit is not None:
            self.plan.pull_edges(x.piece, grad.rows, x.rows, unit, root, to_unit)
        if to_mix is not None and len(to_mix):
            r = x.piece.by_turn(root)
            scaled = torch.cat([g @ values.mT for g, values in zip(grad.streams, x.streams, strict=True)])
            to_mix.add_(scaled.mul_(r).mul_(r.mT))
