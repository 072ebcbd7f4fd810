"""MPFU: the equations by loop, and what the printed loss does. There are no arrays: no public code is known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from erc_graph.data.batch import Batch
from erc_graph.data.ragged import Ragged
from erc_graph.errors import ConfigError
from erc_graph.methods.mpfu import MPFU, MPFUConfig
from tests.methods.reference.conftest import SPEAKERS, batch_of, build, equal, random_batch, stir

pytestmark = pytest.mark.reference


def states(model: Any, batch: Batch, m: str, i: int) -> Tensor | None:
    """z of a modality of an utterance, in evaluation mode; `None` where it is missing."""
    net = model.encoders[m]
    if m in batch.sequences:
        words = batch.sequences[m][i]
        return net.linear(net.lstm(words[None])[0][0, -1]) if len(words) else None
    if not batch.present[m][i]:
        return None
    norm = net.norm
    x = (batch.features[m][i] - norm.running_mean) / (norm.running_var + norm.epsilon).sqrt() * norm.weight + norm.bias
    for linear in net.linear:
        x = (linear.weight @ x + linear.bias).clamp(min=0)
    return x


def loop(model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
    """Eqs. (1)-(4), channel by channel: log-probabilities, and L."""
    names, width, rows = model.names, model.config.width, range(batch.utterances)
    z = [{m: one for m in names if (one := states(model, batch, m, i)) is not None} for i in rows]
    channels = [{m: model.score[m](one).softmax(-1) for m, one in own.items()} for own in z]
    if model.context is not None:
        zero = torch.zeros(width, dtype=torch.float64)
        heard = [[z[i][m] * channels[i][m].detach().max() if m in z[i] else zero for m in names] for i in rows]
        there = torch.tensor([bool(own) for own in z])
        around = model.conversation(torch.stack([torch.cat(one) for one in heard]), there, model.given(batch))
        for i in rows:
            if z[i]:
                channels[i]["context"] = model.context(around[i, len(names) * width :]).softmax(-1)
    scores, total = [], torch.zeros((), dtype=torch.float64)
    for i in rows:
        gamma = model.config.beta / (len(channels[i]) - 1) if len(channels[i]) > 1 else 0.0
        votes = sum(p**gamma * p for p in channels[i].values()) if channels[i] else torch.ones(model.schema.outputs).double()
        scores.append((votes / votes.sum()).log())
        e = int(batch.target[i])
        for m, p in channels[i].items():
            weight = p[e] ** gamma
            if model.config.weight == "others":
                weight = torch.stack([torch.ones_like(p[e]), *((1 - q[e]) ** gamma for o, q in channels[i].items() if o != m)]).prod()
            weight = weight.detach() if model.config.weight == "detached" else weight
            total = total - (weight * p[e].log() if e >= 0 and batch.judged[i] else 0)
    return torch.stack(scores), total / batch.utterances


@pytest.mark.parametrize("weight", ["detached", "attached", "others"])
@pytest.mark.parametrize(
    ("widths", "words", "graph"),
    [({"audio": 3, "text": 5, "visual": 2}, 0, "none"), ({"audio": 4}, 3, "speaker"), ({"text": 4}, 0, "none")],
)
def test_equations_by_loop(widths: dict[str, int], words: int, graph: str, weight: Any) -> None:
    config = MPFUConfig(graph=graph, width=3, beta=1.5, weight=weight, dropout=0.0)
    model = build(MPFU, widths, 3, config, sequences={"text": (words,)} if words else {})
    stir(model)
    if model.context is not None:
        model.state_dict()["context.1.weight"].mul_(0.05)  # at a probability of 1 the loop's power has no slope
    batch = random_batch(SPEAKERS, widths, classes=3)
    if words:
        said = [torch.randn((3 * i) % 5, words, dtype=torch.float64) for i in range(batch.utterances)]
        batch = replace(batch, sequences={"text": Ragged.of(said)})
    batch = replace(batch, target=batch.target.masked_fill(torch.arange(batch.utterances) % 5 == 1, -1), judged=batch.turn != 2)
    equal(model(batch).scores, loop(model, batch)[0], model)
    model.training = True  # its parts stay in evaluation mode
    answer = model(batch)
    equal(answer.penalty, loop(model, batch)[1], model)
    assert not answer.scores.requires_grad


@pytest.mark.parametrize(("sure", "printed"), [(0.25, 0.386), (0.1, 1.303), (0.5, -0.307)])
def test_the_printed_loss_trains_against_the_label_of_an_unsure_channel(sure: float, printed: float) -> None:
    """Slope of one of two channels, beta 1; no other weight pushes the true class down."""
    batch, found = batch_of([torch.tensor([0])], [torch.tensor([0])], audio=torch.zeros(1, 2), text=torch.zeros(1, 3)), {}
    for weight in ("attached", "detached", "others"):
        model = build(MPFU, {"audio": 2, "text": 3}, 2, MPFUConfig(graph="none", width=2, weight=weight))
        p = torch.tensor([[[sure, 1 - sure], [0.5, 0.5]]], dtype=torch.float64, requires_grad=True)
        model.channels = lambda _, p=p: (p.log(), torch.tensor([[True, True]]), p)
        (slope,) = torch.autograd.grad(model.answer(model.train().given(batch)).penalty, p)
        found[weight] = float(slope[0, 0, 0])
    assert found["attached"] == pytest.approx(printed, abs=1e-3)
    assert found["detached"] == pytest.approx(-1.0) and found["others"] < 0


def test_a_score_is_refused() -> None:
    with pytest.raises(
        ConfigError, match="task: expected a task with classes, because MPFU multiplies class probabilities, found a task with a score"
    ):
        build(MPFU, {"text": 3}, 0, MPFUConfig(graph="none"))
