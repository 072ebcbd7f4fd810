"""Conversations as tensors: packed rows, and the index arithmetic that every other room needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property

import torch
from torch import Tensor


def ranges(start: Tensor, count: Tensor) -> Tensor:
    """Concatenated `arange(start[i], start[i] + count[i])`, without a loop.

    >>> ranges(torch.tensor([5, 0]), torch.tensor([2, 3])).tolist()
    [5, 6, 0, 1, 2]
    """
    first = count.cumsum(0) - count
    total = int(count.sum())
    offset = torch.repeat_interleave(start - first, count, output_size=total)
    return torch.arange(total, device=start.device) + offset


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """`D` dialogues of together `N` utterances as packed rows.

    Attributes:
        ptr: `(D + 1,)` first row of every dialogue, then `N`.
        speaker: `(N,)` order of first appearance of the speaker in the dialogue.
        target: `(N,)` label index (-1: unlabelled) or score (NaN: unlabelled).
        judged: `(N,)` bool: rows that count in loss and metrics; the others are context.
        row: `(N,)` row in the corpus that the batch was taken from.
        features: modality → `(N, d)`.
        present: modality → `(N,)` bool.
        cache: outputs of frozen layers → `(N, d)`, filled by a pipeline between two stages.
    """

    ptr: Tensor
    speaker: Tensor
    target: Tensor
    judged: Tensor
    row: Tensor
    features: Mapping[str, Tensor] = field(default_factory=dict)
    present: Mapping[str, Tensor] = field(default_factory=dict)
    cache: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ptr) - 1

    @property
    def utterances(self) -> int:
        """`N`, the number of rows."""
        return len(self.speaker)

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.speaker.device

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""

        def move(value: object) -> object:
            if isinstance(value, Tensor):
                return value.to(device)
            return {name: tensor.to(device) for name, tensor in value.items()}  # type: ignore[attr-defined]

        return Batch(**{f.name: move(getattr(self, f.name)) for f in fields(self)})  # type: ignore[arg-type]

    def select(self, dialogues: Tensor) -> Batch:
        """The dialogues at the given positions, in that order.

        Args:
            dialogues: `(d,)` int64 positions.
        """
        lengths = self.lengths[dialogues]
        rows = ranges(self.ptr[dialogues], lengths)

        def take(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {name: value[rows] for name, value in values.items()}

        return Batch(
            ptr=torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]),
            speaker=self.speaker[rows],
            target=self.target[rows],
            judged=self.judged[rows],
            row=self.row[rows],
            features=take(self.features),
            present=take(self.present),
            cache=take(self.cache),
        )

    def with_cache(self, cache: Mapping[str, Tensor]) -> Batch:
        """The same rows with outputs of frozen layers beside them."""
        return replace(self, cache=dict(cache))

    # -- index arithmetic ------------------------------------------------------------------

    @cached_property
    def lengths(self) -> Tensor:
        """`(D,)` utterances per dialogue."""
        return self.ptr.diff()

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Utterances per dialogue, on the host: layouts are made from it without asking the device again."""
        return tuple(self.lengths.tolist())

    @cached_property
    def longest(self) -> int:
        """`L`, utterances of the longest dialogue."""
        return max(self.sizes, default=0)

    @cached_property
    def dialogue(self) -> Tensor:
        """`(N,)` position of the row's dialogue."""
        return torch.repeat_interleave(torch.arange(len(self), device=self.device), self.lengths, output_size=self.utterances)

    @cached_property
    def turn(self) -> Tensor:
        """`(N,)` position of the row within its dialogue."""
        return torch.arange(self.utterances, device=self.device) - self.ptr[self.dialogue]

    @cached_property
    def mask(self) -> Tensor:
        """`(D, L)` bool: real turns of the padded form."""
        return torch.arange(self.longest, device=self.device) < self.lengths[:, None]

    @cached_property
    def _slot(self) -> Tensor:
        return self.dialogue * self.longest + self.turn

    @cached_property
    def _slot_backwards(self) -> Tensor:
        return self.dialogue * self.longest + self.lengths[self.dialogue] - 1 - self.turn

    def pad(self, packed: Tensor, *, backwards: bool = False) -> Tensor:
        """`(N, ...)` packed rows → `(D, L, ...)`, zero where there is no turn.

        Args:
            packed: Rows.
            backwards: Each dialogue's last turn first; padding still at the end.
        """
        flat = packed.new_zeros(len(self) * self.longest, *packed.shape[1:])
        slot = self._slot_backwards if backwards else self._slot
        return flat.index_copy(0, slot, packed).view(len(self), self.longest, *packed.shape[1:])

    def unpad(self, padded: Tensor, *, backwards: bool = False) -> Tensor:
        """`(D, L, ...)` → `(N, ...)` packed rows."""
        return padded.flatten(0, 1)[self._slot_backwards if backwards else self._slot]
