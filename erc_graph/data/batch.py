"""Batches of conversations: tensors with one row per utterance, without padding, and the index arithmetic that other modules need."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd import Function

if TYPE_CHECKING:
    from erc_graph.data.ragged import Ragged


def ranges(start: Tensor, count: Tensor, total: int | None = None) -> Tensor:
    """Concatenate `arange(start[i], start[i] + count[i])` for all `i`.

    `total` is the sum of `count`, if it is already known.

    >>> ranges(torch.tensor([5, 0]), torch.tensor([2, 3])).tolist()
    [5, 6, 0, 1, 2]
    """
    first = count.cumsum(0) - count
    total = int(count.sum()) if total is None else total
    offset = torch.repeat_interleave(start - first, count, output_size=total)
    return torch.arange(total, device=start.device) + offset


class _Spread(Function):
    """Scatter with a fast gradient. No two rows share a position, so the backward pass only gathers rows."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, place: Tensor, size: int) -> Tensor:
        ctx.save_for_backward(place)
        return rows.new_zeros(size, *rows.shape[1:]).index_copy_(0, place, rows)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return _Collect.apply(grad, ctx.saved_tensors[0]), None, None


class _Collect(Function):
    """Gather, the backward pass of `_Spread`. PyTorch's own gradient of indexing allows repeated rows, so it is slow and sorts on a GPU."""

    @staticmethod
    def forward(ctx: Any, spread: Tensor, place: Tensor) -> Tensor:
        ctx.save_for_backward(place)
        ctx.size = len(spread)
        return spread.index_select(0, place)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return _Spread.apply(grad, ctx.saved_tensors[0], ctx.size), None


def spread(rows: Tensor, place: Tensor, size: int) -> Tensor:
    """Scatter rows to the given positions of a tensor of `size` rows; no position may occur twice, and all other rows are zero."""
    return _Spread.apply(rows, place, size)


