"""Edges of a recipe by index arithmetic: from lengths and speakers alone, with no loop over utterances or edges.

Rows are packed utterances (`erc_graph.data.batch.Batch`): dialogue `i` is rows `ptr[i]:ptr[i + 1]`. A windowed rule costs time
and memory linear in the turns; only a rule over `all` turns is quadratic, because its edges are.

How many edges there are follows from the lengths by a formula, so that nothing waits for the device; edges are made in int32 where rows and
edges fit into it, and those of the last sets of lengths (and speakers, where a rule asks for them) are kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from itertools import accumulate

import torch
from torch import Tensor

from erc_graph.data.batch import Batch
from erc_graph.graphs.recipe import EdgeRule, GraphRecipe

EdgeType = tuple[str, str, str]
KEPT = 2**21  # edges of a rule above which they are not kept: 16 MiB


def reached(sizes: tuple[int, ...], reach: int | None) -> int:
    """Pairs of a turn and an earlier one at most `reach` turns away, over all dialogues.

    >>> reached((4,), None), reached((4, 2), 1)
    (6, 4)
    """
    total = 0
    for turns in sizes:
        near = turns - 1 if reach is None else min(reach, turns - 1)
        total += near * (near + 1) // 2 + (turns - 1 - near) * near
    return total


def rule_edges(
    rule: EdgeRule, ptr: Tensor, speaker: Tensor, *, sizes: tuple[int, ...] | None = None, dtype: torch.dtype = torch.long
) -> tuple[Tensor, Tensor]:
    """Edges of one rule, as if every stream were present, on the device of `ptr`.

    Args:
        rule: The rule.
        ptr: `(D + 1,)` first row of every dialogue, then `N`.
        speaker: `(N,)` speaker within the dialogue.
        sizes: Utterances per dialogue on the host, where they are known: the device is not asked for them.
        dtype: Of the rows and of their number.

    Returns:
        Source rows and target rows, `(E,)` each, sorted by target, then by source.

    >>> rule = EdgeRule(relation="context", scope="within", past=1, future=0)
    >>> [rows.tolist() for rows in rule_edges(rule, torch.tensor([0, 3]), torch.tensor([0, 1, 0]))]
    [[0, 0, 1, 1, 2], [0, 1, 1, 2, 2]]
    """
    sizes = tuple(ptr.diff().tolist()) if sizes is None else sizes
    ptr, turns = ptr.to(dtype), sum(sizes)
    dialogue = torch.repeat_interleave(ptr.diff(), output_size=turns)
    row = torch.arange(turns, device=ptr.device, dtype=dtype)
    start, end = ptr[:-1].index_select(0, dialogue), ptr[1:].index_select(0, dialogue)
    first = start if rule.past is None else torch.maximum(start, row - rule.past)
    last = end if rule.future is None else torch.minimum(end, row + rule.future + 1)
    count = last - first
    total = turns + reached(sizes, rule.past) + reached(sizes, rule.future)
    target = torch.repeat_interleave(count, output_size=total)
    before = (first - count.cumsum(0, dtype=dtype)).add_(count)  # the first source of a row, less the edges in front of it
    source = torch.arange(total, device=ptr.device, dtype=dtype).add_(before.index_select(0, target))
    keep = None if rule.self_loops else source != target
    if rule.speaker != "any":
        same = speaker[source] == speaker[target]
        chosen = same if rule.speaker == "same" else ~same
        keep = chosen if keep is None else keep & chosen
    return (source, target) if keep is None else (source[keep], target[keep])


def rule_rows(rule: EdgeRule, ptr: Tensor, speaker: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """`rule_edges` as `(2, E)`, source above target: int32 where it fits, kept for the last sets of lengths. Not to be written to."""
    total = sum(sizes) + reached(sizes, rule.past) + reached(sizes, rule.future)
    dtype = torch.int32 if total < 2**30 else torch.long  # a reach of up to a milliard is added to rows
    if total > KEPT:
        return torch.stack(rule_edges(rule, ptr, speaker, sizes=sizes, dtype=dtype))
    who = () if rule.speaker == "any" else (speaker.long().cpu().numpy().tobytes(),)
    return _kept(rule, sizes, who, dtype, ptr.device)


def forget() -> None:
    """Let go of all edges that are kept, for instance to measure."""
    _kept.cache_clear()


@lru_cache(maxsize=16)
def _kept(rule: EdgeRule, sizes: tuple[int, ...], who: tuple[bytes, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    ptr = torch.tensor([0, *accumulate(sizes)]).to(device, non_blocking=True)
    speaker = torch.frombuffer(bytearray(b"".join(who)), dtype=torch.long).to(device) if who and who[0] else ptr[:0]
    return torch.stack(rule_edges(rule, ptr, speaker, sizes=sizes, dtype=dtype))


def rule_mask(rule: EdgeRule, lengths: Tensor, speaker: Tensor, longest: int) -> Tensor:
    """The same edges in padded form, for batched products.

    Args:
        rule: The rule.
        lengths: `(D,)` utterances per dialogue.
        speaker: `(D, L)` speaker within the dialogue, anything where there is no turn.
        longest: `L`.

    Returns:
        `(D, L, L)` bool, `[dialogue, target turn, source turn]`.
    """
    turn = torch.arange(longest, device=lengths.device)
    behind = turn[:, None] - turn  # (targets, sources): how many turns the source lies before the target
    near = torch.ones_like(behind, dtype=torch.bool) if rule.past is None else behind <= rule.past
    near = near if rule.future is None else near & (behind >= -rule.future)
    near = near if rule.self_loops else near & (behind != 0)
    real = turn < lengths[:, None]
    mask = near & real[:, :, None] & real[:, None, :]
    if rule.speaker == "any":
        return mask
    same = speaker[:, :, None] == speaker[:, None, :]
    return mask & (same if rule.speaker == "same" else ~same)


def graph_edges(
    recipe: GraphRecipe,
    ptr: Tensor,
    speaker: Tensor,
    present: Mapping[str, Tensor],
    *,
    sizes: tuple[int, ...] | None = None,
    dtype: torch.dtype | None = torch.long,
) -> dict[EdgeType, Tensor]:
    """Edges of every relation between the streams; relations of one rule share their rows where nothing is missing.

    Args:
        recipe: The recipe.
        ptr: `(D + 1,)` first row of every dialogue, then `N`.
        speaker: `(N,)` speaker within the dialogue.
        present: stream → `(N,)` bool; an absent node has no edges.
        sizes: Utterances per dialogue on the host, where they are known.
        dtype: Of the rows; PyTorch Geometric wants int64. `None`: int32 where it fits, and what is kept is handed out as it is: not to be
            written to.

    Returns:
        `(source stream, relation, target stream)` → `(2, E)` rows, source above target. Every edge type that the recipe
        allows has an entry, if only an empty one.
    """
    sizes = tuple(ptr.diff().tolist()) if sizes is None else sizes
    full = {name: bool(mask.all()) for name, mask in present.items()}
    edges = {}
    for rule in recipe.edges:
        rows = rule_rows(rule, ptr, speaker, sizes)
        rows = rows if dtype is None else rows.to(dtype)
        for m in present:
            for n in present:
                if (m == n) != (rule.scope == "within"):
                    continue
                keep = None if full[m] and full[n] else present[m][rows[0]] & present[n][rows[1]]
                edges[m, rule.relation, n] = rows if keep is None else rows[:, keep]
    return edges


def merged_edges(recipe: GraphRecipe, batch: Batch, present: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """All relations in one adjacency over `S * N` nodes; node `stream * N + row`, streams in the order of `present`.

    Where two relations join the same two nodes, both edges are there: the adjacency is the sum of the relations.

    Returns:
        `(2, E)` int64 source above target, `(E,)` float32 scale γ, `(E,)` bool angular weight (else unit).
    """
    rules = {rule.relation: rule for rule in recipe.edges}
    base = {name: i * batch.utterances for i, name in enumerate(present)}
    index, scale, is_angular = [torch.empty(2, 0, dtype=torch.long, device=batch.device)], [], []
    edges = graph_edges(recipe, batch.ptr, batch.speaker, present, sizes=batch.sizes)
    for (m, relation, n), rows in edges.items():
        index.append(rows + rows.new_tensor([[base[m]], [base[n]]]))
        scale.append(rules[relation].scale)
        is_angular.append(rules[relation].weight == "angular")
    count = torch.tensor([rows.shape[1] for rows in edges.values()], dtype=torch.long, device=batch.device)
    per_edge = torch.repeat_interleave(torch.arange(len(edges), device=batch.device), count)
    return (
        torch.cat(index, 1),
        torch.tensor(scale, device=batch.device, dtype=torch.float32)[per_edge],
        torch.tensor(is_angular, device=batch.device, dtype=torch.bool)[per_edge],
    )
