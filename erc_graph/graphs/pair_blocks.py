"""Padded pairs of nodes: the arrangement of the pairs in blocks, and the masks of the pairs that have an edge.

Dialogues of similar length form a **bucket** and are padded to the length of the longest dialogue of the bucket. Every target node is in
`K` pairs, one for each possible source node. A pair has an edge or is empty. The pairs are divided into **chunks**, by the kind of their
sources:

- `within`: all utterances in the stream of the target;
- `turn`: all streams of the utterance of the target;
- `full`: all streams of all utterances; used if an edge rule joins different streams at different utterances.

Two edge rules that may join the same two nodes have separate chunks, so that both edges count. All other rules share chunks. The masks of
the pairs with an edge are computed by broadcasting, from the lengths and speakers of dialogues and the windows of rules.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any, Literal

import torch
from torch import Tensor

from erc_graph.data.batch import Batch
from erc_graph.graphs.recipe import GraphRecipe
from erc_graph.graphs.rule_edges import Turns
from erc_graph.graphs.rules import EdgeRule

Kind = Literal["within", "turn", "full"]
EXTRA = 4000  # padded slots that cost as much as one more bucket
KEPT = 256  # turns up to which masks of windows are kept between batches
CUTS = 24  # places at most where buckets may end


@dataclass(frozen=True)
class Chunk:
    """A chunk: all pairs of a target node and a possible source node, for one kind of possible sources.

    Attributes:
        kind: The kind of sources: `within` (same stream), `turn` (same utterance) or `full` (all).
        first: Index of the first source of the chunk among all `K` possible sources of a target.
        width: Number of possible sources of a target in the chunk.
        rules: The edge rules whose edges are in the chunk, each after the index of its first relation. No two rules join the same nodes.
    """

    kind: Kind
    first: int
    width: int
    rules: tuple[tuple[int, EdgeRule], ...]

    @property
    def part(self) -> slice:
        """Return the slice of this chunk's sources among all `K` possible sources of a target node."""
        return slice(self.first, self.first + self.width)


@dataclass(frozen=True)
class Bucket:
    """A bucket: dialogues that are padded to the same length. It has one row per node, sorted by dialogue, stream and utterance.

    Attributes:
        dialogues: The dialogues of the bucket, as indices in the batch.
        streams: `S`, number of streams.
        turns: `T`, number of utterances of the longest dialogue.
        chunks: The groups (`Chunk`) of possible sources of a target node.
        first_row: Index of the first row of the bucket in the batch.
        first_slot: Index of the first pair of nodes of the bucket in the batch.
    """

    dialogues: tuple[int, ...]
    streams: int
    turns: int
    chunks: tuple[Chunk, ...]
    first_row: int
    first_slot: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return the number of dialogues, of streams, and of utterances per padded dialogue."""
        return len(self.dialogues), self.streams, self.turns

    @property
    def rows(self) -> int:
        """Return the number of rows of the bucket, which is the number of nodes with padding."""
        return len(self.dialogues) * self.streams * self.turns

    @property
    def width(self) -> int:
        """Return `K`, the number of possible source nodes of a target node."""
        return self.chunks[-1].first + self.chunks[-1].width if self.chunks else 0

    @property
    def slots(self) -> slice:
        """Return the slice of this bucket's pairs of nodes among all pairs of the batch; the pairs are sorted by target node."""
        return slice(self.first_slot, self.first_slot + self.rows * self.width)


def fold(kind: Kind, x: Tensor) -> Tensor:
    """Group nodes so that the pairs of a `Chunk` of this kind lie within groups: `(H, D, S, T, k)` → `(groups, nodes per group, k)`."""
    if kind == "within":
        return x.reshape(-1, *x.shape[-2:])
    if kind == "turn":
        return x.transpose(2, 3).reshape(-1, x.shape[2], x.shape[4])
    return x.reshape(-1, x.shape[2] * x.shape[3], x.shape[4])


