"""Propagation as batched matrix products over buckets of dialogues of similar length, without a list of edges.

A bucket contains dialogues that are padded to the same number of utterances, `turns`. The edge weights within streams are one tensor
`(streams × dialogues, turns, turns)` per bucket, computed from Gram matrices. The weights across `S` streams are one `S × S` matrix per
utterance. The backward pass is written by hand, because autograd would store a matrix for every arithmetic operation.

Let `U` be the states scaled to length one, `G = U Uᵀ` their cosines, and `t` the presence of the nodes (1 or 0). The edge weights are
`A = K ∘ a(G) + C`, where `a` is the angular similarity. The factors `K` and the summands `C` follow from the rules of the recipe. The
degrees are `d_i = Σ_j A_ij t_j`. With `r_i = t_i max(d_i, 1e-12)^-1/2` (0 for a node without edges), the normalised weights are
`Ŵ_ij = r_i A_ij r_j`. For a loss `ℓ` with `E = ∂ℓ/∂Ŵ`, the gradients are

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

from erc_graph.conv.angular.layout import Bucket, Layout, Piece, Rows
from erc_graph.conv.angular.written import (
    LEAST,
    Factor,
    WrittenPropagation,
    backward_in_full_precision,
    bend,
    blend,
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
    """The factors and summands that convert angular similarities to edge weights: weight = factor · similarity + summand.

    Attributes:
        layout: Arrangement of the nodes.
        within: Factors and summands within streams, per group of rows (`Piece`) and group of padded dialogues.
        across: Factor and summand across streams.
        streams: Number of streams.
    """

    layout: Layout
    within: tuple[tuple[tuple[Factor, Factor], ...], ...]
    across: tuple[float, float]
    streams: int

    @property
    def bent(self) -> bool:
        """Return whether the edge weights within streams depend on the node states."""
        return any(not is_none(angular) for rules in self.within for angular, _ in rules)

    @property
    def mixes(self) -> bool:
        """Return whether there are edges across streams."""
        return any(self.across) and self.streams > 1

    def pieces(self) -> Iterator[tuple[Piece, tuple[tuple[Factor, Factor], ...]]]:
        """Yield every `Piece`, with a factor and a summand for each group of padded dialogues, if there are rules within streams."""
        yield from zip(self.layout.pieces, self.within or [()] * len(self.layout.pieces), strict=True)


class _Weights(Function):
    """Compute the normalised edge weights: within streams, a flat tensor, by group of padded dialogues; across streams, `(turns, S, S)`."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, here: Tensor, structure: _Structure) -> tuple[Tensor, Tensor]:
        layout, streams = structure.layout, structure.streams
        inside = states.new_empty(layout.weights if structure.within else 0)
        mix = states.new_empty(layout.turns if structure.mixes else 0, streams, streams)
        degree, root = torch.zeros_like(here), torch.empty_like(here)
        for piece, rules in structure.pieces():
            unit, _ = _directions(piece, states)
            there, total, r = (Rows(piece, rows[piece.rows, None]) for rows in (here, degree, root))
            pairs = mix[piece.turns]
            weights = piece.squares(inside[piece.weights]) if rules else []
            if structure.bent:
                _cosines(unit, weights)
                bend(inside[piece.weights])
            else:
                inside[piece.weights].zero_()
            for weight, factor, ones, sums in zip(weights, rules, there.sequences, total.sequences, strict=True) if rules else ():
                _by_stream(weight, streams, *factor)
                torch.bmm(weight, ones, out=sums)
            if structure.mixes:
                if structure.across[0]:
                    bend(_cosines_of_turns(unit, out=pairs))
                else:
                    pairs.zero_()
                weigh(pairs, *structure.across).mul_(_others(there))
                piece.add_by_row(total.rows[:, 0], pairs.sum(-1))
            torch.mul(there.rows, inverse_root(total.rows), out=r.rows)
            for weight, own in zip(weights, r.sequences, strict=True) if rules else ():
                weight.mul_(own).mul_(own.mT)
            if structure.mixes:
                by_turn = piece.by_turn(r.rows)
                pairs.mul_(by_turn).mul_(by_turn.mT)
        ctx.save_for_backward(states, here, root, degree, inside, mix)
        ctx.structure = structure
        return inside, mix

    @staticmethod
    @backward_in_full_precision
    def backward(ctx: Any, to_inside: Tensor, to_mix: Tensor) -> tuple[Tensor | None, None, None]:
        states, here, root, degree, inside, mix = ctx.saved_tensors
        structure: _Structure = ctx.structure
        across = structure.across[0] if structure.mixes else 0.0
        if not (structure.bent or across):
            return None, None, None
        to_states = torch.empty_like(states, memory_format=torch.contiguous_format)
        for piece, rules in structure.pieces():
            unit, shrink = _directions(piece, states)
            there, r = (Rows(piece, rows[piece.rows, None]) for rows in (here, root))
            grads, to_pairs = to_inside[piece.weights], to_mix[piece.turns]
            moved = Rows(piece, torch.zeros_like(r.rows))  # by how much the loss grows with every degree
            if rules:
                for part, sums in zip(piece.squares(grads * inside[piece.weights]), moved.sequences, strict=True):
                    torch.sum(part, -1, keepdim=True, out=sums).add_(part.sum(-2)[..., None])
            if structure.mixes:
                both = to_pairs * mix[piece.turns]
                piece.add_by_row(moved.rows[:, 0], both.sum(-1) + both.sum(-2))
            moved.rows.mul_(torch.where(degree[piece.rows, None] > LEAST, -0.5 * r.rows.square(), 0.0))
            to_unit = Rows(piece, torch.zeros_like(unit.rows))
            if structure.bent:
                edges = torch.empty_like(grads)
                views = piece.squares(edges)
                _cosines(unit, views)
                slope(edges)
                columns = zip(views, piece.squares(grads), rules, *(one.sequences for one in (unit, r, there, moved, to_unit)), strict=True)
                for edge, grad, (angular, _), u, own, ones, more, to_u in columns:
                    _by_stream(edge, structure.streams, angular, 0.0)
                    edge.mul_(torch.addcmul(more * ones.mT, grad * own, own.mT))
                    torch.bmm(edge + edge.mT, u, out=to_u)
            if across:
                edges, by_turn = slope(_cosines_of_turns(unit, out=torch.empty_like(to_pairs))), piece.by_turn(r.rows)
                edges.mul_(torch.addcmul(piece.by_turn(moved.rows), to_pairs * by_turn, by_turn.mT)).mul_(_others(there)).mul_(across)
                blend(piece.mixes(edges + edges.mT), unit, to_unit)
            along = torch.linalg.vecdot(to_unit.rows, unit.rows)[:, None]
            piece.put(to_unit.rows.addcmul_(unit.rows, along, value=-1).mul_(shrink), to_states)
        return to_states, None, None


