"""Edges of a graph recipe, computed from dialogue lengths and speakers with tensor operations, without loops over utterances or edges.

A row is an utterance of a batch (`erc_graph.data.batch.Batch`): dialogue `i` has the rows `ptr[i]:ptr[i + 1]`. For a rule with a window,
time and memory are linear in the number of utterances. For a rule over `all` utterances, time, memory and the number of edges are quadratic
in the length of a dialogue.

The number of edges is usually computed only from the lengths of dialogues, so that the CPU does not wait for a GPU. Row indices have the
type int32 if all indices fit into it. Edges of recent batches are cached. The key of the cache contains the lengths and, if a rule depends
on speakers, the speakers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from erc_graph.graphs.recipe import EdgeRule, GraphRecipe

EdgeType = tuple[str, str, str]
_FREE: dict[str, Any] = {"relation": "r", "weight": "unit", "scale": 1.0, "source": None, "target": None, "times": 1}  # nothing to the rows
KEPT = 2**21  # edges of a rule above which they are not kept: 16 MiB


def reached(sizes: tuple[int, ...], reach: int | None) -> int:
    """Return the number of pairs of utterances in all dialogues whose distance is from 1 to `reach` (`None`: any distance).

    >>> reached((4,), None), reached((4, 2), 1)
    (6, 4)
    """
    total = 0
    for turns in sizes:
        near = turns - 1 if reach is None else min(reach, turns - 1)
        total += near * (near + 1) // 2 + (turns - 1 - near) * near
    return total


@dataclass(frozen=True, eq=False)
class Turns:
    """The position of every utterance (row) in its dialogue, and among the utterances of its speaker.

    Attributes:
        start: `(N,)` for every row, the first row of its dialogue.
        end: `(N,)` for every row, the last row of its dialogue, plus one.
        own: `(N,)` position of every row in `order`.
        order: `(N,)` the rows, sorted by dialogue, speaker and utterance.
        own_start: `(N,)` position in `order` of the first utterance of the row's speaker.
        own_end: `(N,)` position in `order` of the last utterance of the row's speaker, plus one.
        speaker: `(N,)` index of the speaker within the dialogue.
    """

    start: Tensor
    end: Tensor
    speaker: Tensor

    @classmethod
    def of(cls, ptr: Tensor, speaker: Tensor, turns: int) -> Turns:
        """Compute all positions. `ptr` contains the first row of every dialogue, then `N`; `turns` is `N`, the number of utterances."""
        dialogue = torch.repeat_interleave(ptr.diff(), output_size=turns)
        return cls(ptr[:-1].index_select(0, dialogue), ptr[1:].index_select(0, dialogue), speaker)

    @cached_property
    def order(self) -> Tensor:
        """Return the indices of all utterances `(N,)`, sorted by dialogue, speaker and utterance."""
        by_speaker = torch.argsort(self.speaker, stable=True)
        return by_speaker[torch.argsort(self.start[by_speaker], stable=True)].to(self.start.dtype)

    @cached_property
    def own(self) -> Tensor:
        """Return the position of every utterance in the sorted list `order`, `(N,)`."""
        return torch.empty_like(self.order).index_copy_(0, self.order.long(), self._row)

    @cached_property
    def _ends(self) -> tuple[Tensor, Tensor]:
        start, speaker = self.start[self.order], self.speaker[self.order]
        fresh = torch.ones(len(start) + 1, dtype=torch.bool, device=start.device)
        fresh[1:-1] = (start[1:] != start[:-1]) | (speaker[1:] != speaker[:-1])
        place = fresh.nonzero().flatten().to(start.dtype)
        group = fresh[:-1].cumsum(0)[self.own] - 1
        return place[group], place[group + 1]

    @property
    def own_start(self) -> Tensor:
        """Return, for every utterance, the position in the sorted list `order` of its speaker's first utterance in the dialogue, `(N,)`."""
        return self._ends[0]

    @property
    def own_end(self) -> Tensor:
        """Return, for every utterance, the position in the sorted list `order` of its speaker's last utterance, plus one, `(N,)`."""
        return self._ends[1]

    @property
    def first(self) -> Tensor:
        """Return, for every utterance, whether it is the first utterance of its speaker in the dialogue, `(N,)` bool."""
        return self.own == self.own_start

    def reach(self, rule: EdgeRule) -> tuple[Tensor, Tensor]:
        """Return, for every target utterance, the index of its first source, and the index of its last source plus one, `(N,)` each.

        An index is the row of an utterance in the batch. For a rule with `count = "own"`, an index is a position in the list `order`, which
        is sorted by dialogue, speaker and utterance.
        """
        own = rule.count == "own"
        here, start, end = (self.own, self.own_start, self.own_end) if own else (self._row, self.start, self.end)
        first, last = start, end
        if rule.past is not None:
            first = self._back(rule.past) if isinstance(rule.past, str) else torch.maximum(start, here - rule.past)
        if rule.future is not None:
            last = self._ahead(rule.future) if isinstance(rule.future, str) else torch.minimum(end, here + rule.future + 1)
        return first, last

    @property
    def _row(self) -> Tensor:
        return torch.arange(len(self.start), device=self.start.device, dtype=self.start.dtype)

    def _back(self, reach: str) -> Tensor:
        place = self.own - own_turns(reach)
        return torch.where(place >= self.own_start, self.order[place.clamp(min=0)], self.start)

    def _ahead(self, reach: str) -> Tensor:
        place = self.own + own_turns(reach)
        return torch.where(place < self.own_end, self.order[place.clamp(max=len(self.order) - 1)] + 1, self.end)


