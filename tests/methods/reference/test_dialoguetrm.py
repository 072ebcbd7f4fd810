"""After DialogueTRM: there are no arrays; the equations by loop, with modalities that are missing."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest
import torch
from torch import Tensor

from erc_graph.data.batch import Batch
from erc_graph.encoders.positions import sines
from erc_graph.methods.dialoguetrm import DialogueTRM, DialogueTRMConfig
from tests.methods.reference.conftest import SPEAKERS, build, equal, random_batch, stir

pytestmark = pytest.mark.reference


def attended(part: Any, query: Tensor, asked: list[Tensor]) -> Tensor:
    """Multi-head attention from one vector to others; the three maps lie in one."""
    q, *_ = part.query_key_value(query).chunk(3)
    keys, values = ([part.query_key_value(one).chunk(3)[k] for one in asked] for k in (1, 2))
    heads = []
    for h, one in enumerate(q.chunk(part.heads)):
        score = torch.stack([one @ key.chunk(part.heads)[h] for key in keys]) / len(one) ** 0.5
        heads.append(sum(w * value.chunk(part.heads)[h] for w, value in zip(score.softmax(0), values, strict=True)))
    return part.output(torch.cat(heads))


def over_turns(net: Any, x: list[Tensor], there: list[bool]) -> list[Tensor]:
    """A Transformer over the turns of a dialogue."""
    for k, (attend, inner) in enumerate(zip(net.attention, net.feedforward, strict=True)):
        x = [one if here else torch.zeros_like(one) for one, here in zip(x, there, strict=True)]
        heard = [attended(attend, one, x[: i + 1] if attend.causal else x) for i, one in enumerate(x)]
        x = [net.norm[2 * k](one + other) for one, other in zip(x, heard, strict=True)]
        x = [net.norm[2 * k + 1](one + inner(one)) for one in x]
    return x


def within(net: Any, items: list[Tensor]) -> list[Tensor]:
    """A Transformer over the items of a turn."""
    for layer in net:
        items = [layer.norm[0](one + attended(layer.attention, one, items)) for one in items]
        items = [layer.norm[1](one + layer.feedforward(one)) for one in items]
    return items


def loop(model: Any, batch: Batch) -> Tensor:
    """Eqs. (1)-(5), dialogue by dialogue and turn by turn."""
    scores, width = [], model.config.width
    for start, end in zip(batch.ptr.tolist(), batch.ptr.tolist()[1:], strict=False):
        h: dict[str, list[Tensor]] = {}
        for m in model.names:
            x, there = [model.project[m](row) for row in batch.features[m][start:end]], batch.present[m][start:end].tolist()
            if m in model.config.sequential:
                places = sines(torch.arange(len(x)), torch.zeros(1, width, dtype=torch.float64))
                h[m] = over_turns(model.context[m][1], [one + place for one, place in zip(x, places, strict=True)], there)
            else:
                h[m] = [within(model.context[m][0].layers, [one])[0] for one in x]
        for i in range(end - start):
            here = {m: bool(batch.present[m][start + i]) for m in model.names}
            parts: dict[str, Tensor] = {m: h[m][i] for m in model.names if here[m]}
            if model.weigh is not None:
                parts = {}
                for m, n in combinations(model.names, 2):
                    gate = model.pairs[f"{m}_{n}"]
                    one, other = gate.first(h[m][i]).tanh(), gate.second(h[n][i]).tanh()
                    z = gate.gate(torch.cat([h[m][i], h[n][i]])).sigmoid()
                    if here[m] or here[n]:
                        parts[f"{m}_{n}"] = z * one + (1 - z) * other if here[m] and here[n] else one if here[m] else other
                parts = dict(zip(parts, within([model.weigh], list(parts.values())), strict=True))
            zero = torch.zeros(width, dtype=torch.float64)
            read = [parts.get(name, zero) for name in (model.pairs if model.weigh is not None else model.names)]
            scores.append(model.classify(torch.cat(read)))
    return torch.stack(scores)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("widths", [{"audio": 3, "text": 5, "visual": 2}, {"audio": 3, "text": 4}, {"text": 3}, {"audio": 3}])
def test_equations_by_loop(widths: dict[str, int], causal: bool) -> None:
    model = build(DialogueTRM, widths, 3, DialogueTRMConfig(width=4, layers=2, heads=2, feedforward=5, causal=causal))
    stir(model)
    batch = random_batch(SPEAKERS, widths, classes=3, missing=0.3)
    leaves = [value.requires_grad_() for value in batch.features.values()]
    equal(model(batch).scores, loop(model, batch), model, *leaves)
