"""After FmlMSN: the learners and the meta-learner by loop, with modalities that are missing; and what each stage trains."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from erc_graph.data.batch import Batch
from erc_graph.methods.fmlmsn import FmlMSN, FmlMSNConfig
from tests.methods.reference.conftest import SPEAKERS, build, equal, random_batch, stir

pytestmark = pytest.mark.reference


def vector(net: Any, x: Tensor) -> Tensor:
    """E_m of one utterance, from running figures of the batch norm."""
    x = (x - net.norm.running_mean) / (net.norm.running_var + net.norm.epsilon).sqrt() * net.norm.weight + net.norm.bias
    for linear in net.linear:
        x = (linear.weight @ x + linear.bias).clamp(min=0)
    return x


def loop(model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
    """Scores by Eqs. (1), (2), (4), and the sum of the losses of Eq. (3), utterance by utterance."""
    scores, losses, width = [], torch.zeros(()).double(), model.config.width
    names = tuple(batch.features)
    for i in range(batch.utterances):
        b, flags = [], []
        for pair in list(combinations(names, 2)) or [names]:
            learner = model.learners["_".join(pair)]
            z = {m: vector(learner.subnets[m], batch.features[m][i]) for m in pair if batch.present[m][i]}
            rows = [z[m] for m in pair if m in z]
            rows += [z[pair[0]] * z[pair[1]]] if len(rows) == 2 else []
            flags.append(float(len(z) == len(pair)))
            b.append(learner.join(torch.cat(rows)).clamp(min=0) if flags[-1] else torch.zeros(width).double())
            said = {"pair": b[-1]} if flags[-1] else {}
            for name, states in {**said, **(z if len(pair) > 1 else {})}.items():
                weight = 1.0 if name == "pair" else model.config.mu
                losses = losses + weight * F.cross_entropy(learner.judge[name](states), batch.target[i])
        f = torch.cat([*b, torch.tensor(flags).double()])
        _, first, _, _, second = model.classify.layers
        scores.append(second(first(f if any(bool(here[i]) for here in batch.present.values()) else 0 * f).clamp(min=0)))
    return torch.stack(scores), losses


@pytest.mark.parametrize("widths", [{"audio": 3, "text": 5, "visual": 2}, {"audio": 4, "text": 3}, {"text": 4}])
def test_equations_by_loop(widths: dict[str, int]) -> None:
    model = build(FmlMSN, widths, 3, FmlMSNConfig(graph="none", width=4, hidden=5, mu=0.3))
    stir(model)
    batch = random_batch(SPEAKERS, widths, classes=3, missing=0.3)
    equal(model(batch).scores, loop(model, batch)[0], model)
    found = torch.zeros(()).double()
    for stage in model.stages()[:-1]:
        answer = stage.forward(batch)
        for part, weight in [(answer.scores, 1.0), *((one, answer.auxiliary_weight) for one in answer.auxiliary.values())]:
            said = part.detach().abs().sum(1) > 0  # where there is nothing to say, scores are zero
            silent = torch.autograd.grad(part[~said].sum(), list(model.parameters()), retain_graph=True, allow_unused=True)
            assert not any(gradient is not None and gradient.any() for gradient in silent)
            found = found + weight * F.cross_entropy(part[said], batch.target[said], reduction="sum")
    equal(found[None], loop(model, batch)[1][None], model)
    kept = model.start_stage(len(model.learners), batch)
    assert set(kept.cache) == {"f"} and torch.equal(model(kept).scores, model(batch).scores)
