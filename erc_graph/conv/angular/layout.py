"""Arrangement of the nodes of a batch as rows of a matrix, so that an operator can use batched matrix products.

A node is an utterance in one of `S` streams; its index is `utterance * S + stream`. There are two arrangements, which depend only on the
lengths of the dialogues. Arrangements are computed on the CPU and cached:

- **buckets**: dialogues of similar length are padded to the longest dialogue of their bucket. Rows are ordered by bucket, stream, dialogue,
  utterance. Every bucket is a contiguous tensor `(streams × dialogues, utterances, width)` with little padding.
- **one string**: all dialogues of a stream follow each other, with gaps as long as the window of an edge rule. A window therefore never
  contains utterances of two dialogues.

The rows are divided into groups, called **pieces**; no edge joins nodes of two pieces. An operator computes all layers of one piece before
the next piece. Intermediate results therefore stay in the processor's cache, and working memory is needed for one piece only.
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
    """Dialogues that are padded to the same number of utterances; their nodes are consecutive rows of a `Piece` (a group of rows).

    Attributes:
        first: First row of the bucket, counted from the first row of the `Piece`.
        streams: Number of streams in the batch.
        dialogues: Number of dialogues in the bucket.
        turns: Number of utterances per dialogue, padding included.
    """

    first: int
    streams: int
    dialogues: int
    turns: int

    @property
    def end(self) -> int:
        """Return the index of the last row of these dialogues, plus one."""
        return self.first + self.streams * self.dialogues * self.turns

    @property
    def weights(self) -> int:
        """Return the number of edge weights: one per pair of utterances in the same dialogue and stream, padding included."""
        return (self.end - self.first) * self.turns

    def sequences(self, rows: Tensor) -> Tensor:
        """Return the rows of these dialogues as a view `(streams × dialogues, turns, k)` of all rows `(R, k)`."""
        return self._of(rows).view(self.streams * self.dialogues, self.turns, -1)

    def streams_of(self, rows: Tensor) -> Tensor:
        """Return the rows of these dialogues as a view `(dialogues × turns, streams, k)` of all rows `(R, k)`, sorted by utterance."""
        return self._of(rows).view(self.streams, self.dialogues * self.turns, -1).transpose(0, 1)

    def _of(self, rows: Tensor) -> Tensor:
        return rows if self.end - self.first == len(rows) else rows[self.first : self.end]


@dataclass(frozen=True, eq=False)
class Piece:
    """A group of rows, called piece, whose nodes have no edges to nodes of other groups.

    Attributes:
        buckets: The buckets of the piece: dialogues that are padded to the same number of utterances.
        rows: Slice that contains the `R` rows of the piece, among all rows of the layout.
        turns: Slice that contains the utterances of the piece, among all utterances of the layout (with padding).
        weights: Slice that contains the edge weights of the piece, among all edge weights of the layout (with padding).
        node: `(R,)` index of the node in every row; arbitrary in a row of padding.
        real: `(n,)` indices of the `n` rows with a node, counted from the first row of the piece.
        padding: `(R - n,)` indices of the rows of padding.
        nodes: `(n,)` indices of the nodes in the rows `real`.
        by_turns: `(turns × S,)` index of the row of every stream of every utterance.
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
        """Gather the rows of this group (`Piece`) from node states: `(N, S, k)` → `(R, k)`, with zeros in rows of padding."""
        if not len(self.nodes):
            return x.new_zeros(len(self.node), x.shape[-1])
        return x.flatten(0, 1).index_select(0, self.node).index_fill_(0, self.padding, 0)

    def put(self, rows: Tensor, into: Tensor) -> None:
        """Copy the rows `(R, k)` of this group (`Piece`) to the node states `into`, `(N, S, k)`."""
        into.view(-1, into.shape[-1]).index_copy_(0, self.nodes, rows.index_select(0, self.real))

    def squares(self, weights: Tensor) -> list[Tensor]:
        """Return the edge weights of this group of rows as views `(streams × dialogues, turns, turns)`, one per bucket of dialogues."""
        parts = weights.split([bucket.weights for bucket in self.buckets])
        return [part.view(-1, bucket.turns, bucket.turns) for bucket, part in zip(self.buckets, parts, strict=True)]

    def mixes(self, turns: Tensor) -> list[Tensor]:
        """Return a tensor over the utterances of this group of rows as views `(dialogues × turns, ...)`, one per bucket of dialogues."""
        return list(turns.split([bucket.dialogues * bucket.turns for bucket in self.buckets]))

    def by_turn(self, rows: Tensor) -> Tensor:
        """Gather the rows of all streams of every utterance: `(R, k)` → `(turns, S, k)`."""
        return rows.index_select(0, self.by_turns).unflatten(0, (-1, self.buckets[0].streams))

    def add_by_row(self, rows: Tensor, turns: Tensor) -> None:
        """Add `turns`, one value per utterance and stream `(turns, S)`, to the values `rows` `(R,)`, in place."""
        rows.index_add_(0, self.by_turns, turns.flatten())