def _directions(piece: Piece, states: Tensor) -> tuple[Rows, Tensor]:
    """Scale all rows of a `Piece` to length one; return the scaled rows and the scaling factors."""
    rows = piece.take(states)
    shrink = torch.rsqrt(torch.linalg.vecdot(rows, rows)[:, None] + TINY)
    return Rows(piece, rows.mul_(shrink)), shrink


def _cosines(unit: Rows, squares: Sequence[Tensor]) -> None:
    """Compute the cosines of all pairs of nodes within streams; write them to `squares`, one tensor per group of padded dialogues."""
    for u, square in zip(unit.sequences, squares, strict=True):
        torch.bmm(u, u.mT, out=square)


def _cosines_of_turns(unit: Rows, out: Tensor) -> Tensor:
    """Compute the cosines between all streams of every utterance, `(turns, S, S)`."""
    for u, part in zip(unit.streams, unit.piece.mixes(out), strict=True):
        torch.bmm(u, u.mT, out=part)
    return out


def _others(here: Rows) -> Tensor:
    """Return a mask of the edges across streams, `(turns, S, S)`: one if the streams differ and both nodes are present, else zero."""
    there = here.piece.by_turn(here.rows)
    return (there * there.mT).mul_(1 - torch.eye(there.shape[1], device=there.device, dtype=there.dtype))


def _by_stream(weight: Tensor, streams: int, angular: Factor, unit: Factor) -> None:
    """Convert similarities `weight` to edge weights, in place; `angular` and `unit` can be broadcast to `(dialogues, turns, turns)`."""
    weigh(weight.unflatten(0, (streams, -1)), angular, unit)


class BlockPropagation(WrittenPropagation):
    """Propagation that stores one edge weight for each pair of utterances of a dialogue. Memory is quadratic in the dialogue length.

    Args:
        recipe: Graph recipe; edges across streams may only join nodes of one utterance.
        batch: The dialogues.
        states: `(N, S, d)` node states from which the angular weights are computed.
        present: `(N, S)` bool; an absent node has no edges.
        layout: Arrangement of the nodes, as returned by the function `in_buckets`.

    Raises:
        ConfigError: an edge rule across streams joins nodes of different utterances.
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

    def narrow(self, piece: Piece, parts: Sequence[Tensor | None]) -> tuple[list[Tensor], list[Tensor]]:
        """Return the edge weights of a group of rows (`Piece`): two lists, within and across streams, with a tensor per bucket."""
        inside, mix = parts
        squares = piece.squares(inside[piece.weights]) if inside is not None and len(inside) else []
        return squares, piece.mixes(mix[piece.turns]) if mix is not None and len(mix) else []

    def apply(self, x: Rows, parts: tuple[list[Tensor], list[Tensor]], out: Rows) -> None:
        """Compute the propagated states `P x` of a group of rows (`Piece`), and write them to `out`."""
        self._sum(x, *parts, out)

    def pull(self, grad: Rows, x: Rows, out: Rows, parts: tuple[list[Tensor], list[Tensor]], into: tuple[Any, ...], to_x: Rows) -> None:
        """Compute the gradient of `x` from the gradient `grad` of `out = P x`, and write the result to `to_x`."""
        inside, mix = ([part.mT for part in one] for one in parts)
        self._sum(grad, inside, mix, to_x)

    def pull_edges(self, grad: Rows, x: Rows, parts: tuple[Any, ...], into: tuple[list[Tensor], list[Tensor]]) -> None:
        """Add the gradients of the edge weights to the tensors in `into`."""
        to_inside, to_mix = into
        for to_weight, g, values in zip(to_inside, grad.sequences, x.sequences, strict=True) if to_inside else ():
            to_weight.baddbmm_(g, values.mT)
        for to_part, g, values in zip(to_mix, grad.streams, x.streams, strict=True) if to_mix else ():
            to_part.baddbmm_(g, values.mT)

    def _sum(self, x: Rows, inside: Sequence[Tensor], mix: Sequence[Tensor], out: Rows) -> None:
        if not inside:
            out.rows.zero_()
        for weight, values, into in zip(inside, x.sequences, out.sequences, strict=True) if inside else ():
            torch.bmm(weight, values, out=into)
        if mix:
            blend(mix, x, out)