def unfold(kind: Kind, rows: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Undo the grouping of `fold`: `(groups, nodes per group, k)` → `(H, D, S, T, k)`."""
    dialogues, streams, turns = shape
    if kind == "turn":
        return rows.view(-1, dialogues, turns, streams, rows.shape[-1]).transpose(2, 3)
    return rows.view(-1, dialogues, streams, turns, rows.shape[-1])


def product(bucket: Bucket, slots: Tensor, rows: Tensor, transposed: bool, out: Tensor | None = None) -> Tensor:
    """Compute `W x`, or `Wᵀ x` if `transposed`: weights `(H, D, S, T, K)` and node states `(H, D, S, T, k)` → `(H, D, S, T, k)`."""
    total: Tensor | None = None
    kinds = list(dict.fromkeys(chunk.kind for chunk in bucket.chunks))
    for kind in kinds:
        parts = [slots[..., chunk.part] for chunk in bucket.chunks if chunk.kind == kind]
        weight = fold(kind, sum(parts[1:], parts[0]))
        factors = weight.transpose(1, 2) if transposed else weight, fold(kind, rows)
        if kinds == ["within"] and out is not None:
            torch.bmm(*factors, out=out.view(-1, *out.shape[-2:]))
            return out
        each = unfold(kind, torch.bmm(*factors), bucket.shape)
        total = each if total is None else total + each
    total = torch.zeros_like(rows) if total is None else total
    return total if out is None else out.copy_(total)


def outer(bucket: Bucket, target: Tensor, source: Tensor) -> Tensor:
    """Compute the dot products of target states and the states of their `K` sources: `(H, D, S, T, k)`, twice → `(H, D, S, T, K)`."""
    found: dict[str, Tensor] = {}
    for chunk in bucket.chunks:
        if chunk.kind not in found:
            pair = torch.bmm(fold(chunk.kind, target), fold(chunk.kind, source).transpose(1, 2))
            found[chunk.kind] = unfold(chunk.kind, pair, bucket.shape)
    parts = [found[chunk.kind] for chunk in bucket.chunks]
    return parts[0] if len(parts) == 1 else torch.cat(parts, -1) if parts else target.new_zeros(*target.shape[:-1], 0)


def as_given(x: Tensor) -> AbstractContextManager[Any]:
    """Return a context manager that switches autocast off, so that the forward pass has the same precision as the backward pass."""
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()


@lru_cache(maxsize=256)
def _buckets(sizes: tuple[int, ...], cells: int) -> tuple[tuple[int, ...], ...]:
    """Divide dialogues into groups (buckets), the shortest dialogues first; the estimated cost of padding and of groups is minimal.

    Args:
        sizes: Number of utterances per dialogue.
        cells: Number of pairs of nodes per pair of utterances.
    """
    order = sorted((i for i, size in enumerate(sizes) if size), key=lambda i: sizes[i])
    step = -(-len(order) // CUTS) if order else 1
    ends = [*range(step, len(order), step), len(order)] if order else []
    best: list[tuple[float, int]] = [(0.0, 0)]  # cost of the first so many cuts, and where the last bucket begins
    firsts = [0, *ends]
    for i, end in enumerate(ends, 1):
        longest = sizes[order[end - 1]]
        best.append(min((best[j][0] + EXTRA + (end - firsts[j]) * longest**2 * cells, j) for j in range(i)))
    found, at = [], len(ends)
    while at:
        found.append(tuple(order[firsts[best[at][1]] : firsts[at]]))
        at = best[at][1]
    return tuple(reversed(found))


@lru_cache(maxsize=64)
def chunked(recipe_rules: tuple[EdgeRule, ...], streams: tuple[str, ...]) -> tuple[tuple[Kind, tuple[tuple[int, EdgeRule], ...]], ...]:
    """Return the kind and the edge rules of every `Chunk`. A rule is given as a tuple: index of its first relation, rule."""
    firsts = accumulate((len(rule.relations) for rule in recipe_rules), initial=0)
    rules = [(first, rule) for first, rule in zip(firsts, recipe_rules, strict=False) if rule.joined(streams)]
    full = any(rule.scope == "across" and (rule.past != 0 or rule.future != 0) for _, rule in rules)
    chunks: list[tuple[Kind, list[tuple[int, EdgeRule]]]] = []
    for first, rule in rules:
        kind: Kind = "full" if full else "within" if rule.scope == "within" else "turn"
        for other, members in chunks:
            if other == kind and all(apart(rule, member) for _, member in members):
                members.append((first, rule))
                break
        else:
            chunks.append((kind, [(first, rule)]))
    return tuple((kind, tuple(members)) for kind, members in chunks)


def apart(one: EdgeRule, other: EdgeRule) -> bool:
    """Return whether two edge rules can never join the same two nodes."""
    if one.scope != other.scope or {one.speaker, other.speaker} == {"same", "other"}:
        return True
    for mine, yours in ((one.source, other.source), (one.target, other.target)):
        if mine is not None and yours is not None and not set(mine) & set(yours):
            return True
    both = zip(_sides(one), _sides(other), strict=True)
    return not any(mine and yours for mine, yours in both)


def _sides(rule: EdgeRule) -> tuple[bool, bool, bool]:
    """Return whether the rule has edges from earlier utterances, from the same utterance, and from later utterances."""
    return rule.past != 0, rule.self_loops, rule.future != 0


@dataclass(frozen=True, eq=False)
class Blocks:
    """All pairs of nodes of a batch, with padding. They are computed as if all nodes were present.

    Attributes:
        buckets: The groups of padded dialogues.
        node: `(R,)` index `utterance * S + stream` of the node of every row; `S` is the number of streams. Padding has arbitrary values.
        real: `(R,)` bool, whether the row is a node and not padding.
        slots: `P`, number of pairs of nodes, padding included.
        masks: For every bucket, chunk and rule: `(D, T, T)` bool, the pairs of utterances that the rule joins. `(D, T)` for chunks of the
            kind `turn`.
        speaker: For every bucket: `(D, T)` index of the speaker of every utterance.
        streams: Names of the streams.
    """

    buckets: tuple[Bucket, ...]
    node: Tensor
    real: Tensor
    slots: int
    masks: tuple[tuple[tuple[Tensor, ...], ...], ...]
    speaker: tuple[Tensor, ...]
    streams: tuple[str, ...]

    @classmethod
    def of(cls, recipe: GraphRecipe, streams: tuple[str, ...], batch: Batch) -> Blocks:
        """Compute all padded pairs of nodes from the lengths and speakers of the dialogues of a batch."""
        plan = chunked(recipe.edges, streams)
        buckets = _placed(batch.sizes, plan, len(streams))
        turns = Turns.of(batch.ptr, batch.speaker, batch.utterances)
        start = list(accumulate(batch.sizes, initial=0))
        nodes, reals, masks, speakers = [], [], [], []
        for bucket in buckets:
            first = torch.tensor([(start[i], batch.sizes[i]) for i in bucket.dialogues]).to(batch.device, non_blocking=True)
            turn = torch.arange(bucket.turns, device=batch.device)
            real = turn < first[:, 1:]
            rows = first[:, :1] + torch.minimum(turn, first[:, 1:] - 1)
            stream = torch.arange(len(streams), device=batch.device)[:, None]
            nodes.append((rows[:, None] * len(streams) + stream).flatten())
            reals.append(real[:, None].expand(-1, len(streams), -1).flatten())
            speakers.append(batch.speaker[rows])
            pairs = _Pairs(rows, real, speakers[-1], turns)
            masks.append(tuple(tuple(pairs.mask(rule, chunk.kind == "turn") for _, rule in chunk.rules) for chunk in bucket.chunks))
        empty = batch.ptr.new_zeros(0, dtype=torch.long)
        slots = sum(bucket.rows * bucket.width for bucket in buckets)
        node, real = torch.cat([empty, *nodes]), torch.cat([empty.bool(), *reals])
        return cls(buckets, node, real, slots, tuple(masks), tuple(speakers), streams)

    def over_slots(self, value: str, dtype: torch.dtype) -> Tensor:
        """Return one value for each of `P` pairs of nodes; the value is zero for a pair without an edge.

        The argument `value` says which value: `edge` (1), `relation` (index of the relation), `times` (multiplicity) or `factor` (the
        product `scale · times` of two options of the edge rule).
        """
        parts = []
        for bucket, masks, speaker in zip(self.buckets, self.masks, self.speaker, strict=True):
            chunks = [
                self._of_chunk(bucket, chunk, found, speaker, value, dtype) for chunk, found in zip(bucket.chunks, masks, strict=True)
            ]
            parts.append(
                (torch.cat(chunks, -1) if len(chunks) > 1 else chunks[0]).flatten() if chunks else self.node.new_zeros(0, dtype=dtype)
            )
        return torch.cat(parts) if parts else self.node.new_zeros(0, dtype=dtype)

    def _of_chunk(self, bucket: Bucket, chunk: Chunk, masks: tuple[Tensor, ...], speaker: Tensor, value: str, dtype: torch.dtype) -> Tensor:
        """Return the values of `over_slots` for one `Chunk` of a bucket, `(D, S, T, width)`."""
        total: Tensor | None = None
        for (first, rule), mask in zip(chunk.rules, masks, strict=True):
            number = {"edge": 1, "relation": first, "times": rule.times, "factor": rule.times * rule.scale}[value]
            found: Tensor = mask if value == "edge" else mask.to(dtype) * number if number != 1 else mask.to(dtype)
            if value == "relation" and rule.speaker == "pair":
                who = speaker.clamp(max=rule.pairs - 1).to(dtype)
                pair = who * (rule.pairs + 1) if chunk.kind == "turn" else who[:, None] * rule.pairs + who[:, :, None]
                found = found + pair * mask
            placed = _between_streams(found, rule, chunk.kind, self.streams)
            total = placed if total is None else total | placed if value == "edge" else total + placed
        streams = len(self.streams)
        out = torch.zeros((), dtype=dtype, device=speaker.device) if total is None else total
        return out.expand(len(speaker), streams, bucket.turns, *out.shape[3:]).reshape(len(speaker), streams, bucket.turns, chunk.width)


def _between_streams(mask: Tensor, rule: EdgeRule, kind: Kind, streams: tuple[str, ...]) -> Tensor:
    """Extend values of pairs of utterances to the pairs of streams that a rule joins, `(D, S or 1, T, ...)`."""
    if kind == "within" and rule.source is None and rule.target is None:
        return mask[:, None]
    joined = rule.joined(streams)
    allowed = torch.tensor([[(m, n) in joined for m in streams] for n in streams], device=mask.device)  # (target, source)
    if kind == "within":
        return mask[:, None] * allowed.diagonal()[:, None, None]
    if kind == "turn":
        return mask[:, None, :, None] * allowed[:, None]
    return mask[:, None, :, None, :] * allowed[:, None, :, None]


def _placed(sizes: tuple[int, ...], plan: tuple[tuple[Kind, tuple[tuple[int, EdgeRule], ...]], ...], streams: int) -> tuple[Bucket, ...]:
    square = {"within": 1, "turn": 0, "full": streams}
    cells = streams * max(1, sum(square[kind] for kind, _ in plan))
    found, row, slot = [], 0, 0
    for dialogues in _buckets(sizes, cells):
        turns = sizes[dialogues[-1]]
        chunks, first = [], 0
        for kind, rules in plan:
            width = {"within": turns, "turn": streams, "full": streams * turns}[kind]
            chunks.append(Chunk(kind, first, width, rules))
            first += width
        bucket = Bucket(dialogues, streams, turns, tuple(chunks), row, slot)
        found.append(bucket)
        row, slot = row + bucket.rows, slot + bucket.rows * bucket.width
    return tuple(found)


def padded_slots(recipe: GraphRecipe, streams: tuple[str, ...], sizes: tuple[int, ...]) -> int:
    """Return `P`, the number of pairs of nodes with padding, without computing the pairs."""
    return sum(bucket.rows * bucket.width for bucket in _placed(sizes, chunked(recipe.edges, streams), len(streams)))


class _Pairs:
    """Pairs of utterances in `D` dialogues that are padded to `T` utterances.

    Args:
        rows: `(D, T)` index of every utterance in the batch; arbitrary for padding.
        real: `(D, T)` bool, false for padding.
        speaker: `(D, T)` index of the speaker of every utterance.
        turns: Positions of the utterances in their dialogues.
    """

    def __init__(self, rows: Tensor, real: Tensor, speaker: Tensor, turns: Turns) -> None:
        self.rows, self.real, self.speaker, self.turns = rows, real, speaker, turns
        self._cached: dict[str, Tensor] = {}

    def mask(self, rule: EdgeRule, same_turn: bool) -> Tensor:
        """Return the mask of the pairs of utterances that a rule joins, `(D, T, T)` bool, `[target, source]`.

        If `same_turn`, return only the pairs of an utterance with itself, `(D, T)`.
        """
        if same_turn:
            none = not rule.self_loops or rule.speaker == "other"
            mask = torch.zeros_like(self.real) if none else self.real
            return mask & ~self.turns.first[self.rows] if rule.first_turn == "mute" else mask
        near = _near if self.rows.shape[1] <= KEPT else _near.__wrapped__  # many lengths of thousands of turns would hold gigabytes
        mask = self._pairs() & near(self.rows.shape[1], rule.behind, rule.ahead, rule.self_loops, self.rows.device)
        if rule.speaker in ("same", "other"):
            mask &= self._same(rule.speaker)
        for part in self._beyond_windows(rule):
            mask &= part
        return mask

    def _beyond_windows(self, rule: EdgeRule) -> Iterator[Tensor]:
        if rule.first_turn == "mute":
            yield ~self.turns.first[self.rows][:, None]
        if rule.count == "turns" and not isinstance(rule.past, str) and not isinstance(rule.future, str) and rule.first_turn == "speaks":
            return
        first, last = (bound[self.rows][:, :, None] for bound in self.turns.reach(rule))
        place = self.turns.own[self.rows] if rule.count == "own" else self.rows
        yield place[:, None] >= first
        yield place[:, None] < last

    def _pairs(self) -> Tensor:
        if "pairs" not in self._cached:
            self._cached["pairs"] = self.real[:, :, None] & self.real[:, None, :]
        return self._cached["pairs"]

    def _same(self, which: str) -> Tensor:
        if which not in self._cached:
            same = self.speaker[:, :, None] == self.speaker[:, None, :]
            self._cached["same"], self._cached["other"] = same, ~same
        return self._cached[which]


@lru_cache(maxsize=512)
def _near(turns: int, behind: int | None, ahead: int | None, self_loops: bool, device: torch.device) -> Tensor:
    """Return the mask of the sources in the window of every target, `(T, T)` bool, `[target, source]`."""
    turn = torch.arange(turns, device=device)
    distance = turn[:, None] - turn
    mask = torch.ones_like(distance, dtype=torch.bool) if behind is None else distance <= behind
    mask = mask if ahead is None else mask & (distance >= -ahead)
    return mask if self_loops else mask & (distance != 0)