def own_turns(reach: str) -> int:
    """Return the number `k` from a string of the form `own:k`."""
    return int(reach.removeprefix("own:"))


def rule_edges(
    rule: EdgeRule, ptr: Tensor, speaker: Tensor, *, sizes: tuple[int, ...] | None = None, dtype: torch.dtype = torch.long
) -> tuple[Tensor, Tensor]:
    """Return the edges of one edge rule, on the device of `ptr`, as if all nodes were present. A row is an utterance of the batch.

    Args:
        rule: The edge rule.
        ptr: `(D + 1,)` first row of every dialogue, then `N`, the number of rows.
        speaker: `(N,)` index of the speaker within the dialogue.
        sizes: Number of utterances per dialogue, if known on the CPU. Without `sizes`, `ptr` is copied to the CPU.
        dtype: Data type of the row indices.

    Returns:
        Indices of source rows and target rows, `(E,)` each, sorted by target, then by source.

    >>> rule = EdgeRule(relation="context", scope="within", past=1, future=0)
    >>> [rows.tolist() for rows in rule_edges(rule, torch.tensor([0, 3]), torch.tensor([0, 1, 0]))]
    [[0, 0, 1, 1, 2], [0, 1, 1, 2, 2]]
    """
    sizes = tuple(ptr.diff().tolist()) if sizes is None else sizes
    turns = Turns.of(ptr.to(dtype), speaker, sum(sizes))
    first, last = turns.reach(rule)
    count = last - first
    total = reachable(rule, sizes)
    total = int(count.sum()) if total is None else total
    target = torch.repeat_interleave(count, output_size=total)
    before = (first - count.cumsum(0, dtype=dtype)).add_(count)  # the first source of a row, less the edges in front of it
    source = torch.arange(total, device=ptr.device, dtype=dtype).add_(before.index_select(0, target))
    if rule.count == "own":
        source = turns.order[source]
    keep = None if rule.self_loops else source != target
    if rule.speaker in ("same", "other") and rule.count != "own":
        same = speaker[source] == speaker[target]
        chosen = same if rule.speaker == "same" else ~same
        keep = chosen if keep is None else keep & chosen
    if rule.first_turn == "mute":
        chosen = ~turns.first[source]
        keep = chosen if keep is None else keep & chosen
    return (source, target) if keep is None else (source[keep], target[keep])


def reachable(rule: EdgeRule, sizes: tuple[int, ...]) -> int | None:
    """Return the number of utterance pairs in the window of an edge rule, over all speakers; `None` if the window depends on speakers."""
    if rule.count == "own" or isinstance(rule.past, str) or isinstance(rule.future, str):
        return None
    return sum(sizes) + reached(sizes, rule.past) + reached(sizes, rule.future)


