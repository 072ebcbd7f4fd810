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

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from erc_graph.conv.layout import Bucket, Layout
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
    weigh,
    working,
)
from erc_graph.data.batch import Batch
from erc_graph.graphs.recipe import GraphRecipe
from erc_graph.graphs.weights import TINY


@dataclass(frozen=True, eq=False)
class _Structure:
    """Which weights there are: per bucket what multiplies the similarity and what is added; the same across streams."""

    layout: Layout
    within: tuple[tuple[Factor, Factor], ...]
    across: tuple[float, float]

    def square(self, flat: Tensor) -> list[tuple[Bucket, Tensor]]:
        """Every bucket with its `(streams × dialogues, turns, turns)` in a flat tensor."""
        sizes = [(bucket.end - bucket.first) * bucket.turns for bucket in self.layout.buckets]
        parts = flat.split(sizes)
        return [
            (bucket, part.view(bucket.streams * bucket.dialogues, bucket.turns, bucket.turns))
            for bucket, part in zip(self.layout.buckets, parts, strict=True)
        ]

    def mixes(self, turns: Tensor) -> list[tuple[Bucket, Tensor]]:
        """Every bucket with its rows `(dialogues × turns, ...)` of a tensor over all turns."""
        parts = turns.split([bucket.dialogues * bucket.turns for bucket in self.layout.buckets])
        return list(zip(self.layout.buckets, parts, strict=True))

    def by_turn(self, rows: Tensor) -> Tensor:
        """`(R,)` → `(turns, S)`."""
        return torch.cat([bucket.streams_of(rows[:, None])[..., 0] for bucket in self.layout.buckets])

    def by_row(self, turns: Tensor) -> Tensor:
        """`(turns, S)` → `(R,)`."""
        return torch.cat([part.T.reshape(-1) for _, part in self.mixes(turns)])


