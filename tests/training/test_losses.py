from __future__ import annotations

import math

import pytest
import torch

from erc_graph.training.config import TrainingConfig
from erc_graph.training.losses import Criterion, absolute_error, class_weights, counted, cross_entropy, focal, legacy_focal


@pytest.fixture
def scores():
    return torch.randn(12, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture
def target():
    return torch.tensor([0, 1, 2, -1, 0, 0, 0, 1, 2, 2, -1, 0])


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_against_loops(scores, target, gamma, smoothing):
    weight = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    expected = []
    for row, right in zip(scores.tolist(), target.tolist(), strict=True):
        norm = math.log(sum(math.exp(value) for value in row))
        log_p = [value - norm for value in row]
        if right < 0:
            expected.append(0.0)
            continue
        loss = 0.0
        for c in range(3):
            share = (1 - smoothing if c == right else 0.0) + smoothing / 3
            loss -= share * float(weight[c]) * log_p[c]
        expected.append((1 - math.exp(log_p[right])) ** gamma * loss)
    assert focal(scores, target, gamma, weight, smoothing).tolist() == pytest.approx(expected)
    if gamma == 0:
        assert cross_entropy(scores, target, weight, smoothing).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
def test_focal_falls_as_the_right_class_gets_certain(gamma):
    p = torch.linspace(0.001, 0.999, 200, dtype=torch.float64)
    scores = torch.stack([p.log(), (1 - p).log()], -1)
    loss = focal(scores, torch.zeros(200, dtype=torch.long), gamma)
    assert (loss.diff() < 0).all()
    assert loss[-1] < 0.002


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_gradient_is_finite_where_the_right_class_is_certain(gamma):
    scores = torch.tensor([[200.0, 0.0], [-200.0, 0.0], [0.0, 0.0]], requires_grad=True)
    focal(scores, torch.zeros(3, dtype=torch.long), gamma).sum().backward()
    assert scores.grad is not None and scores.grad.isfinite().all()


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.5])
def test_legacy_focal_against_loops(scores, target, gamma):
    expected = []
    for row, right in zip(scores.log_softmax(-1).tolist(), target.tolist(), strict=True):
        expected.append(0.0 if right < 0 else -sum((1 - (c == right) * lp) ** gamma * lp for c, lp in enumerate(row)) / 3)
    assert legacy_focal(scores, target, gamma).tolist() == pytest.approx(expected)


def test_legacy_focal_rises_as_the_right_class_gets_certain():
    p = torch.tensor([0.6, 0.9, 0.99, 0.999], dtype=torch.float64)
    rest = ((1 - p) / 6)[:, None].expand(-1, 6)
    loss = legacy_focal(torch.cat([p[:, None], rest], 1).log(), torch.zeros(4, dtype=torch.long), 2.5)
    assert loss.tolist() == pytest.approx([2.53, 3.53, 5.48, 7.46], abs=0.01)


def test_class_weights():
    target = torch.tensor([0] * 6 + [1] * 3 + [2])
    assert class_weights(target, 3, "none") is None
    for kind, power in (("balanced", 1.0), ("sqrt", 0.5)):
        raw = [(1 / count) ** power for count in (6, 3, 1)]
        scale = 10 / sum(w * count for w, count in zip(raw, (6, 3, 1), strict=True))
        weight = class_weights(target, 4, kind)
        assert weight.tolist() == pytest.approx([*(scale * w for w in raw), 1.0])  # the fourth class does not occur
        assert weight[target].mean() == pytest.approx(1.0)


def test_absolute_error():
    error = absolute_error(torch.tensor([[1.0], [2.0], [-1.0]]), torch.tensor([0.5, float("nan"), 1.0]))
    assert error.tolist() == [0.5, 0.0, 2.0]


def test_criterion_with_legacy_focal(train, task):
    criterion = Criterion(task, TrainingConfig(loss="legacy_focal", focal_gamma=2.5), train)
    scores = torch.randn(train.utterances, 3, generator=torch.Generator().manual_seed(0))
    rows = counted(train, task)
    assert float(criterion(scores, train)) == pytest.approx(float(legacy_focal(scores[rows], train.target[rows], 2.5).sum()), rel=1e-5)


@pytest.mark.parametrize("loss", ["cross_entropy", "focal"])
def test_criterion_counts_judged_rows_with_a_target(train, task, loss):
    config = TrainingConfig(loss=loss, class_weights="balanced", focal_gamma=2.0)
    criterion = Criterion(task, config, train)
    scores = torch.randn(train.utterances, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    rows = [i for i in range(train.utterances) if train.judged[i] and train.target[i] >= 0]
    assert counted(train, task).nonzero().squeeze(-1).tolist() == rows
    count = [sum(int(train.target[i]) == c for i in rows) for c in range(3)]
    log_p = scores.detach().log_softmax(-1)
    expected = 0.0
    for i in rows:
        right = int(train.target[i])
        lp = float(log_p[i, right])
        expected -= len(rows) / (3 * count[right]) * lp * ((1 - math.exp(lp)) ** 2 if loss == "focal" else 1)
    value = criterion(scores, train)
    assert float(value.detach()) == pytest.approx(expected, rel=1e-5)
    value.backward()
    assert scores.grad is not None
    assert (scores.grad.abs().sum(-1) > 0).nonzero().squeeze(-1).tolist() == rows


def test_criterion_of_scores(batches, score_task):
    batch = batches(10, 4, score=True)
    criterion = Criterion(score_task, TrainingConfig(class_weights="balanced"), batch)
    scores = torch.ones(batch.utterances, 1)
    expected = sum(
        abs(1 - float(batch.target[i])) for i in range(batch.utterances) if batch.judged[i] and not math.isnan(float(batch.target[i]))
    )
    assert float(criterion(scores, batch)) == pytest.approx(expected, rel=1e-5)
