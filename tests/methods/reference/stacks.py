"""What the parity tests of MulT, TETFN, LGCCT and CORECT share: names of the crossmodal Transformer's parameters, and the same by loop."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


def depth(given: Mapping[str, Tensor], stack: str) -> int:
    """Layers of a stack of the public codes."""
    return sum(name.startswith(f"{stack}.layers.") and name.endswith(".fc1.bias") for name in given)


def stack_names(given: Mapping[str, Tensor], theirs: str, ours: str) -> dict[str, Tensor]:
    """The parameters of a stack of the public codes under our names."""
    names = {f"{ours}.norm": f"{theirs}.layer_norm"}
    found = {}
    for i in range(depth(given, theirs)):
        one, other = f"{ours}.layers.{i}", f"{theirs}.layers.{i}"
        names |= {f"{one}.norm.{k}": f"{other}.layer_norms.{k}" for k in range(2)}
        names |= {f"{one}.feedforward.0": f"{other}.fc1", f"{one}.feedforward.3": f"{other}.fc2"}
        names[f"{one}.attention.output"] = f"{other}.self_attn.out_proj"
        for end in ("weight", "bias"):
            parts = given[f"{other}.self_attn.in_proj_{end}"].chunk(3)
            found |= {f"{one}.attention.{part}.{end}": value for part, value in zip(("query", "key", "value"), parts, strict=True)}
    return found | {f"{mine}.{end}": given[f"{other}.{end}"] for mine, other in names.items() for end in ("weight", "bias")}


def in_gradient(net: Any) -> Tensor:
    """The gradient of a layer's stacked input projection."""
    return torch.cat([getattr(net.attention, part).weight.grad for part in ("query", "key", "value")])


Row = Tensor | None  # a step; `None`: it lacks the modality


def by_loop(net: Any, queries: Sequence[Row], keys: Sequence[Row] | None = None) -> list[Row]:
    """The crossmodal Transformer, one sequence, query and head at a time."""

    def enter(steps: Sequence[Row]) -> list[Row]:
        half, found = net.width // 2, []
        for place, step in enumerate(steps, 1):
            angles = [place * 10000 ** (-i / (half - 1)) for i in range(half)]
            code = torch.tensor(
                [math.sin(a) for a in angles] + [math.cos(a) for a in angles] + [0.0] * (net.width % 2), dtype=torch.float64
            )
            found.append(None if step is None else math.sqrt(net.width) * step + (code if net.positions else 0.0))
        return found

    x, read = enter(queries), None if keys is None else enter(keys)
    for layer in net.layers:
        of, parts = layer.attention, []
        others = [None if one is None else layer.norm[0](one) for one in (x if read is None else read)]
        for i, own in enumerate(x):
            reach = i + abs(len(others) - len(x)) if net.causal else len(others)
            seen = [one for j, one in enumerate(others) if one is not None and j <= reach]
            if own is None:
                parts.append(None)
                continue
            if seen:
                query, heads = of.query(layer.norm[0](own)).chunk(of.heads), []
                for h, mine in enumerate(query):
                    score = torch.stack([mine @ of.key(one).chunk(of.heads)[h] / math.sqrt(len(mine)) for one in seen]).softmax(0)
                    heads.append(sum(weight * of.value(one).chunk(of.heads)[h] for weight, one in zip(score, seen, strict=True)))
                own = own + of.output(torch.cat(heads))
            parts.append(own + layer.feedforward(layer.norm[1](own)))
        x = parts
    return [None if one is None else net.norm(one) for one in x]


def crossed_by_loop(net: Any, steps: Mapping[str, Sequence[Row]]) -> dict[str, list[Row]]:
    """Every modality hears of the others, then of itself."""
    found = {}
    for target, nets in net.cross.items():
        heard = [by_loop(one, steps[target], steps[source]) for source, one in nets.items()] or [list(steps[target])]
        side = [None if row[0] is None else torch.cat([part for part in row if part is not None]) for row in zip(*heard, strict=True)]
        found[target] = by_loop(net.memory[target], side)
    return found


def sequences_of(batch: Any, names: Sequence[str]) -> list[tuple[list[int], dict[str, list[Row]]]]:
    """Utterances with their words and vectors; without any words dialogues with their turns: rows, and modality → steps."""
    if batch.sequences:
        vectors = {m: [[row] * int(here) for row, here in zip(batch.features[m], batch.present[m], strict=True)] for m in batch.features}
        return [([i], {m: vectors[m][i] if m in vectors else list(batch.sequences[m][i]) for m in names}) for i in range(batch.utterances)]
    rows = torch.arange(batch.utterances).split(list(batch.sizes))
    return [(part.tolist(), {m: [batch.features[m][i] if batch.present[m][i] else None for i in part] for m in names}) for part in rows]


def read_by_loop(rows: Sequence[int], steps: Sequence[Row], words: bool, width: int) -> dict[int, Tensor]:
    """Of an utterance its last word, of a turn its own step; zeros where it is missing."""
    nothing = torch.zeros(width, dtype=torch.float64)
    if words:
        return {rows[0]: steps[-1] if steps else nothing}  # type: ignore[dict-item]
    return {row: nothing if one is None else one for row, one in zip(rows, steps, strict=True)}
