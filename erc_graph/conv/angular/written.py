"""Code shared by all implementations of the propagation: the interface, and the weights from edge rules and cosines."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from erc_graph.conv.angular.layout import Layout, Piece, Rows
from erc_graph.errors import ConfigError
from erc_graph.graphs.recipe import EdgeRule, GraphRecipe
from erc_graph.graphs.weights import SQUEEZE

STEEP = 0.5 / math.asin(SQUEEZE)  # of `angular`: ½ + STEEP · asin(SQUEEZE · cos)
LEAST = 1e-12  # a degree below this counts as this
Factor = Tensor | float


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Switch autocast off within a `with` block: in half precision, cosines can exceed one, and their arccos is NaN."""
    with torch.autocast(device.type, enabled=False):
        yield


def backward_in_full_precision(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a backward pass: switch autocast off and apply `once_differentiable`. Write `staticmethod` above this decorator."""

    @wraps(backward)
    def precise(ctx: Any, *grads: Tensor) -> Any:
        with full_precision(grads[0].device):
            return backward(ctx, *grads)

    return once_differentiable(precise)


class Propagation(ABC):
    """The propagation `P` of one batch (`erc_graph.conv.angular.propagation`). Subclasses differ in the order of the `R` rows (nodes)."""

    @abstractmethod
    def rows(self, x: Tensor) -> Tensor:
        """Arrange node states as rows: `(N, S, k)` → `(R, k)`."""

    @abstractmethod
    def spread(self, rows: Tensor) -> Tensor:
        """Compute `P x` from rows `x`: `(R, k)` → `(R, k)`. Rows of padding may have any finite values."""

    @abstractmethod
    def back(self, rows: Tensor) -> Tensor:
        """Convert rows back to node states, the inverse of the method `rows`: `(R, k)` → `(N, S, k)`."""

    def __call__(self, x: Tensor) -> Tensor:
        """Compute `P x`: `(N, S, k)` → `(N, S, k)`."""
        return self.back(self.spread(self.rows(x)))


class WrittenPropagation(Propagation):
    """A propagation with a hand-written backward pass. All layers can therefore be computed for one group of rows after another.

    Attributes:
        layout: Arrangement of the nodes as rows, divided into groups of rows without common edges (`Piece`).
        parts: Tensors from which the edge weights are computed; they receive the gradients.
        streams: `S`, number of streams.
        at_once: Whether every product computes the edge weights again. If so, the backward pass propagates the states of all layers in one
            product.
    """

    layout: Layout
    parts: tuple[Tensor, ...]
    streams: int
    at_once: bool = False

    @abstractmethod
    def narrow(self, piece: Piece, parts: Sequence[Tensor | None]) -> tuple[Any, ...]:
        """Return the values of a group of rows (`Piece`) as views of `parts`. The tensors in `parts` may also be gradients, or `None`."""

    @abstractmethod
    def apply(self, x: Rows, parts: tuple[Any, ...], out: Rows) -> None:
        """Compute the propagated states `P x` of a group of rows (`Piece`), without autograd, and write them to `out`.

        Args:
            x: `(R, k)` states of the group; may be a slice of columns of a wider tensor.
            parts: Values of the group, views of the attribute `parts`, from `narrow`.
            out: `(R, k)` result for the group, contiguous.
        """

    @abstractmethod
    def pull(self, grad: Rows, x: Rows, out: Rows, parts: tuple[Any, ...], into: tuple[Any, ...], to_x: Rows) -> None:
        """Write the gradient of `x` to `to_x`, given the gradient `grad` of `out = P x`.

        Some tensors of `parts` have one value per node. The gradients of these tensors are added to `into`.
        """

    @abstractmethod
    def pull_edges(self, grad: Rows, x: Rows, parts: tuple[Any, ...], into: tuple[Any, ...]) -> None:
        """Add the gradients of the edge weights to `into`.

        Args:
            grad: `(R, L k)` gradients of the outputs of `L` propagations, concatenated.
            x: `(R, L k)` inputs of these propagations, concatenated.
            parts: Values of a group of rows (`Piece`), views of the attribute `parts`, from `narrow`.
            into: Gradients of `parts`, with `None` for a gradient that is not needed.
        """

    def rows(self, x: Tensor) -> Tensor:
        """Arrange node states as rows: `(N, S, k)` → `(R, k)`."""
        return self.layout.arrange(x)

    def spread(self, rows: Tensor) -> Tensor:
        """Compute `P x` from rows `x`: `(R, k)` → `(R, k)`, without autocast."""
        with full_precision(rows.device):
            return _Spread.apply(self, rows.to(self.parts[0].dtype).contiguous(), *self.parts).to(rows.dtype)

    def back(self, rows: Tensor) -> Tensor:
        """Convert rows back to node states, the inverse of the method `rows`: `(R, k)` → `(N, S, k)`."""
        return self.layout.restore(rows, self.streams)


class _Spread(Function):
    @staticmethod
    def forward(ctx: Any, propagation: WrittenPropagation, x: Tensor, *parts: Tensor) -> Tensor:
        out = torch.empty_like(x)
        for piece in propagation.layout.pieces:
            propagation.apply(Rows(piece, x[piece.rows]), propagation.narrow(piece, parts), Rows(piece, out[piece.rows]))
        ctx.propagation = propagation
        ctx.save_for_backward(x, out, *parts)
        return out

    @staticmethod
    @backward_in_full_precision
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        propagation = ctx.propagation
        x, out, *parts = ctx.saved_tensors
        into = accumulators(parts, ctx.needs_input_grad[2:])
        grad, to_x = grad.contiguous(), torch.empty_like(x)
        for piece in propagation.layout.pieces:
            own, to_own = propagation.narrow(piece, parts), propagation.narrow(piece, into)
            above, below, beside, to_below = (Rows(piece, rows[piece.rows]) for rows in (grad, x, out, to_x))
            propagation.pull(above, below, beside, own, to_own, to_below)
            propagation.pull_edges(above, below, own, to_own)
        return None, to_x, *into


def blend(mixes: Sequence[Tensor], x: Rows, out: Rows) -> None:
    """Add messages across streams to `out`; `mixes` are edge weights `(dialogues × turns, S, S)`, one tensor per group of dialogues."""
    for mix, values, into in zip(mixes, x.streams, out.streams, strict=True):
        into.add_(torch.bmm(mix, values))


def accumulators(parts: Sequence[Tensor], needed: Sequence[bool]) -> list[Tensor | None]:
    """Return zeros in the shape of every tensor whose gradient is needed, and `None` for all other tensors."""
    return [torch.zeros_like(part) if need else None for part, need in zip(parts, needed, strict=True)]


def working(x: Tensor) -> Tensor:
    """Convert float16 and bfloat16 to float32; leave float32 and float64 unchanged."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def inverse_root(degree: Tensor) -> Tensor:
    """Compute the inverse square root of degrees; it is zero for a node without edges."""
    return torch.where(degree > 0, degree.clamp(min=LEAST).rsqrt(), 0.0)


def windows_only(recipe: GraphRecipe) -> None:
    """Check that the edges of every rule are in a window of utterances (`EdgeRule.windowed`).

    Raises:
        ConfigError: an edge rule has no such window; only the layout `list` supports this rule.
    """
    for rule in recipe.edges:
        if not rule.windowed:
            raise ConfigError(
                f"graph recipe {recipe.name}: relation {rule.relation!r}: expected a rule with past and future counted in utterances, "
                "with speaker any, same or other, with weight angular or unit, for all streams, and with times = 1; "
                "set layout = 'list', which supports every edge rule"
            )


def rules_by_scope(recipe: GraphRecipe) -> tuple[list[EdgeRule], list[EdgeRule]]:
    """Return two lists: the edge rules within streams, and the edge rules across the streams of one utterance.

    Raises:
        ConfigError: an edge rule across streams joins nodes of different utterances, or `windows_only` rejects a rule.
    """
    windows_only(recipe)
    across = [rule for rule in recipe.edges if rule.scope == "across"]
    for rule in across:
        if rule.past != 0 or rule.future != 0:
            raise ConfigError(
                f"graph recipe {recipe.name}: relation {rule.relation!r}: expected past = 0 and future = 0 for edges across streams, found "
                "a wider window; set layout = 'list', which supports wider windows"
            )
    # Across, the one source is the utterance itself: its own speaker, and no edge at all without "self-loops".
    across = [rule for rule in across if rule.self_loops and rule.speaker != "other"]
    return [rule for rule in recipe.edges if rule.scope == "within"], across


def scales(rules: Sequence[EdgeRule]) -> tuple[float, float]:
    """Return the sum of the factors `scale` of the rules with angular weights, and the sum for the rules with unit weights."""
    angular, unit = ([rule.scale for rule in rules if rule.weight == weight] for weight in ("angular", "unit"))
    return sum(angular), sum(unit)


def is_whole(rule: EdgeRule) -> bool:
    """Return whether a rule joins every utterance to all utterances of its dialogue, itself included."""
    return rule.behind is None and rule.ahead is None and rule.self_loops and rule.speaker == "any"


def factors(rules: Sequence[EdgeRule], behind: Tensor, same: Tensor | None, dtype: torch.dtype) -> tuple[Factor, Factor]:
    """Return a factor and a summand: the edge weight of two utterances is `factor · similarity + summand`, with the angular similarity.

    Args:
        rules: Rules within streams.
        behind: `(targets, sources)` number of utterances from the source to the target; negative for a later source.
        same: `(..., targets, sources)` whether both utterances have the same speaker; needed only if a rule depends on speakers.
        dtype: Data type of the similarities.
    """
    angular, unit = scales([rule for rule in rules if is_whole(rule)])
    found: dict[str, Factor] = {"angular": angular, "unit": unit}
    for rule in rules:
        if is_whole(rule):
            continue
        mask = torch.ones_like(behind, dtype=torch.bool) if rule.behind is None else behind <= rule.behind
        mask = mask if rule.ahead is None else mask & (behind >= -rule.ahead)
        mask = mask if rule.self_loops else mask & (behind != 0)
        if rule.speaker != "any" and same is not None:
            mask = mask & (same if rule.speaker == "same" else ~same)
        found[rule.weight] = found[rule.weight] + mask.to(dtype).mul_(rule.scale)
    return found["angular"], found["unit"]


def is_none(factor: Factor) -> bool:
    """Return whether a factor from `factors` is the number zero."""
    return not isinstance(factor, Tensor) and factor == 0.0


def bend(cosine: Tensor) -> Tensor:
    """Convert cosines to angular similarities, in place."""
    return _squeeze(cosine).asin_().mul_(STEEP).add_(0.5)


def slope(cosine: Tensor) -> Tensor:
    """Convert cosines to derivatives of the angular similarity with respect to the cosine, in place."""
    return _squeeze(cosine).square_().neg_().add_(1).rsqrt_().mul_(STEEP * SQUEEZE)


def _squeeze(cosine: Tensor) -> Tensor:
    return cosine.mul_(SQUEEZE).clamp_(-SQUEEZE, SQUEEZE)  # TF32 leaves products of directions above one


def weigh(similarity: Tensor, angular: Factor, unit: Factor) -> Tensor:
    """Convert angular similarities to edge weights `angular · similarity + unit`, in place."""
    if isinstance(angular, Tensor) or angular != 1.0:
        similarity.mul_(angular)
    return similarity if is_none(unit) else similarity.add_(unit)
