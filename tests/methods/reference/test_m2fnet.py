"""M2FNet has no public code: its equations by loop, with modalities that are missing and dialogues of one turn."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from erc_graph.data.batch import Batch
from erc_graph.methods.m2fnet import M2FNet, M2FNetConfig
from tests.methods.reference.conftest import SPEAKERS, build, equal, random_batch, stir

pytestmark = pytest.mark.reference


def heard(query: Tensor, keys: list[Tensor], values: list[Tensor], heads: int) -> Tensor:
    """Scaled dot-product attention of one query, head by head."""
    parts = []
    for h, own in enumerate(query.chunk(heads)):
        score = torch.stack([own @ key.chunk(heads)[h] / len(own) ** 0.5 for key in keys]).softmax(0)
        parts.append(sum(weight * value.chunk(heads)[h] for weight, value in zip(score, values, strict=True)))
    return torch.cat(parts)  # type: ignore[arg-type]


def encoded(encoder: Any, rows: list[Tensor], causal: bool) -> list[Tensor]:
    """A post-norm layer over the turns of one dialogue; what is missing is zero."""
    (attention,), (feedforward,), (first, second) = encoder.attention, encoder.feedforward, encoder.norm
    parts, found = [attention.query_key_value(row).chunk(3) for row in rows], []
    for i, row in enumerate(rows):
        seen = parts[: i + 1] if causal else parts
        asked = heard(parts[i][0], [key for _, key, _ in seen], [value for _, _, value in seen], attention.heads)
        state = first(row + attention.output(asked))
        found.append(second(state + feedforward(state)))
    return found


def loop(model: Any, batch: Batch) -> Tensor:
    """Eqs. (1)-(5), dialogue by dialogue and turn by turn."""
    start, scores, causal = 0, [], model.config.causal
    for size in batch.sizes:
        turns, x, here = range(size), {}, {}
        for m in model.names:
            here[m] = [bool(batch.present[m][start + i]) for i in turns]
            x[m] = [model.project[m](batch.features[m][start + i]) * here[m][i] for i in turns]
            for encoder in model.encoders[m]:
                more = encoded(encoder, x[m], causal)
                x[m] = [(x[m][i] + more[i]) * here[m][i] for i in turns]
        text, *others = model.names
        f = x[text]
        for layer in range(len(model.fuse.connect) if others else 0):
            fused = []
            for i in turns:
                parts = []
                for m in others:
                    ask = model.fuse.attention[layer][m]
                    seen = [j for j in turns if here[m][j] and here[text][j] and (j <= i or not causal)]
                    keys, values = [ask.key(x[m][j]) for j in seen], [ask.value(f[j]) for j in seen]
                    parts.append(ask.output(heard(ask.query(f[i]), keys, values, ask.heads)) if seen else torch.zeros_like(f[i]))
                fused.append(model.fuse.connect[layer](torch.cat([*parts, f[i]])).relu())
            f = fused
        scores += [model.classify(torch.cat([f[i], *(x[m][i] for m in others)])) for i in turns]
        start += size
    return torch.stack(scores)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("widths", [{"audio": 3, "text": 5, "visual": 2}, {"audio": 4, "visual": 3}, {"text": 4}])
def test_equations_by_loop(widths: dict[str, int], causal: bool) -> None:
    config = M2FNetConfig(causal=causal, width=6, heads=2, feedforward=5, encoders=2, layers=2)
    model = build(M2FNet, widths, 3, config)
    stir(model)
    batch = random_batch(SPEAKERS, widths, classes=3, missing=0.3)
    leaves = [value.requires_grad_() for value in batch.features.values()]
    equal(model(batch).scores, loop(model, batch), model, *leaves)
    assert model.causal is causal
