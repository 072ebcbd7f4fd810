"""Attention fusion: the equations by loop, utterance by utterance and head by head."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from erc_graph.data.batch import Batch
from erc_graph.methods.attention_fusion import AttentionFusion, AttentionFusionConfig
from tests.methods.reference.conftest import SPEAKERS, build, equal, random_batch, stir

pytestmark = pytest.mark.reference


def loop(model: Any, batch: Batch) -> Tensor:
    """Eqs. (1)-(4)."""
    scores, heads = [], model.attend.heads
    for i in range(batch.utterances):
        here = [m for m in model.names if batch.present[m][i]]
        x = {m: model.project[m](batch.features[m][i]) for m in here}
        packed = {m: model.attend.query_key_value(x[m]).view(3, heads, -1) for m in here}
        y = []
        for m in model.names:
            if m not in here:
                y.append(torch.zeros(model.config.width).double())
                continue
            parts = []
            for h in range(heads):
                score = torch.stack([packed[m][0, h] @ packed[n][1, h] / packed[m].shape[-1] ** 0.5 for n in here]).softmax(0)
                parts.append(sum(a * packed[n][2, h] for a, n in zip(score, here, strict=True)))
            y.append(model.norm(x[m] + model.attend.output(torch.cat(parts))))
        u = model.join(torch.cat(y))
        scores.append(model.classify(u if here else torch.zeros_like(u)))
    return torch.stack(scores)


@pytest.mark.parametrize("widths", [{"audio": 3, "text": 5, "visual": 2}, {"audio": 4, "text": 3}, {"text": 4}])
def test_equations_by_loop(widths: dict[str, int]) -> None:
    model = build(AttentionFusion, widths, 3, AttentionFusionConfig(graph="none", width=6, heads=2, dropout=0.0))
    stir(model)
    batch = random_batch(SPEAKERS, widths, classes=3, missing=0.4)
    leaves = [value.requires_grad_() for value in batch.features.values()]
    equal(model(batch).scores, loop(model, batch), model, *leaves)
    assert model.utterance_level
