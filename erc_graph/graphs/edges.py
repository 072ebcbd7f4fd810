"""Edges of a recipe by index arithmetic: from lengths and speakers alone, with no loop over utterances or edges.

Rows are packed utterances (`erc_graph.data.batch.Batch`): dialogue `i` is rows `ptr[i]:ptr[i + 1]`. A windowed rule costs time
and memory linear in the turns; only a rule over `all` turns is quadratic, because its edges are.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from erc_graph.data.batch import Batch, ranges
from erc_graph.graphs.recipe import EdgeRule, GraphRecipe

EdgeType = tuple[str, str, str]


def rule_edges(rule: EdgeRule, ptr: Tensor, speaker: Tensor) -> tuple[Tensor, Tensor]:
    """Edges of one rule, as if every stream were present.

    Args:
        rule: The rule.
        ptr: `(D + 1,)` first row of every dialogue, then `N`.
        speaker: `(N,)` speaker within the dialogue.

    Returns:
        Source rows and target rows, `(E,)` int64 each, sorted by target, then by source.

    >>> rule = EdgeRule(relation="context", scope="within", past=1, future=0)
    >>> [rows.tolist() for rows in rule_edges(rule, torch.tensor([0, 3]), torch.tensor([0, 1, 0]))]
    [[0, 0, 1, 1, 2], [0, 1, 1, 2, 2]]
    """
    lengths = ptr.diff()
    row = torch.arange(len(speaker), device=ptr.device)
    start = torch.repeat_interleave(ptr[:-1], lengths, output_size=len(speaker))
    end = torch.repeat_interleave(ptr[1:], lengths, output_size=len(speaker))
    first = start if rule.past is None else torch.maximum(start, row - rule.past)
    last = end if rule.future is None else torch.minimum(end, row + rule.future + 1)
    count = last - first
    source = ranges(first, count)
    target = torch.repeat_interleave(row, count, output_size=len(source))
    keep = None if rule.self_loops else source != target
    if rule.speaker != "any":
        same = speaker[source] == speaker[target]
        chosen = same if rule.speaker == "same" else ~same
        keep = chosen if keep is None else keep & chosen
    return (source, target) if keep is None else (source[keep], target[keep])


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


def graph_edges(recipe: GraphRecipe, ptr: Tensor, speaker: Tensor, present: Mapping[str, Tensor]) -> dict[EdgeType, Tensor]:
    """Edges of every relation between the streams.

    Args:
        recipe: The recipe.
        ptr: `(D + 1,)` first row of every dialogue, then `N`.
        speaker: `(N,)` speaker within the dialogue.
        present: stream → `(N,)` bool; an absent node has no edges.

    Returns:
        `(source stream, relation, target stream)` → `(2, E)` int64 rows, source above target. Every edge type that the recipe
        allows has an entry, if only an empty one.
    """
    full = {name: bool(mask.all()) for name, mask in present.items()}
    edges = {}
    for rule in recipe.edges:
        rows = torch.stack(rule_edges(rule, ptr, speaker))
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
    edges = graph_edges(recipe, batch.ptr, batch.speaker, present)
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
