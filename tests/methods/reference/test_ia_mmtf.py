"""IA-MMTF: the equations by loop, with items and modalities that are missing. There are no arrays: no public code is known."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from erc_graph.data.batch import Batch
from erc_graph.data.ragged import Ragged
from erc_graph.methods.ia_mmtf import IAMMTF, IAMMTFConfig
from tests.methods.reference.conftest import SPEAKERS, build, equal, random_batch, stir

pytestmark = pytest.mark.reference


def heard(attend: Any, asking: Tensor, asked: Tensor) -> Tensor:
    """`(L, width)`, head by head and item by item."""
    query, key, value = attend.query(asking), attend.key(asked), attend.value(asked)
    parts = []
    for q, k, v in zip(*(one.chunk(attend.heads, -1) for one in (query, key, value)), strict=True):
        parts.append(torch.stack([(k @ one / len(one) ** 0.5).softmax(0) @ v for one in q]))
    return attend.output(torch.cat(parts, -1))


def loop(model: Any, batch: Batch) -> Tensor:
    """Eqs. (1)-(6), utterance by utterance."""
    width, rows = model.config.width, []
    for i in range(batch.utterances):
        h = {}
        for m in model.names:
            if m in batch.sequences:
                front = model.items.fronts[m]
                x = front.project((batch.sequences[m][i] - front.mean) / front.deviation)
            else:
                x = model.items.vectors[m](batch.features[m][i : i + 1])[: int(batch.present[m][i])]
            if len(x):
                angle = [[t / 10000 ** ((k - k % 2) / width) for k in range(width)] for t in range(len(x))]
                pe = [[math.cos(a) if k % 2 else math.sin(a) for k, a in enumerate(row)] for row in angle]
                h[m] = model.project[m](model.recur[m].lstm(x[None])[0][0]) + torch.tensor(pe, dtype=torch.float64)
        for layer in model.layers:
            normed, new = {m: layer.first[m](one) for m, one in h.items()}, {}
            for m in h:
                z = h[m] + sum(heard(layer.exchange.attend[m][o], normed[m], normed[o]) for o in h if o != m)
                new[m] = z + layer.feedforward[m](layer.second[m](z))
            h = new
        v = {m: torch.zeros(width, dtype=torch.float64) for m in model.names}
        for m, one in h.items():
            _, tanh, u = pool = model.pool[m].score
            v[m] = torch.cat([u(tanh(pool[0](item))) for item in one]).softmax(0) @ one
        logit = model.weigh.score(torch.cat(list(v.values()))) if model.weigh else torch.zeros(1)
        total = sum(logit[k].exp() for k, m in enumerate(model.names) if m in h)
        rows.append(torch.cat([v[m] * (logit[k].exp() / total if m in h else 0) for k, m in enumerate(model.names)]))
    return model.classify(torch.stack(rows))


@pytest.mark.parametrize(
    ("vectors", "sequences"),
    [({}, {"audio": 3, "text": 5}), ({"audio": 4}, {"text": 6, "visual": 3}), ({"text": 4, "audio": 2}, {}), ({}, {"audio": 4})],
)
def test_equations_by_loop(vectors: dict[str, int], sequences: dict[str, int]) -> None:
    config = IAMMTFConfig(graph="none", width=4, layers=2, heads=2, feedforward=5)
    model = build(IAMMTF, vectors, 3, config, sequences={m: (width,) for m, width in sequences.items()})
    stir(model)
    for front in model.items.fronts.values():
        front.deviation.abs_()
    batch, items = random_batch(SPEAKERS, vectors, classes=3), {}
    for k, (m, width) in enumerate(sequences.items()):
        items[m] = Ragged.of([torch.randn(((2 + k) * i + k) % 4, width).double() for i in range(batch.utterances)])
    batch = replace(batch, sequences=items)
    equal(model(batch).scores, loop(model, batch), model)


def test_what_is_left_has_the_whole_weight() -> None:
    model = build(IAMMTF, {"audio": 3, "text": 5}, 3, IAMMTFConfig(graph="none", width=4, layers=1, heads=2))
    stir(model)
    batch = random_batch(SPEAKERS, {"audio": 3, "text": 5}, classes=3, missing=0.4)
    trust, audio, text = model.trust(batch), batch.present["audio"], batch.present["text"]
    assert (trust["audio"][audio & ~text] == 1).all() and (trust["audio"][~audio] == 0).all() and (audio & ~text).any()
    both = trust["audio"][audio & text]
    assert ((both > 0) & (both < 1)).all()
    torch.testing.assert_close(both + trust["text"][audio & text], torch.ones_like(both))
