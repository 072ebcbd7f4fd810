"""Sequences of words, frames or audio samples, one sequence per utterance. They are concatenated without padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from erc_graph.data.batch import ranges
from erc_graph.errors import CorpusError

SAMPLING_RATE = 16_000
"""Sampling rate of every waveform in a corpus, in Hz. Files with another rate are resampled when they are read."""

LONG = 256
"""Sequences with at least this many items on average, such as waveforms, are copied as whole slices.

Copying single items by their indices would be slower: 33 ms instead of 0.3 ms for 128 recordings of half a second.
"""


@dataclass(frozen=True, eq=False)
class Ragged:
    """Sequences of different lengths, one per utterance. An empty sequence means that the utterance lacks the modality.

    Attributes:
        values: `(T, *item)`, the concatenated `T` items of all `U` sequences; `item` is the shape of one item. Words and audio frames are
            `(T, d)` float32 with width `d`. Face frames are `(T, 3, H, W)` uint8. Waveforms are `(T,)` float32, mono, at `SAMPLING_RATE`.
        ptr: `(U + 1,)` int64, index of the first item of every sequence, then `T`. This tensor is always on the CPU, so the program can
            compute shapes without waiting for a GPU.

    Raises:
        CorpusError: `ptr` does not increase from 0 to `T`, or is not a one-dimensional int64 tensor on the CPU.

    >>> words = Ragged.of([torch.tensor([[1.0], [2.0]]), torch.zeros(0, 1), torch.tensor([[3.0]])])
    >>> words
    Ragged(3 sequences, 3 items of shape (1,))
    >>> words.pad()[1].tolist()
    [[True, True], [False, False], [True, False]]
    """

    values: Tensor
    ptr: Tensor

    def __post_init__(self) -> None:
        ptr = self.ptr
        if ptr.dtype != torch.long or ptr.ndim != 1 or ptr.device.type != "cpu":
            raise CorpusError(
                f"sequences: expected offsets as a 1-D int64 tensor on the CPU, "
                f"found {ptr.dtype} of shape {tuple(ptr.shape)} on {ptr.device}"
            )
        if not len(ptr) or int(ptr[0]) or bool((ptr.diff() < 0).any()) or int(ptr[-1]) != len(self.values):
            raise CorpusError(
                f"sequences: expected offsets (the first item of each sequence) that increase from 0 to {len(self.values)}, "
                "the number of all items"
            )

    @classmethod
    def of(cls, sequences: Sequence[Tensor]) -> Ragged:
        """Concatenate a list of sequences, one tensor per utterance. The list must contain at least one tensor."""
        lengths = torch.tensor([0, *(len(sequence) for sequence in sequences)])
        return cls(torch.cat(list(sequences)), lengths.cumsum(0))

    @classmethod
    def of_rows(cls, rows: Tensor, present: Tensor) -> Ragged:
        """Convert each present vector to a sequence with only this vector, and each absent vector to an empty sequence.

        Args:
            rows: One vector (or array) per utterance, `(U, *item)`.
            present: Whether each vector is present, `(U,)` bool.

        >>> Ragged.of_rows(torch.tensor([[1.0], [2.0]]), torch.tensor([False, True])).sizes
        (0, 1)
        """
        return cls(rows[present], pad(present.cpu().long().cumsum(0), (1, 0)))

    def __len__(self) -> int:
        return len(self.ptr) - 1

    def __getitem__(self, utterance: int) -> Tensor:
        """Return the sequence of the utterance at a position."""
        if not -len(self) <= utterance < len(self):
            raise IndexError(f"no sequence at position {utterance}; expected a position below {len(self)}")
        start, end = self.ptr[utterance % len(self) :][:2].tolist()
        return self.values[start:end]

    def __repr__(self) -> str:
        return f"Ragged({len(self)} sequences, {len(self.values)} items of shape {self.item})"

    @property
    def item(self) -> tuple[int, ...]:
        """Return the shape of one word, frame or sample of a sequence; `()` for a waveform."""
        return tuple(self.values.shape[1:])

    @property
    def device(self) -> torch.device:
        """Return the device of the values."""
        return self.values.device

    @cached_property
    def lengths(self) -> Tensor:
        """Return the length of each sequence (its words, frames or samples), `(U,)`, on the CPU."""
        return self.ptr.diff()

    @property
    def sizes(self) -> tuple[int, ...]:
        """Return the length of each sequence (its words, frames or samples) as Python integers."""
        return tuple(self.lengths.tolist())

    @cached_property
    def present(self) -> Tensor:
        """Return whether each utterance has a non-empty sequence, `(U,)` bool, on the device of the values."""
        return (self.lengths > 0).to(self.device, non_blocking=True)

    def to(self, device: torch.device | str) -> Ragged:
        """Return the same sequences on another device."""
        return Ragged(self.values.to(device), self.ptr)

    def take(self, rows: Tensor | Sequence[int]) -> Ragged:
        """Return the sequences of the given utterances, in the given order.

        Args:
            rows: Positions of the utterances, `(n,)` int64, on the CPU.
        """
        rows = torch.as_tensor(rows, dtype=torch.long)
        start, lengths = self.ptr[rows], self.lengths[rows]
        ptr = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        cut = (start[1:] != self.ptr[rows[:-1] + 1]).nonzero().squeeze(1) + 1  # where the next one does not lie behind the one before
        if int(ptr[-1]) >= LONG * (len(cut) + 1):
            firsts, lasts = [0, *cut.tolist()], [*(cut - 1).tolist(), len(rows) - 1]
            parts = zip(start[firsts].tolist(), self.ptr[rows[lasts] + 1].tolist(), strict=True)
            return Ragged(torch.cat([self.values[first:end] for first, end in parts]), ptr)
        index = ranges(start, lengths, int(ptr[-1]))
        return Ragged(self.values.index_select(0, index.to(self.device, non_blocking=True)), ptr)

    def pad(self) -> tuple[Tensor, Tensor]:
        """Return the sequences padded with zeros, `(U, L, *item)`, and a mask, `(U, L)` bool, which is False for padding.

        `L` is the length of the longest sequence, and `item` is the shape of one word, frame or sample.
        """
        longest = int(self.lengths.max()) if len(self) else 0
        mask = torch.arange(longest) < self.lengths[:, None]
        if len(self.values) >= LONG * max(1, len(self)):
            padded = pad_sequence(self.values.split(self.sizes), batch_first=True)
            return padded, mask.to(self.device, non_blocking=True)
        place = mask.flatten().nonzero().squeeze(1).to(self.device, non_blocking=True)
        flat = self.values.new_zeros(len(self) * longest, *self.item).index_copy(0, place, self.values)
        return flat.view(len(self), longest, *self.item), mask.to(self.device, non_blocking=True)

    def chunks(self, tokens: int) -> Iterator[tuple[Tensor, Ragged]]:
        """Yield groups (chunks) of utterances with sequences of similar length, the longest first.

        Args:
            tokens: Largest number of words, frames or samples of a chunk, including padding. A longer sequence forms a chunk of its own.

        Yields:
            The positions of the utterances of a chunk, `(n,)`, on the CPU, and the sequences of these utterances. Utterances with an empty
                sequence are left out.
        """
        for rows in chunked(self.lengths, tokens):
            yield rows, self.take(rows)


def chunked(lengths: Tensor, tokens: int) -> Iterator[Tensor]:
    """Group the positions of sequences of similar length; a padded group has at most `tokens` elements, or only one sequence.

    >>> [rows.tolist() for rows in chunked(torch.tensor([2, 0, 9, 3]), 6)]
    [[2], [3, 0]]
    """
    order = lengths.argsort(descending=True, stable=True)
    start, end = 0, int((lengths > 0).sum())
    while start < end:
        rows = order[start : min(end, start + max(1, tokens // int(lengths[order[start]])))]
        yield rows
        start += len(rows)


def shape_text(item: tuple[int, ...]) -> str:
    """Return the shape of one element of a sequence (word, frame or sample) as text for the user.

    >>> shape_text(()), shape_text((768,)), shape_text((3, 48, 48))
    ('samples', '768', '3×48×48')
    """
    return "×".join(map(str, item)) or "samples"
