"""After BIMHA: the equations by loop, with vectors and words that are missing."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from math import sqrt
from typing import Any

import pytest
import torch
from torch import Tensor

from erc_graph.data.batch import Batch
from erc_graph.data.ragged import Ragged
from erc_graph.methods.bimha import BIMHA, BIMHAConfig
from tests.methods.reference.conftest import SPEAKERS, build, equal, random_batch, stir

pytestmark = pytest.mark.reference


def vectors(model: Any, batch: Batch, i: int) -> dict[str, Tensor]:
    """`Z_m` of what utterance `i` has, from running figures of the batch norm and word by word."""
    z = {}
    for m, values in batch.features.items():
        net = model.subnets[m]
        x = (values[i] - net.norm.running_mean) / (net.norm.running_var + net.norm.epsilon).sqrt() * net.norm.weight + net.norm.bias
        for linear in net.linear:
            x = (linear.weight @ x + linear.bias).clamp(min=0)
        if batch.present[m][i]:
            z[m] = x
    for m, words in batch.sequences.items():
        state = None
        for word in words[i]:
            _, state = model.subnets[m].lstm(word[None, None], state)
        if state:
            z[m] = model.subnets[m].linear(state[0].flatten())
    return z


def attended(model: Any, rows: list[Tensor]) -> list[Tensor]:
    """Eq. (4) without the residual, head by head."""
    heads, size = model.attend.heads, model.attend.head_width
    found = []
    for asked in rows:
        parts = []
        for head in range(heads):
            (q, _, _), *others = [model.attend.query_key_value(row).view(3, heads, size)[:, head].unbind() for row in (asked, *rows)]
            share = torch.stack([q @ key / sqrt(size) for _, key, _ in others]).softmax(0)
            assert abs(float(share.detach().sum()) - 1) < 1e-12
            parts.append(sum(a * value for a, (_, _, value) in zip(share, others, strict=True)))
        found.append(model.attend.output(torch.cat(parts)))
    return found


def loop(model: Any, batch: Batch) -> Tensor:
    """Eqs. (1)-(5), utterance by utterance and pair by pair; a pair that is not there is nowhere."""
    scores, width = [], model.config.width
    for i in range(batch.utterances):
        z, rows = vectors(model, batch, i), {}
        for m, n in list(combinations(model.names, 2)) or [(model.names[0], model.names[0])]:
            left = {m, n} & z.keys()
            if m != n and len(left) == 2:
                rows[m, n] = model.pairs[f"{m}_{n}"](torch.stack([a * b for a in z[m] for b in z[n]]))
            elif left and len(z) == 1:
                rows[m, n] = model.own(*z.values())
            else:
                rows[m, n] = None
        there = {pair: model.shared(row.clamp(min=0)).clamp(min=0) for pair, row in rows.items() if row is not None}
        mixed = dict(zip(there, attended(model, list(there.values())), strict=True))
        flat = torch.cat([there[pair] + mixed[pair] if pair in there else torch.zeros(width).double() for pair in rows])
        f = model.after[3](model.after[1](flat).clamp(min=0)).clamp(min=0)
        scores.append(model.classify(f if z else torch.zeros_like(f)))
    return torch.stack(scores)


@pytest.mark.parametrize(
    ("widths", "words"), [({"audio": 3, "text": 5, "visual": 2}, 0), ({"audio": 4, "visual": 2}, 3), ({"audio": 4}, 3), ({"audio": 4}, 0)]
)
def test_equations_by_loop(widths: dict[str, int], words: int) -> None:
    config = BIMHAConfig(graph="none", inner_width=3, width=6, words=4, heads=2, hidden=5)
    model = build(BIMHA, widths, 3, config, sequences={"text": (words,)} if words else {})
    stir(model)
    batch = random_batch(SPEAKERS, widths, classes=3, missing=0.4)
    for k, m in enumerate(widths):  # each is alone somewhere, words in the second turn
        for other, here in batch.present.items():
            here[5 * k], here[1] = other == m, False
    if words:
        sequences = Ragged.of([torch.randn((3 * i) % 5, words, dtype=torch.float64) for i in range(batch.utterances)])
        batch = replace(batch, sequences={"text": sequences})
    leaves = [value.requires_grad_() for value in batch.features.values()]
    equal(model(batch).scores, loop(model, batch), model, *leaves)