def rule_rows(rule: EdgeRule, ptr: Tensor, speaker: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """Return the edges of `rule_edges` as one tensor `(2, E)`: sources, targets. Its type is int32 if all indices fit into it.

    The tensor may come from the cache of edges, so the caller must not change it in place.
    """
    total = reachable(rule, sizes)
    total = sum(sizes) + 2 * reached(sizes, None) if total is None else total
    dtype = torch.int32 if total < 2**30 else torch.long  # a reach of up to a milliard is added to rows
    if total > KEPT:
        return torch.stack(rule_edges(rule, ptr, speaker, sizes=sizes, dtype=dtype))
    asks = rule.speaker in ("same", "other") or rule.first_turn == "mute" or reachable(rule, sizes) is None
    who = (speaker.long().cpu().numpy().tobytes(),) if asks else ()
    return _kept(replace(rule, **_FREE), sizes, who, dtype, ptr.device)


def forget() -> None:
    """Clear the cache of edges, for example before a measurement of time."""
    _kept.cache_clear()


@lru_cache(maxsize=16)
def _kept(rule: EdgeRule, sizes: tuple[int, ...], who: tuple[bytes, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    ptr = torch.tensor([0, *accumulate(sizes)]).to(device, non_blocking=True)
    speaker = torch.frombuffer(bytearray(b"".join(who)), dtype=torch.long).to(device) if who and who[0] else ptr[:0]
    return torch.stack(rule_edges(rule, ptr, speaker, sizes=sizes, dtype=dtype))


def graph_edges(
    recipe: GraphRecipe,
    ptr: Tensor,
    speaker: Tensor,
    present: Mapping[str, Tensor],
    *,
    sizes: tuple[int, ...] | None = None,
    dtype: torch.dtype | None = torch.long,
) -> dict[EdgeType, Tensor]:
    """Return the edges of all edge types of a graph recipe. If no node is absent, edge types with the same relation share a tensor.

    Args:
        recipe: The graph recipe.
        ptr: `(D + 1,)` index of the first row (utterance) of every dialogue, then `N`, the number of rows.
        speaker: `(N,)` index of the speaker within the dialogue.
        present: Stream → `(N,)` bool; an absent node has no edges.
        sizes: Number of utterances per dialogue, if known on the CPU.
        dtype: Data type of the row indices; PyTorch Geometric needs int64. `None`: int32 if all indices fit into it. With `None`, the
            tensors may come from the cache, so the caller must not change them in place.

    Returns:
        `(source stream, relation, target stream)` → `(2, E)`: source rows, target rows. Every edge type that the recipe allows has a
        tensor, which may be empty.
    """
    sizes = tuple(ptr.diff().tolist()) if sizes is None else sizes
    full = {name: bool(mask.all()) for name, mask in present.items()}
    edges = {}
    for rule in recipe.edges:
        rows = rule_rows(rule, ptr, speaker, sizes)
        rows = rows if dtype is None else rows.to(dtype)
        pair = pair_of(rule, rows, speaker)
        for i, relation in enumerate(rule.relations):
            some = rows if pair is None else rows[:, pair == i]
            for m, n in rule.joined(tuple(present)):
                keep = None if full[m] and full[n] else present[m][some[0]] & present[n][some[1]]
                edges[m, relation, n] = some if keep is None else some[:, keep]
    return edges


def pair_of(rule: EdgeRule, rows: Tensor, speaker: Tensor) -> Tensor | None:
    """Return, for every edge, the index of its relation among the relations of its rule, `(E,)`; `None` if the rule has one relation."""
    if len(rule.relations) == 1:
        return None
    who = speaker.clamp(max=rule.pairs - 1)
    return who[rows[0]] * rule.pairs + who[rows[1]]


def rules_of(recipe: GraphRecipe) -> dict[str, EdgeRule]:
    """Return a mapping from the name of every relation of a graph recipe to the edge rule that defines it."""
    return {name: rule for rule in recipe.edges for name in rule.relations}
