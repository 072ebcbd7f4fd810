"""Propagation as batched matrix products over buckets of dialogues of similar length; edges are never listed.

Weights of a bucket are one `(streams × dialogues, turns, turns)`, from Gram products; across streams every turn has an `S × S` mix.
Forward and backward are written out, because autograd would keep and pass through every step of arithmetic a matrix of its own.

With `G = U Uᵀ` the cosines, `A = K ∘ a(G) + C` the weights of the rules, `d_i = Σ_j A_ij t_j` the degrees over nodes that are there,
`r = d^-1/2`, and `Ŵ_ij = r_i A_ij r_j`, the gradient of a loss `ℓ` with `E = ∂ℓ/∂Ŵ` is

.. math::
    ∂ℓ/∂d_i = -\\tfrac12 r_i^2 \\textstyle\\sum_j (E ∘ Ŵ)_{ij} + (E ∘ Ŵ)_{ji}, \\quad
    ∂ℓ/∂A_{ij} = r_i E_{ij} r_j + t_j ∂ℓ/∂d_i, \\quad
    ∂ℓ/∂U = (F + Fᵀ) U, \\; F = K ∘ a'(G) ∘ ∂ℓ/∂A
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from erc_graph.conv.layout import Bucket, Layout, Piece
from erc_graph.conv.operator import (
    LEAST,
    Factor,
    WrittenPropagation,
    bend,
    factors,
    full_precision,
    inverse_root,
    is_none,
    rules_by_scope,
    scales,
    slope,
    weigh,
    working,
)
from erc_graph.data.batch import Batch
from erc_graph.graphs.recipe import GraphRecipe
from erc_graph.graphs.weights import TINY


@dataclass(frozen=True, eq=False)
class _Structure:
    """Which weights there are: per piece and bucket what multiplies the similarity and what is added; the same across streams."""

    layout: Layout
    within: tuple[tuple[tuple[Factor, Factor], ...], ...]
    across: tuple[float, float]
    streams: int

    @property
    def bent(self) -> bool:
        """Whether weights within streams depend on the states."""
        return any(not is_none(angular) for rules in self.within for angular, _ in rules)

    @property
    def mixes(self) -> bool:
        """Whether there are weights across streams."""
        return any(self.across) and self.streams > 1

    def pieces(self) -> Iterator[tuple[Piece, tuple[tuple[Factor, Factor], ...]]]:
        """Every piece with the factors of its buckets; none without rules within streams."""
        yield from zip(self.layout.pieces, self.within or [()] * len(self.layout.pieces), strict=True)


class _Weights(Function):
    """Normalised weights from states, flat: within streams, bucket after bucket; across streams `(turns, S, S)`."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, here: Tensor, structure: _Structure) -> tuple[Tensor, Tensor]:
        layout, streams = structure.layout, structure.streams
        inside = states.new_empty(layout.weights if structure.within else 0)
        mix = states.new_empty(layout.turns if structure.mixes else 0, streams, streams)
        degree, root = torch.zeros_like(here), torch.empty_like(here)
        for piece, rules in structure.pieces():
            unit, _ = _directions(piece.take(states))
            there, total, r = here[piece.rows], degree[piece.rows], root[piece.rows]
            weights, pairs = inside[piece.weights], mix[piece.turns]
            if structure.bent:
                bend(_cosines(piece, unit, out=weights))
            else:
                weights.zero_()
            for (bucket, weight), factor in zip(piece.squares(weights), rules, strict=True) if rules else ():
                _by_stream(weight, bucket, factor)
                total[bucket.first : bucket.end] = torch.bmm(weight, bucket.sequences(there)).flatten()
            if structure.mixes:
                if structure.across[0]:
                    bend(_cosines_of_turns(piece, unit, out=pairs))
                else:
                    pairs.zero_()
                weigh(pairs, *structure.across).mul_(_others(piece, there))
                piece.add_by_row(total, pairs.sum(-1))
            torch.mul(there, inverse_root(total), out=r)
            for bucket, weight in piece.squares(weights) if rules else ():
                weight.mul_(bucket.sequences(r)).mul_(bucket.sequences(r).mT)
            if structure.mixes:
                by_turn = piece.by_turn(r)
                pairs.mul_(by_turn[:, :, None]).mul_(by_turn[:, None, :])
        ctx.save_for_backward(states, here, root, degree, inside, mix)
        ctx.structure = structure
        return inside, mix

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_inside: Tensor, to_mix: Tensor) -> tuple[Tensor | None, None, None]:
        states, here, root, degree, inside, mix = ctx.saved_tensors
        structure: _Structure = ctx.structure
        across = structure.across[0] if structure.mixes else 0.0
        if not (structure.bent or across):
            return None, None, None
        to_states = torch.empty_like(states, memory_format=torch.contiguous_format)
        for piece, rules in structure.pieces():
            unit, shrink = _directions(piece.take(states))
            there, r = here[piece.rows], root[piece.rows]
            grads, to_pairs = to_inside[piece.weights], to_mix[piece.turns]
            moved = torch.zeros_like(r)  # by how much the loss grows with every degree
            for bucket, part in piece.squares(grads * inside[piece.weights]) if rules else ():
                moved[bucket.first : bucket.end] = (part.sum(-1) + part.sum(-2)).flatten()
            if structure.mixes:
                both = to_pairs * mix[piece.turns]
                piece.add_by_row(moved, both.sum(-1) + both.sum(-2))
            moved *= torch.where(degree[piece.rows] > LEAST, -0.5 * r.square(), 0.0)
            to_unit = torch.zeros_like(unit)
            if structure.bent:
                steep = slope(_cosines(piece, unit, out=torch.empty_like(grads)))
                squares = zip(piece.squares(grads), piece.squares(steep), rules, strict=True)
                for (bucket, grad), (_, part), (angular, _) in squares:
                    _by_stream(part, bucket, (angular, 0.0))
                    own, u = bucket.sequences(r), bucket.sequences(unit)
                    edge = torch.addcmul(bucket.sequences(moved) * bucket.sequences(there).mT, grad * own, own.mT).mul_(part)
                    torch.bmm(edge + edge.mT, u, out=bucket.sequences(to_unit))
            if across:
                steep = slope(_cosines_of_turns(piece, unit, out=torch.empty_like(to_pairs)))
                by_turn = piece.by_turn(r)
                edge = torch.addcmul(piece.by_turn(moved)[:, :, None], to_pairs * by_turn[:, :, None], by_turn[:, None, :])
                edge.mul_(steep).mul_(_others(piece, there)).mul_(across)
                for bucket, part in piece.mixes(edge + edge.mT):
                    bucket.streams_of(to_unit).add_(torch.bmm(part, bucket.streams_of(unit)))
            along = torch.linalg.vecdot(to_unit, unit)[:, None]
            piece.put(to_unit.addcmul_(unit, along, value=-1).mul_(shrink), to_states)
        return to_states, None, None