def collect(rows: Tensor, place: Tensor) -> Tensor:
    """Gather the rows at the given positions; no position may occur twice."""
    return _Collect.apply(rows, place)


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """`D` dialogues with `N` utterances in total, packed: one row per utterance, without padding.

    Attributes:
        ptr: `(D + 1,)` index of the first row of every dialogue, then `N`.
        speaker: `(N,)` index of the speaker, numbered from 0 by first appearance in the dialogue.
        target: `(N,)` label index (-1: unlabelled) or score (NaN: unlabelled).
        judged: `(N,)` bool, which rows count in loss and metrics. Other rows are only context for their neighbours.
        row: `(N,)` index of the row in the corpus.
        features: Modality → `(N, d)`.
        present: Modality → `(N,)` bool, whether the utterance has this modality.
        sequences: Modality → one sequence per row (`erc_graph.data.ragged`).
        cache: Name → `(N, d)` outputs of frozen layers, which a method stores between two training stages.
        sizes: Number of utterances of each dialogue, on the host, so that shapes never wait for the device. Default: computed from `ptr`.
        kept: Values that operators have computed from lengths, speakers and presence, and use again. Example: the edges of a recipe.
    """

    ptr: Tensor
    speaker: Tensor
    target: Tensor
    judged: Tensor
    row: Tensor
    features: Mapping[str, Tensor] = field(default_factory=dict)
    present: Mapping[str, Tensor] = field(default_factory=dict)
    sequences: Mapping[str, Ragged] = field(default_factory=dict)
    cache: Mapping[str, Tensor] = field(default_factory=dict)
    sizes: tuple[int, ...] = ()
    kept: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.sizes:
            object.__setattr__(self, "sizes", tuple(self.ptr.diff().tolist()))
        elif len(self.sizes) != len(self.ptr) - 1:
            raise ValueError(
                f"batch: expected the sizes of {len(self.ptr) - 1} dialogues, found {len(self.sizes)}; replace `sizes` together with `ptr`"
            )

    def __len__(self) -> int:
        return len(self.ptr) - 1

    @property
    def utterances(self) -> int:
        """Return the number of rows, `N`."""
        return len(self.speaker)

    @property
    def device(self) -> torch.device:
        """Return the device of the tensors."""
        return self.speaker.device

    def to(self, device: torch.device | str) -> Batch:
        """Return the same batch on another device."""

        def move(value: object) -> object:
            if isinstance(value, Tensor):
                return value.to(device)
            if isinstance(value, tuple):
                return value
            return {name: tensor.to(device) for name, tensor in value.items()}  # type: ignore[attr-defined]

        return Batch(**{f.name: move(getattr(self, f.name)) for f in fields(self) if f.init})  # type: ignore[arg-type]

    def select(self, dialogues: Tensor) -> Batch:
        """Return the dialogues at the given positions, in that order.

        Args:
            dialogues: `(d,)` int64 positions, on the CPU.
        """
        return next(self.split([dialogues]))

    def split(self, groups: Sequence[Tensor]) -> Iterator[Batch]:
        """Return the dialogues of every group as a batch.

        All indices are computed at once on the host, and copied to the device together.

        Args:
            groups: For each group the `(d,)` int64 positions of its dialogues, on the CPU.
        """
        chosen = torch.cat([group.cpu() for group in groups])
        lengths = torch.tensor(self.sizes, dtype=torch.long)
        start, count = (lengths.cumsum(0) - lengths)[chosen], lengths[chosen]
        sizes = [tuple(part.tolist()) for part in count.split([len(group) for group in groups])]
        first = torch.tensor([row for part in sizes for row in accumulate(part, initial=0)])
        turns = [sum(part) for part in sizes]
        host = ranges(start, count, sum(turns))
        rows = host.to(self.device, non_blocking=True).split(turns)
        ptr = first.to(self.device, non_blocking=True).split([len(part) + 1 for part in sizes])
        return (self._take(*parts) for parts in zip(rows, host.split(turns), ptr, sizes, strict=True))

    def _take(self, rows: Tensor, host: Tensor, ptr: Tensor, sizes: tuple[int, ...]) -> Batch:
        def take(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {name: value.index_select(0, rows) for name, value in values.items()}

        return Batch(
            ptr=ptr,
            features=take(self.features),
            present=take(self.present),
            sequences={name: value.take(host) for name, value in self.sequences.items()},
            cache=take(self.cache),
            sizes=sizes,
            **take({name: getattr(self, name) for name in ("speaker", "target", "judged", "row")}),
        )

    def with_cache(self, cache: Mapping[str, Tensor]) -> Batch:
        """Return the same batch with the given outputs of frozen layers added to its cache."""
        return replace(self, cache=dict(cache))

    # -- index arithmetic ------------------------------------------------------------------

    @cached_property
    def lengths(self) -> Tensor:
        """Return the number of utterances per dialogue, `(D,)`."""
        return self.ptr.diff()

    @cached_property
    def longest(self) -> int:
        """Return the number of utterances of the longest dialogue, `L`."""
        return max(self.sizes, default=0)

    @cached_property
    def dialogue(self) -> Tensor:
        """Return the position of the dialogue of every row, `(N,)`."""
        return torch.repeat_interleave(torch.arange(len(self), device=self.device), self.lengths, output_size=self.utterances)

    @cached_property
    def turn(self) -> Tensor:
        """Return the position of every row in its dialogue, `(N,)`."""
        return torch.arange(self.utterances, device=self.device) - self.ptr[self.dialogue]

    @cached_property
    def mask(self) -> Tensor:
        """Return the mask of the padded form, `(D, L)` bool: True for utterances, False for padding."""
        return torch.arange(self.longest, device=self.device) < self.lengths[:, None]

    @cached_property
    def _slot(self) -> Tensor:
        return self.dialogue * self.longest + self.turn

    @cached_property
    def _slot_backwards(self) -> Tensor:
        return self.dialogue * self.longest + self.lengths[self.dialogue] - 1 - self.turn

    def pad(self, packed: Tensor, *, backwards: bool = False) -> Tensor:
        """Pad packed rows `(N, ...)` with zeros to `(D, L, ...)`.

        Args:
            packed: The rows.
            backwards: Whether to reverse each dialogue. Padding is at the end in both cases.
        """
        slot = self._slot_backwards if backwards else self._slot
        return spread(packed, slot, len(self) * self.longest).view(len(self), self.longest, *packed.shape[1:])

    def unpad(self, padded: Tensor, *, backwards: bool = False) -> Tensor:
        """Remove the padding of `(D, L, ...)`, which leaves packed rows `(N, ...)`."""
        return collect(padded.flatten(0, 1), self._slot_backwards if backwards else self._slot)
