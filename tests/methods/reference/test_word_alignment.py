"""Word alignment: the equations and losses by loop, with sequences and vectors, words and sounds that are missing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from erc_graph.data.batch import Batch
from erc_graph.data.ragged import Ragged
from erc_graph.methods.word_alignment import WordAlignment, WordAlignmentConfig
from tests.methods.reference.conftest import SPEAKERS, build, equal, random_batch, stir

pytestmark = pytest.mark.reference


def pool(model: Any, name: str, states: Tensor) -> Tensor:
    shares = torch.stack([model.pool[name].score(state) for state in states]).softmax(0)
    return (shares * states).sum(0)


def refine(part: Any, own: Tensor, other: Tensor) -> Tensor:
    gate = (part.gate.weight @ torch.cat([own, other]) + part.gate.bias).sigmoid()
    return part.norm(own + gate * part.message(other))


def loop(model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
    """Eqs. (1)-(5), utterance by utterance and word by word: scores, and the penalty."""
    scores, penalty, width = [], torch.zeros(()).double(), model.config.width
    for i in range(batch.utterances):
        h: dict[str, Tensor] = {}
        for m in model.names:
            if m in batch.sequences:
                front = model.front[m].project
                items = batch.sequences[m][i]
            else:
                front, items = model.project[m], batch.features[m][i : i + 1] if batch.present[m][i] else batch.features[m][:0]
            if len(items):
                h[m] = model.read[m](front(items)[None])[0][0]
        pooled = {m: pool(model, m, states) for m, states in h.items()}
        refined = list(h["text"]) if "text" in h else []
        for m in [m for m in model.align if m in h and "text" in h]:
            align, answers = model.align[m], []
            for k, word in enumerate(h["text"]):
                query = align.query(word)
                weight = torch.stack([query @ align.key(frame) / len(query) ** 0.5 for frame in h[m]]).softmax(0)
                aligned = align.output(sum(a * align.value(frame) for a, frame in zip(weight, h[m], strict=True)))
                refined[k] = refine(model.text_gate[m], refined[k], aligned)
                answers.append(refine(model.sound_gate[m], aligned, word))
            pooled[m] = pool(model, m, torch.stack(answers))
            apart = [
                1 - F.cosine_similarity(model.common["text"](a), model.common[m](b), dim=0) for a, b in zip(refined, answers, strict=True)
            ]
            penalty = penalty + model.config.temporal * sum(apart) / len(apart)
        if "text" in h and model.align:  # through the norm once for every modality, heard or not
            pooled["text"] = pool(model, "text", torch.stack(refined))
        u = torch.cat([pooled.get(m, torch.zeros(width).double()) for m in model.names])
        scores.append(model.classify(u))
        for m in [m for m in model.align if m in h and "text" in h]:
            p, q = (model.own[name](pooled[name]).softmax(-1) for name in ("text", m))
            penalty = penalty + model.config.semantic * ((p * (p / q).log()).sum() + (q * (q / p).log()).sum())
    return torch.stack(scores), penalty / batch.utterances


@pytest.mark.parametrize(
    ("widths", "items"),
    [({}, {"audio": 3, "text": 4}), ({"visual": 2}, {"audio": 3, "text": 4}), ({"audio": 3, "text": 5}, {}), ({"audio": 3}, {})],
)
def test_equations_by_loop(widths: dict[str, int], items: dict[str, int]) -> None:
    config = WordAlignmentConfig(graph="none", width=4, dropout=0.0)
    model = build(WordAlignment, widths, 3, config, sequences={name: (width,) for name, width in items.items()})
    stir(model)
    for front in model.front.values():
        front.mean.zero_()
        front.deviation.fill_(1.0)
    batch = random_batch(SPEAKERS, widths or {"audio": 1}, classes=3, missing=0.3)
    lengths = {name: [(k * i + k) % 4 for i in range(batch.utterances)] for k, name in enumerate(items, 2)}
    batch = replace(batch, sequences={m: Ragged.of([torch.randn(n, items[m]).double() for n in lengths[m]]) for m in items})
    prediction = model.train()(batch)
    scores, penalty = loop(model, batch)
    equal(torch.cat([prediction.scores.flatten(), prediction.penalty[None]]), torch.cat([scores.flatten(), penalty[None]]), model)
