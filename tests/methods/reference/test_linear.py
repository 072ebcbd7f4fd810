"""The linear layer: the equation by loop, utterance by utterance; nothing depends on other turns."""

from __future__ import annotations

import pytest
import torch

from erc_graph.methods.linear import Linear, LinearConfig
from tests.methods.reference.conftest import SPEAKERS, build, equal, random_batch, stir

pytestmark = pytest.mark.reference


@pytest.mark.parametrize("widths", [{"audio": 3, "text": 5, "visual": 2}, {"text": 4}])
def test_equation_by_loop(widths: dict[str, int]) -> None:
    model = build(Linear, widths, 3, LinearConfig(dropout=0.0))
    stir(model)
    batch = random_batch(SPEAKERS, widths, classes=3, missing=0.4)
    leaves = [value.requires_grad_() for value in batch.features.values()]
    weight, bias = dict(model.named_parameters())["classify.1.weight"], dict(model.named_parameters())["classify.1.bias"]
    rows = []
    for i in range(batch.utterances):
        given = [batch.features[m][i] if batch.present[m][i] else torch.zeros(widths[m]).double() for m in widths]
        rows.append(bias + torch.stack([weight[c] @ torch.cat(given) for c in range(3)]))
    equal(model(batch).scores, torch.stack(rows), model, *leaves)
    assert model.utterance_level and model.causal