def _directions(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows scaled to length one, in place, and what they were multiplied by."""
    shrink = torch.rsqrt(torch.linalg.vecdot(rows, rows)[:, None] + TINY)
    return rows.mul_(shrink), shrink


def _cosines(piece: Piece, unit: Tensor, out: Tensor) -> Tensor:
    """Of all pairs within streams, flat."""
    for bucket, square in piece.squares(out):
        u = bucket.sequences(unit)
        torch.bmm(u, u.mT, out=square)
    return out


def _cosines_of_turns(piece: Piece, unit: Tensor, out: Tensor) -> Tensor:
    """Of the streams of every turn, `(turns, S, S)`."""
    for bucket, part in piece.mixes(out):
        u = bucket.streams_of(unit)
        torch.bmm(u, u.mT, out=part)
    return out


def _others(piece: Piece, here: Tensor) -> Tensor:
    """`(turns, S, S)` one where two different streams have the turn, else zero."""
    there = piece.by_turn(here)
    return (there[:, :, None] * there[:, None, :]) * (1 - torch.eye(there.shape[1], device=here.device, dtype=here.dtype))


def _by_stream(weight: Tensor, bucket: Bucket, factor: tuple[Factor, Factor]) -> None:
    """Apply factors `(dialogues, turns, turns)` or smaller to the weights of every stream, in place."""
    weigh(weight.view(bucket.streams, bucket.dialogues, bucket.turns, bucket.turns), *factor)


class BlockPropagation(WrittenPropagation):
    """Weights of all pairs of turns of a dialogue are kept: memory grows with the squares of the lengths.

    Args:
        recipe: Which edges exist and how they are weighted; edges across streams join the same turn.
        batch: The dialogues.
        states: `(N, S, d)` node states that the angular weights are taken from.
        present: `(N, S)` bool; an absent node has no edges.
        layout: In buckets.

    Raises:
        ConfigError: an edge rule across streams reaches other turns.
    """

    def __init__(self, recipe: GraphRecipe, batch: Batch, states: Tensor, present: Tensor, layout: Layout) -> None:
        self.layout, self.streams = layout, states.shape[1]
        within, across = rules_by_scope(recipe)
        own = working(states)
        here = layout.arrange(present[..., None].to(own.dtype)).flatten()
        speaker = None
        if any(rule.speaker != "any" for rule in within):
            speaker = layout.arrange(batch.speaker[:, None, None].expand(-1, self.streams, 1))

        def rules(piece: Piece, bucket: Bucket) -> tuple[Factor, Factor]:
            turn = torch.arange(bucket.turns, device=own.device)
            who = None if speaker is None else bucket.sequences(speaker[piece.rows])[: bucket.dialogues]
            return factors(within, turn[:, None] - turn, None if who is None else who == who.mT, own.dtype)

        inside = tuple(tuple(rules(piece, bucket) for bucket in piece.buckets) for piece in layout.pieces) if within else ()
        self.structure = _Structure(layout, inside, scales(across), self.streams)
        with full_precision(own.device):
            self.parts = _Weights.apply(own, here, self.structure)

    def narrow(self, piece: Piece, parts: Sequence[Tensor | None]) -> tuple[Any, ...]:
        """Weights within streams and across them."""
        inside, mix = parts
        return None if inside is None else inside[piece.weights], None if mix is None else mix[piece.turns]

    def apply(self, piece: Piece, x: Tensor, parts: tuple[Tensor, ...], out: Tensor) -> None:
        """Write `P x`."""
        self._sum(piece, x, parts, out, back=False)

    def pull(
        self,
        piece: Piece,
        grad: Tensor,
        x: Tensor,
        out: Tensor,
        parts: tuple[Tensor, ...],
        into: tuple[Tensor | None, ...],
        to_x: Tensor,
    ) -> None:
        """Write the gradient of `x`."""
        self._sum(piece, grad, parts, to_x, back=True)

    def pull_edges(self, piece: Piece, grad: Tensor, x: Tensor, parts: tuple[Tensor, ...], into: tuple[Tensor | None, ...]) -> None:
        """Add the gradients of the weights."""
        to_inside, to_mix = into
        if to_inside is not None and len(to_inside):
            for bucket, part in piece.squares(to_inside):
                part.baddbmm_(bucket.sequences(grad), bucket.sequences(x).mT)
        if to_mix is not None and len(to_mix):
            for bucket, part in piece.mixes(to_mix):
                part.baddbmm_(bucket.streams_of(grad), bucket.streams_of(x).mT)

    def _sum(self, piece: Piece, x: Tensor, parts: tuple[Tensor, ...], out: Tensor, *, back: bool) -> None:
        inside, mix = parts
        if not len(inside):
            out.zero_()
        for bucket, weight in piece.squares(inside) if len(inside) else ():
            torch.bmm(weight.mT if back else weight, bucket.sequences(x), out=bucket.sequences(out))
        for bucket, part in piece.mixes(mix) if len(mix) else ():
            bucket.streams_of(out).add_(torch.bmm(part.mT if back else part, bucket.streams_of(x)))