class Rows:
    """Values of a `Piece` (group of rows), with views as batches of matrices. A view is created on first use and stored.

    Args:
        piece: The group of `R` rows.
        rows: `(R, k)` values, `k` per row; may be a slice of columns of a wider tensor.
    """

    def __init__(self, piece: Piece, rows: Tensor) -> None:
        self.piece, self.rows = piece, rows

    @cached_property
    def sequences(self) -> list[Tensor]:
        """Return the rows as a list of tensors `(streams × dialogues, turns, k)`, one per group of padded dialogues."""
        return [bucket.sequences(self.rows) for bucket in self.piece.buckets]

    @cached_property
    def streams(self) -> list[Tensor]:
        """Return the rows as a list of tensors `(dialogues × turns, streams, k)`, one per group of padded dialogues."""
        return [bucket.streams_of(self.rows) for bucket in self.piece.buckets]


@dataclass(frozen=True, eq=False)
class Layout:
    """An arrangement of the nodes of a batch as rows of a matrix.

    Attributes:
        pieces: The groups of rows (`Piece`), in the order of their rows. No edge joins two groups.
        place: `(N × S,)` index of the row of every node, in the order `utterance * S + stream`.
        rows: `R`, number of rows, padding included.
        turns: Number of utterances, padding included.
        weights: Number of pairs of utterances in the same dialogue and stream, padding included.
    """

    pieces: tuple[Piece, ...]
    place: Tensor
    rows: int
    turns: int
    weights: int

    def arrange(self, x: Tensor) -> Tensor:
        """Arrange node states as rows: `(N, S, k)` → `(R, k)`, with zeros in rows of padding."""
        return _Arrange.apply(x.flatten(0, 1), self.place, self.rows)

    def restore(self, rows: Tensor, streams: int) -> Tensor:
        """Convert rows back to node states, the inverse of `arrange`: `(R, k)` → `(N, S, k)`."""
        return _Restore.apply(rows, self.place).unflatten(0, (-1, streams))


class _Arrange(Function):
    """Copy node states to the rows with the indices `place`. No index occurs twice, so the backward pass is also a copy, without sums."""

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
    """Copy the rows with the indices `place` to the node states; this is the inverse of `_Arrange`."""

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
    """Arrange the nodes in buckets: groups of dialogues of similar length, padded to the longest dialogue of the group.

    Args:
        sizes: Number of utterances per dialogue.
        streams: `S`, number of streams.
        device: Device of the batch.
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
    """Arrange all dialogues of a stream one after another, with gaps between them, as one group of rows (`Piece`).

    Args:
        sizes: Number of utterances per dialogue.
        streams: `S`, number of streams.
        past: Number of preceding utterances in the window of a target.
        future: Number of following utterances in the window of a target.
        tile: The number of rows, without the first `past` and the last `future` rows, is rounded up to a multiple of `tile`.
        device: Device of the batch.
    """
    gap = max(past, future)
    base, length = [], gap
    for size in sizes:
        base.append(length)
        length += size + gap
    rows = past + future + -(-max(streams * length - past, 1) // tile) * tile
    return _layout([[Bucket(0, streams, 1, length)]], rows, _place(sizes, base, [length] * len(sizes), streams), device)


def _place(sizes: tuple[int, ...], base: list[int], step: list[int], streams: int) -> Tensor:
    """Return the index of the row of every node, `(N × S,)`.

    Args:
        sizes: Number of utterances per dialogue.
        base: First row of every dialogue in the first stream.
        step: Number of rows from a stream to the next stream, per dialogue.
        streams: `S`, number of streams.
    """
    with torch.device("cpu"):
        length = torch.tensor(sizes, dtype=torch.long)
        shift = torch.tensor(base, dtype=torch.long) - (length.cumsum(0) - length)
        row = torch.arange(int(length.sum())) + shift.repeat_interleave(length)
        step_of = torch.tensor(step, dtype=torch.long).repeat_interleave(length)
        return (row[:, None] + step_of[:, None] * torch.arange(streams)).flatten()


def _layout(pieces: list[list[Bucket]], rows: int, place: Tensor, device: torch.device) -> Layout:
    """Build the layout from the buckets of each `Piece` and the row of each node. Rows after the last bucket belong to the last `Piece`."""
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
    """Copy indices to the device; with a GPU, the CPU does not wait for the copy."""
    return index.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else index.to(device)
