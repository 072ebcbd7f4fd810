"""How the nodes of a batch stand as rows, so that an operator can work on whole blocks of them.

A node is an utterance in a stream, number `utterance * S + stream`. Two arrangements, both made from the lengths alone, on the host,
and kept:

- **buckets**: dialogues of similar length side by side, padded to the longest of their bucket; rows in the order bucket, stream, dialogue,
  utterance. Every bucket is a contiguous `(streams × dialogues, turns, width)`, and little is padding.
- **one string**: all dialogues of a stream in one row, with gaps as long as a window reaches, so that no window sees two dialogues.

Rows are cut into **pieces** that no edge joins. An operator that goes through all its layers for one piece and then for the next finds
what it made in the processor's cache, and needs working memory for one piece only.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor
from torch.autograd import Function

SLACK = 0.9  # a dialogue shares a bucket with one that is longer by a tenth, or by
FEW = 2  # turns
PIECE = 1700  # rows of a piece on the CPU, unless one dialogue has more; a GPU takes all rows at once


@dataclass(frozen=True)
class Bucket:
    """Dialogues of one padded length.

    Attributes:
        first: First row, counted from the first of the piece.
        streams: Streams of the batch.
        dialogues: Dialogues in the bucket.
        turns: Utterances of each, with padding.
    """

    first: int
    streams: int
    dialogues: int
    turns: int

    @property
    def end(self) -> int:
        """Return the index after the last row."""
        return self.first + self.streams * self.dialogues * self.turns

    @property
    def weights(self) -> int:
        """Return the number of edge weights: pairs of utterances in the same dialogue and stream, padding included."""
        return (self.end - self.first) * self.turns

    def sequences(self, rows: Tensor) -> Tensor:
        """Map `(R, k)` to `(streams × dialogues, turns, k)`, a view."""
        return self._of(rows).view(self.streams * self.dialogues, self.turns, -1)

    def streams_of(self, rows: Tensor) -> Tensor:
        """Map `(R, k)` to `(dialogues × turns, streams, k)`, a view: the streams of every utterance."""
        return self._of(rows).view(self.streams, self.dialogues * self.turns, -1).transpose(0, 1)

    def _of(self, rows: Tensor) -> Tensor:
        return rows if self.end - self.first == len(rows) else rows[self.first : self.end]


@dataclass(frozen=True, eq=False)
class Piece:
    """Rows that no edge joins to rows of another piece.

    Attributes:
        buckets: Blocks of rows, counted from the first of the piece.
        rows: Which rows of the layout.
        turns: Which utterances (of all streams), padding included.
        weights: Which pairs of utterances of one dialogue and stream, padding included.
        node: `(R,)` the node in every row, any where there is none.
        real: `(n,)` the rows with a node, counted from the first of the piece, in order.
        padding: `(R - n,)` the rows without.
        nodes: `(n,)` the nodes in the real rows.
        by_turns: `(turns × S,)` the row of every stream of every utterance.
    """

    buckets: tuple[Bucket, ...]
    rows: slice
    turns: slice
    weights: slice
    node: Tensor
    real: Tensor
    padding: Tensor
    nodes: Tensor
    by_turns: Tensor

    def take(self, x: Tensor) -> Tensor:
        """Map `(N, S, k)` to `(R, k)`, a new tensor, zero where there is no node."""
        if not len(self.nodes):
            return x.new_zeros(len(self.node), x.shape[-1])
        return x.flatten(0, 1).index_select(0, self.node).index_fill_(0, self.padding, 0)

    def put(self, rows: Tensor, into: Tensor) -> None:
        """Write `(R, k)` to the nodes of `(N, S, k)`; no other piece has them."""
        into.view(-1, into.shape[-1]).index_copy_(0, self.nodes, rows.index_select(0, self.real))

    def squares(self, weights: Tensor) -> list[Tensor]:
        """Return per bucket `(streams × dialogues, turns, turns)` of the flat weights of the piece, views."""
        parts = weights.split([bucket.weights for bucket in self.buckets])
        return [part.view(-1, bucket.turns, bucket.turns) for bucket, part in zip(self.buckets, parts, strict=True)]

    def mixes(self, turns: Tensor) -> list[Tensor]:
        """Return per bucket `(dialogues × turns, ...)` of a tensor over the utterances of the piece, views."""
        return list(turns.split([bucket.dialogues * bucket.turns for bucket in self.buckets]))

    def by_turn(self, rows: Tensor) -> Tensor:
        """Map `(R, k)` to `(turns, S, k)`."""
        return rows.index_select(0, self.by_turns).unflatten(0, (-1, self.buckets[0].streams))

    def add_by_row(self, rows: Tensor, turns: Tensor) -> None:
        """Add `(turns, S)` to `(R,)`."""
        rows.index_add_(0, self.by_turns, turns.flatten())


class Rows:
    """Rows of a piece with the views that are multiplied; a view is made on first use and stored.

    Args:
        piece: The piece.
        rows: `(R, k)`, may be some columns of a wider tensor.
    """

    def __init__(self, piece: Piece, rows: Tensor) -> None:
        self.piece, self.rows = piece, rows

    @cached_property
    def sequences(self) -> list[Tensor]:
        """Return per bucket `(streams × dialogues, turns, k)`."""
        return [bucket.sequences(self.rows) for bucket in self.piece.buckets]

    @cached_property
    def streams(self) -> list[Tensor]:
        """Return per bucket `(dialogues × turns, streams, k)`."""
        return [bucket.streams_of(self.rows) for bucket in self.piece.buckets]


@dataclass(frozen=True, eq=False)
class Layout:
    """Where the nodes of a batch stand.

    Attributes:
        pieces: All rows, in order.
        place: `(N × S,)` row of every node, streams of an utterance side by side.
        rows: `R`, rows in all, padding included.
        turns: Utterances in all, padding included.
        weights: Pairs of utterances of one dialogue and stream in all, padding included.
    """

    pieces: tuple[Piece, ...]
    place: Tensor
    rows: int
    turns: int
    weights: int

    def arrange(self, x: Tensor) -> Tensor:
        """Map `(N, S, k)` to `(R, k)`, zero where no node stands."""
        return _Arrange.apply(x.flatten(0, 1), self.place, self.rows)

    def restore(self, rows: Tensor, streams: int) -> Tensor:
        """Map `(R, k)` to `(N, S, k)`."""
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


def in_buckets(sizes: tuple[int, ...], streams: int, device: torch.device) -> Layout:
    """Arrange dialogues of similar length side by side.

    Args:
        sizes: Utterances per dialogue.
        streams: `S`.
        device: Where the batch is.
    """
    return _in_buckets(sizes, streams, device, PIECE if device.type == "cpu" else 2**62)


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # a tensor of inference cannot be trained through later
def _in_buckets(sizes: tuple[int, ...], streams: int, device: torch.device, most: int) -> Layout:
    groups: list[list[int]] = []
    for dialogue in sorted((i for i, size in enumerate(sizes) if size), key=lambda i: -sizes[i]):
        longest = sizes[groups[-1][0]] if groups else 0
        alike = groups and sizes[dialogue] >= min(SLACK * longest, longest - FEW)
        if alike and (len(groups[-1]) + 1) * longest * streams <= most:
            groups[-1].append(dialogue)
        else:
            groups.append([dialogue])
    pieces: list[list[Bucket]] = []
    base, step, start, first = [0] * len(sizes), [0] * len(sizes), 0, 0
    for group in groups:
        turns = sizes[group[0]]
        if not pieces or first + streams * len(group) * turns > most:
            pieces.append([])
            start, first = start + first, 0
        bucket = Bucket(first, streams, len(group), turns)
        for i, dialogue in enumerate(group):
            base[dialogue], step[dialogue] = start + first + i * turns, len(group) * turns
        pieces[-1].append(bucket)
        first = bucket.end
    return _layout(pieces, start + first, _place(sizes, base, step, streams), device)


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # a tensor of inference cannot be trained through later
def in_one_string(sizes: tuple[int, ...], streams: int, past: int, future: int, tile: int, device: torch.device) -> Layout:
    """Arrange all dialogues of a stream in one string with gaps between them, as one piece.

    Args:
        sizes: Utterances per dialogue.
        streams: `S`.
        past: How many utterances back a window reaches.
        future: How many utterances ahead.
        tile: The rows but for the first `past` and the last `future` are a multiple of this.
        device: Where the batch is.
    """
    gap = max(past, future)
    base, length = [], gap
    for size in sizes:
        base.append(length)
        length += size + gap
    rows = past + future + -(-max(streams * length - past, 1) // tile) * tile
    return _layout([[Bucket(0, streams, 1, length)]], rows, _place(sizes, base, [length] * len(sizes), streams), device)


def _place(sizes: tuple[int, ...], base: list[int], step: list[int], streams: int) -> Tensor:
    """`(N × S,)` from the first row of every dialogue in the first stream, and the step from stream to stream."""
    with torch.device("cpu"):
        length = torch.tensor(sizes, dtype=torch.long)
        shift = torch.tensor(base, dtype=torch.long) - (length.cumsum(0) - length)
        row = torch.arange(int(length.sum())) + shift.repeat_interleave(length)
        step_of = torch.tensor(step, dtype=torch.long).repeat_interleave(length)
        return (row[:, None] + step_of[:, None] * torch.arange(streams)).flatten()


def _layout(pieces: list[list[Bucket]], rows: int, place: Tensor, device: torch.device) -> Layout:
    """From the buckets of every piece and the row of every node; what is left of the rows goes to the last piece."""
    node = torch.full((rows,), -1, device="cpu").index_copy_(0, place, torch.arange(len(place), device="cpu"))
    ends = [sum(buckets[-1].end for buckets in pieces[: i + 1]) for i in range(len(pieces))]
    ends[-1:] = [rows] if ends else []
    found, first, turn, weight = [], 0, 0, 0
    for buckets, end in zip(pieces, ends, strict=True):
        part = node[first:end]
        real, padding = (part >= 0).nonzero().flatten(), (part < 0).nonzero().flatten()
        turn_rows = [torch.arange(b.first, b.end, device="cpu").view(b.streams, -1).T.flatten() for b in buckets]
        index = [_sent(indices, device) for indices in (part.clamp(min=0), real, padding, part[real], torch.cat(turn_rows))]
        turns, weights = sum(b.dialogues * b.turns for b in buckets), sum(b.weights for b in buckets)
        found.append(Piece(tuple(buckets), slice(first, end), slice(turn, turn + turns), slice(weight, weight + weights), *index))
        first, turn, weight = end, turn + turns, weight + weights
    return Layout(tuple(found), _sent(place, device), rows, turn, weight)


def _sent(index: Tensor, device: torch.device) -> Tensor:
    """On the device, for which the host does not wait."""
    return index.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else index.to(device)