class _Weights(Function):
    """Normalised weights from states, flat: within streams, bucket after bucket; across streams `(turns, S, S)`."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, here: Tensor, structure: _Structure) -> tuple[Tensor, Tensor]:
        layout, slopes = structure.layout, ctx.needs_input_grad[0]
        shrink = torch.rsqrt(states.square().sum(-1, keepdim=True) + TINY)
        unit = states * shrink
        inside, slope = unit.new_empty(0), None
        degree = torch.zeros_like(here)
        if structure.within:
            inside = unit.new_zeros(layout.weights)
            if not all(is_none(angular) for angular, _ in structure.within):
                for bucket, weight in structure.square(inside):
                    u = bucket.sequences(unit)
                    torch.bmm(u, u.mT, out=weight)
                slope = bend(inside, with_slope=slopes)
            for i, (bucket, weight) in enumerate(structure.square(inside)):
                _by_stream(weight, bucket, structure.within[i])
                degree[bucket.first : bucket.end] = torch.bmm(weight, bucket.sequences(here)).flatten()
            if slope is not None:
                for i, (bucket, part) in enumerate(structure.square(slope)):
                    _by_stream(part, bucket, (structure.within[i][0], 0.0))
        mix, mix_slope = unit.new_empty(0), None
        streams = layout.buckets[0].streams if layout.buckets else 1
        if any(structure.across) and streams > 1:
            angular, constant = structure.across
            there = structure.by_turn(here)
            pairs = (there[:, :, None] * there[:, None, :]) * (1 - torch.eye(streams, device=unit.device, dtype=unit.dtype))
            mix = unit.new_empty(len(there), streams, streams)
            if angular:
                for bucket, part in structure.mixes(mix):
                    u = bucket.streams_of(unit)
                    torch.bmm(u, u.mT, out=part)
                mix_slope = bend(mix, with_slope=slopes)
                mix_slope = None if mix_slope is None else mix_slope.mul_(pairs).mul_(angular)
                mix = weigh(mix, angular, constant).mul_(pairs)
            else:
                mix = pairs * constant
            degree += structure.by_row(mix.sum(-1))
        root = here * inverse_root(degree)
        if structure.within:
            for bucket, weight in structure.square(inside):
                r = bucket.sequences(root)
                weight.mul_(r).mul_(r.mT)
        if len(mix):
            r = structure.by_turn(root)
            mix = mix.mul_(r[:, :, None]).mul_(r[:, None, :])
        ctx.save_for_backward(unit, shrink, here, root, degree, inside, mix, slope, mix_slope)
        ctx.structure = structure
        return inside, mix

    @staticmethod
    def backward(ctx: Any, to_inside: Tensor, to_mix: Tensor) -> tuple[Tensor | None, None, None]:
        unit, shrink, here, root, degree, inside, mix, slope, mix_slope = ctx.saved_tensors
        structure: _Structure = ctx.structure
        if slope is None and mix_slope is None:
            return None, None, None
        moved = torch.zeros_like(root)  # by how much the loss falls with every degree
        if structure.within:
            both = to_inside * inside
            for bucket, part in structure.square(both):
                moved[bucket.first : bucket.end] = (part.sum(-1) + part.sum(-2)).flatten()
        if len(mix):
            both = to_mix * mix
            moved += structure.by_row(both.sum(-1) + both.sum(-2))
        moved *= torch.where(degree > LEAST, -0.5 * root.square(), 0.0)
        to_unit = torch.zeros_like(unit)
        if slope is not None:
            steps = (structure.square(part) for part in (to_inside, slope))
            for (bucket, grad), (_, steep) in zip(*steps, strict=True):
                r, there, u = bucket.sequences(root), bucket.sequences(here), bucket.sequences(unit)
                edge = torch.addcmul(bucket.sequences(moved) * there.mT, grad * r, r.mT).mul_(steep)
                torch.bmm(edge + edge.mT, u, out=bucket.sequences(to_unit))
        if mix_slope is not None:
            r = structure.by_turn(root)
            edge = torch.addcmul(structure.by_turn(moved)[:, :, None], to_mix * r[:, :, None], r[:, None, :]).mul_(mix_slope)
            for bucket, part in structure.mixes(edge + edge.mT):
                bucket.streams_of(to_unit).add_(part @ bucket.streams_of(unit))
        along = (to_unit * unit).sum(-1, keepdim=True)
        return to_unit.addcmul_(unit, along, value=-1).mul_(shrink), None, None


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
        self.states = layout.arrange(states)
        own = working(self.states)
        here = layout.arrange(present[..., None].to(own.dtype)).flatten()
        inside: list[tuple[Factor, Factor]] = []
        speaker = None
        if any(rule.speaker != "any" for rule in within):
            speaker = layout.arrange(batch.speaker[:, None, None].expand(-1, self.streams, 1))
        for bucket in layout.buckets if within else ():
            turn = torch.arange(bucket.turns, device=own.device)
            who = None if speaker is None else bucket.sequences(speaker)[: bucket.dialogues]
            inside.append(factors(within, turn[:, None] - turn, None if who is None else who == who.mT, own.dtype))
        self.structure = _Structure(layout, tuple(inside), scales(across))
        with full_precision(own.device):
            self.parts = _Weights.apply(own, here, self.structure)

    def rows(self, x: Tensor) -> Tensor:
        """`(N, S, k)` → `(R, k)`."""
        return self.layout.arrange(x)

    def apply(self, x: Tensor, parts: tuple[Tensor, ...]) -> Tensor:
        """`P x`, without autograd."""
        return self._sum(x, parts, back=False)

    def pull(self, grad: Tensor, x: Tensor, out: Tensor, parts: tuple[Tensor, ...], into: list[Tensor | None]) -> Tensor:
        """Gradient of `x`; those of the weights go to `into`."""
        to_inside, to_mix = into
        if to_inside is not None and len(to_inside):
            for bucket, part in self.structure.square(to_inside):
                part.baddbmm_(bucket.sequences(grad), bucket.sequences(x).mT)
        if to_mix is not None and len(to_mix):
            for bucket, part in self.structure.mixes(to_mix):
                part.baddbmm_(bucket.streams_of(grad), bucket.streams_of(x).mT)
        return self._sum(grad, parts, back=True)

    def _sum(self, x: Tensor, parts: tuple[Tensor, ...], *, back: bool) -> Tensor:
        inside, mix = parts
        out = torch.empty_like(x) if len(inside) else torch.zeros_like(x)
        for bucket, weight in self.structure.square(inside) if len(inside) else ():
            torch.bmm(weight.mT if back else weight, bucket.sequences(x), out=bucket.sequences(out))
        for bucket, part in self.structure.mixes(mix) if len(mix) else ():
            bucket.streams_of(out).add_(torch.bmm(part.mT if back else part, bucket.streams_of(x)))
        return out

    def back(self, rows: Tensor) -> Tensor:
        """`(R, k)` → `(N, S, k)`."""
        return self.layout.restore(rows, self.streams)
