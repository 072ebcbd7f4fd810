"""One sequence per utterance (words, frames, samples) in packed form: all values in one row order, and each utterance is a slice of it."""

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
"""Of every waveform in a corpus, in Hz; files of another rate are resampled when they are read."""

LONG = 256
"""Items of a piece from which on pieces are copied one by one, as waveforms are: then an index for every item costs more, 33 ms for
128 recordings of half a second against 0.3 ms."""


@dataclass(frozen=True, eq=False)
class Ragged:
    """Sequences of different lengths; an empty sequence means that the utterance lacks the modality.

    Attributes:
        values: `(T, *item)`, the items of all `U` sequences one after the other: words and frames `(T, d)` float32, a waveform `(T,)`
            float32 (mono, `SAMPLING_RATE`), face frames `(T, 3, H, W)` uint8.
        ptr: `(U + 1,)` int64, first item of every sequence, then `T`; always on the host, so that shapes never wait for a device.

    Raises:
        CorpusError: the slices do not cover the values in order.

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
            raise CorpusError(f"sequences: expected int64 offsets of one axis on the CPU, found {ptr.dtype} of shape {tuple(ptr.shape)}")
        if not len(ptr) or int(ptr[0]) or bool((ptr.diff() < 0).any()) or int(ptr[-1]) != len(self.values):
            raise CorpusError(f"sequences: expected offsets that rise from 0 to {len(self.values)}, the number of items")

    @classmethod
    def of(cls, sequences: Sequence[Tensor]) -> Ragged:
        """Pack one tensor `(T_i, *item)` per utterance; at least one."""
        lengths = torch.tensor([0, *(len(sequence) for sequence in sequences)])
        return cls(torch.cat(list(sequences)), lengths.cumsum(0))

    @classmethod
    def of_rows(cls, rows: Tensor, present: Tensor) -> Ragged:
        """Make each row that is present a sequence of one item: `(U, *item)` and `(U,)` bool.

        >>> Ragged.of_rows(torch.tensor([[1.0], [2.0]]), torch.tensor([False, True])).sizes
        (0, 1)
        """
        return cls(rows[present], pad(present.cpu().long().cumsum(0), (1, 0)))

    def __len__(self) -> int:
        return len(self.ptr) - 1

    def __getitem__(self, utterance: int) -> Tensor:
        """`(T_i, *item)`: one sequence."""
        if not -len(self) <= utterance < len(self):
            raise IndexError(f"sequence {utterance} of {len(self)}")
        start, end = self.ptr[utterance % len(self) :][:2].tolist()
        return self.values[start:end]

    def __repr__(self) -> str:
        return f"Ragged({len(self)} sequences, {len(self.values)} items of shape {self.item})"

    @property
    def item(self) -> tuple[int, ...]:
        """Return the shape of one item; `()` for a waveform."""
        return tuple(self.values.shape[1:])

    @property
    def device(self) -> torch.device:
        """Return the device of the values."""
        return self.values.device

    @cached_property
    def lengths(self) -> Tensor:
        """Return the number of items per utterance, `(U,)`, on the host."""
        return self.ptr.diff()

    @property
    def sizes(self) -> tuple[int, ...]:
        """Return the lengths as Python numbers."""
        return tuple(self.lengths.tolist())

    @cached_property
    def present(self) -> Tensor:
        """Return which utterances have a sequence, `(U,)` bool, on the device of the values."""
        return (self.lengths > 0).to(self.device, non_blocking=True)

    def to(self, device: torch.device | str) -> Ragged:
        """Return the same sequences on another device."""
        return Ragged(self.values.to(device), self.ptr)

    def take(self, rows: Tensor | Sequence[int]) -> Ragged:
        """Return the sequences of the given utterances, in that order.

        Args:
            rows: `(n,)` int64 positions, on the host.
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
        """Return `(U, L, *item)`, zero after the end of each sequence, and the mask `(U, L)` bool of real items; `L` is the longest."""
        longest = int(self.lengths.max()) if len(self) else 0
        mask = torch.arange(longest) < self.lengths[:, None]
        if len(self.values) >= LONG * max(1, len(self)):
            padded = pad_sequence(self.values.split(self.sizes), batch_first=True)
            return padded, mask.to(self.device, non_blocking=True)
        place = mask.flatten().nonzero().squeeze(1).to(self.device, non_blocking=True)
        flat = self.values.new_zeros(len(self) * longest, *self.item).index_copy(0, place, self.values)
        return flat.view(len(self), longest, *self.item), mask.to(self.device, non_blocking=True)

    def chunks(self, tokens: int) -> Iterator[tuple[Tensor, Ragged]]:
        """Yield utterances of similar length together, the longest first.

        Args:
            tokens: Largest number of items of a padded chunk; a longer utterance is a separate chunk.

        Yields:
            `(n,)` positions on the host, and their sequences; utterances without a sequence are in no chunk.
        """
        for rows in chunked(self.lengths, tokens):
            yield rows, self.take(rows)


def chunked(lengths: Tensor, tokens: int) -> Iterator[Tensor]:
    """Return positions of similar length together, the longest first; see `Ragged.chunks`.

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
    """Return the shape of one item of a sequence in words.

    >>> shape_text(()), shape_text((768,)), shape_text((3, 48, 48))
    ('samples', '768', '3×48×48')
    """
    return "×".join(map(str, item)) or "samples"
