"""How the nodes of a batch stand as rows, so that an operator can work on whole blocks of them.

A node is an utterance in a stream. Two arrangements, both made from the lengths alone, on the host, and kept:

- **buckets**: dialogues of similar length side by side, padded to the longest of their bucket; rows in the order bucket, stream,
  dialogue, turn. Every bucket is a contiguous `(streams × dialogues, turns, width)`, and little is padding.
- **one string**: all dialogues of a stream in one row, with gaps as long as a window reaches, so that no window sees two dialogues.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.autograd import Function

SLACK = 0.9  # a dialogue shares a bucket with one that is longer by a tenth, or by
FEW = 2  # turns


@dataclass(frozen=True)
class Bucket:
    """Dialogues of one padded length.

    Attributes:
        first: First row.
        streams: Streams of the batch.
        dialogues: Dialogues in the bucket.
        turns: Turns of each, with padding.
    """

    first: int
    streams: int
    dialogues: int
    turns: int

    @property
    def end(self) -> int:
        """One past the last row."""
        return self.first + self.streams * self.dialogues * self.turns

    def sequences(self, rows: Tensor) -> Tensor:
        """`(R, k)` → `(streams × dialogues, turns, k)`, a view."""
        return rows[self.first : self.end].view(self.streams * self.dialogues, self.turns, -1)

    def streams_of(self, rows: Tensor) -> Tensor:
        """`(R, k)` → `(dialogues × turns, streams, k)`, a view: the streams of every turn."""
        return rows[self.first : self.end].view(self.streams, self.dialogues * self.turns, -1).transpose(0, 1)


@dataclass(frozen=True, eq=False)
class Layout:
    """Where the nodes of a batch stand.

    Attributes:
        buckets: Blocks of rows.
        place: `(N × S,)` row of every node, streams of an utterance side by side.
        rows: `R`, rows in all, padding included.
    """

    buckets: tuple[Bucket, ...]
    place: Tensor
    rows: int

    @property
    def weights(self) -> int:
        """Pairs of turns of one dialogue and stream, padding included."""
        return sum((bucket.end - bucket.first) * bucket.turns for bucket in self.buckets)

    def arrange(self, x: Tensor) -> Tensor:
        """`(N, S, k)` → `(R, k)`, zero where no node stands."""
        return _Arrange.apply(x.flatten(0, 1), self.place, self.rows)

    def restore(self, rows: Tensor, streams: int) -> Tensor:
        """`(R, k)` → `(N, S, k)`."""
        return _Restore.apply(rows, self.place).unflatten(0, (-1, streams))


class _Arrange(Function):
    """Rows to their places. Every place is taken once, so that both directions are copies and nothing is summed."""

    @staticmethod
    def forward(ctx, x: Tensor, place: Tensor, rows: int) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(place)
        out = x.new_zeros(rows, x.shape[1])
        out[place] = x
        return out

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[no-untyped-def]
        return grad.index_select(0, ctx.saved_tensors[0]), None, None


class _Restore(Function):
    """Rows from their places."""

    @staticmethod
    def forward(ctx, rows: Tensor, place: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(place)
        ctx.rows = len(rows)
        return rows.index_select(0, place)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[no-untyped-def]
        out = grad.new_zeros(ctx.rows, grad.shape[1])
        out[ctx.saved_tensors[0]] = grad
        return out, None


@lru_cache(maxsize=64)
def in_buckets(sizes: tuple[int, ...], streams: int, device: torch.device) -> Layout:
    """Dialogues of similar length side by side.

    Args:
        sizes: Utterances per dialogue.
        streams: `S`.
        device: Where the batch is.
    """
    groups: list[list[int]] = []
    for dialogue in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        longest = sizes[groups[-1][0]] if groups else 0
        if groups and sizes[dialogue] >= min(SLACK * longest, longest - FEW):
            groups[-1].append(dialogue)
        else:
            groups.append([dialogue])
    buckets, base, step, first = [], [0] * len(sizes), [0] * len(sizes), 0
    for group in groups:
        turns = sizes[group[0]]
        bucket = Bucket(first, streams, len(group), turns)
        for i, dialogue in enumerate(group):
            base[dialogue], step[dialogue] = first + i * turns, len(group) * turns
        first = bucket.end
        buckets.append(bucket)
    return Layout(tuple(buckets), _place(sizes, base, step, streams, device), first)


@lru_cache(maxsize=64)
def in_one_string(sizes: tuple[int, ...], streams: int, past: int, future: int, tile: int, device: torch.device) -> Layout:
    """All dialogues of a stream in one string, gaps between them.

    Args:
        sizes: Utterances per dialogue.
        streams: `S`.
        past: How many turns back a window reaches.
        future: How many turns ahead.
        tile: The rows but for the first `past` and the last `future` are a multiple of this.
        device: Where the batch is.
    """
    gap = max(past, future)
    base, length = [], gap
    for size in sizes:
        base.append(length)
        length += size + gap
    rows = past + future + -(-max(streams * length - past, 1) // tile) * tile
    return Layout((Bucket(0, streams, 1, length),), _place(sizes, base, [length] * len(sizes), streams, device), rows)


def _place(sizes: tuple[int, ...], base: list[int], step: list[int], streams: int, device: torch.device) -> Tensor:
    """`(N × S,)` from the first row of every dialogue in the first stream, and the step from stream to stream."""
    length = torch.tensor(sizes, dtype=torch.long)
    shift = torch.tensor(base, dtype=torch.long) - (length.cumsum(0) - length)
    row = torch.arange(int(length.sum())) + shift.repeat_interleave(length)
    step_of = torch.tensor(step, dtype=torch.long).repeat_interleave(length)
    place = (row[:, None] + step_of[:, None] * torch.arange(streams)).flatten()
    if device.type == "cuda":
        return place.pin_memory().to(device, non_blocking=True)  # the host does not wait
    return place.to(device)
