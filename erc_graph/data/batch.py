"""Batches of conversations: tensors with one row per utterance, without padding, and functions that select and pad rows."""

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

    `total` is the sum of `count`. If it is not given, the function computes this sum.

    >>> ranges(torch.tensor([5, 0]), torch.tensor([2, 3])).tolist()
    [5, 6, 0, 1, 2]
    """
    first = count.cumsum(0) - count
    total = int(count.sum()) if total is None else total
    offset = torch.repeat_interleave(start - first, count, output_size=total)
    return torch.arange(total, device=start.device) + offset


class _Spread(Function):
    """Copy rows to positions of a new tensor, with a fast backward pass: no two rows have the same position, so it only gathers rows."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, place: Tensor, size: int) -> Tensor:
        ctx.save_for_backward(place)
        return rows.new_zeros(size, *rows.shape[1:]).index_copy_(0, place, rows)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return _Collect.apply(grad, ctx.saved_tensors[0]), None, None


class _Collect(Function):
    """Gather rows that all differ, with a fast backward pass.

    The backward pass of PyTorch's indexing allows repeated rows, so it is slow: on a GPU, it sorts the row indices.
    """

    @staticmethod
    def forward(ctx: Any, spread: Tensor, place: Tensor) -> Tensor:
        ctx.save_for_backward(place)
        ctx.size = len(spread)
        return spread.index_select(0, place)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return _Spread.apply(grad, ctx.saved_tensors[0], ctx.size), None


def spread(rows: Tensor, place: Tensor, size: int) -> Tensor:
    """Copy row `i` of `rows` to row `place[i]` of a new tensor of `size` rows. All other rows of the new tensor are zero.

    No position may occur twice in `place`.
    """
    return _Spread.apply(rows, place, size)


def collect(rows: Tensor, place: Tensor) -> Tensor:
    """Return the rows at the positions in `place`. No position may occur twice."""
    return _Collect.apply(rows, place)


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """A batch of `D` dialogues with `N` utterances in total: one row per utterance, without padding.

    Attributes:
        ptr: `(D + 1,)` index of the first row of every dialogue, then `N`.
        speaker: `(N,)` index of the speaker. The speakers of each dialogue are numbered from 0, in order of first appearance.
        target: `(N,)` label index (-1: unlabelled) or score (NaN: unlabelled).
        judged: `(N,)` bool: whether the utterance counts in the loss and the metrics. Other utterances are only context.
        row: `(N,)` index of the row in the corpus.
        features: Modality → feature vectors, `(N, d)` with width `d`.
        present: Modality → `(N,)` bool: whether the utterance has this modality.
        sequences: Modality → one sequence per utterance (`erc_graph.data.ragged`).
        cache: Name → outputs of frozen layers, `(N, d)`, which a method stores between two training stages.
        sizes: Number of utterances of each dialogue, as Python integers; default: computed from `ptr`.
        kept: Values that graph layers compute from lengths, speakers and `present`, stored for reuse. Example: the edges of a graph.
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
                f"batch: expected {len(self.ptr) - 1} numbers in `sizes`, one per dialogue of `ptr`, found {len(self.sizes)}; "
                "replace `sizes` together with `ptr`"
            )

    def __len__(self) -> int:
        return len(self.ptr) - 1

    @property
    def utterances(self) -> int:
        """Return the number of utterances in the batch, `N`."""
        return len(self.speaker)

    @property
    def device(self) -> torch.device:
        """Return the device of the tensors."""
        return self.speaker.device

    def to(self, device: torch.device | str) -> Batch:
        """Return a copy of the batch on another device."""

        def move(value: object) -> object:
            if isinstance(value, Tensor):
                return value.to(device)
            if isinstance(value, tuple):
                return value
            return {name: tensor.to(device) for name, tensor in value.items()}  # type: ignore[attr-defined]

        return Batch(**{f.name: move(getattr(self, f.name)) for f in fields(self) if f.init})  # type: ignore[arg-type]

    def select(self, dialogues: Tensor) -> Batch:
        """Return a batch of the dialogues at the given positions, in the given order.

        Args:
            dialogues: Positions of the dialogues, one-dimensional int64 tensor on the CPU.
        """
        return next(self.split([dialogues]))

    def split(self, groups: Sequence[Tensor]) -> Iterator[Batch]:
        """Return an iterator over batches, one batch per group of dialogues.

        The row indices of all groups are computed together on the CPU, then copied to the device of the batch.

        Args:
            groups: Positions of the dialogues of each group, one-dimensional int64 tensors on the CPU.
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
        """Return the same batch with the given outputs of frozen layers as its cache."""
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
        """Return the position in the batch of the dialogue of every utterance, `(N,)`."""
        return torch.repeat_interleave(torch.arange(len(self), device=self.device), self.lengths, output_size=self.utterances)

    @cached_property
    def turn(self) -> Tensor:
        """Return the position of every utterance in its dialogue, `(N,)`."""
        return torch.arange(self.utterances, device=self.device) - self.ptr[self.dialogue]

    @cached_property
    def mask(self) -> Tensor:
        """Return the mask of padded tensors, `(D, L)` bool: True for utterances, False for padding.

        `L` is the number of utterances of the longest dialogue.
        """
        return torch.arange(self.longest, device=self.device) < self.lengths[:, None]

    @cached_property
    def _slot(self) -> Tensor:
        return self.dialogue * self.longest + self.turn

    @cached_property
    def _slot_backwards(self) -> Tensor:
        return self.dialogue * self.longest + self.lengths[self.dialogue] - 1 - self.turn

    def pad(self, packed: Tensor, *, backwards: bool = False) -> Tensor:
        """Pad the rows of each dialogue with zeros to the length `L` of the longest dialogue; the result is `(D, L, ...)`.

        Args:
            packed: One row per utterance, `(N, ...)`.
            backwards: Whether to reverse the order of utterances in each dialogue. Padding is always after the utterances.
        """
        slot = self._slot_backwards if backwards else self._slot
        return spread(packed, slot, len(self) * self.longest).view(len(self), self.longest, *packed.shape[1:])

    def unpad(self, padded: Tensor, *, backwards: bool = False) -> Tensor:
        """Remove the padding that `pad` added to `(D, L, ...)`, and return one row per utterance, `(N, ...)`."""
        return collect(padded.flatten(0, 1), self._slot_backwards if backwards else self._slot)
