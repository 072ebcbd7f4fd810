from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch
from torch import nn

from erc_graph.errors import ConfigError, CorpusError
from erc_graph.methods.stage import infer
from erc_graph.training.metrics import METRICS, calibration_error, confusion, evaluate, majority, predict


def logits(*classes):
    return 5.0 * nn.functional.one_hot(torch.tensor(classes), 3).float()


def test_classification_by_hand(task):
    #       right: sad 2 of 3, angry 1 of 2, happy 0 of 1; the last has no target
    target = torch.tensor([0, 0, 0, 1, 1, 2, -1])
    scores = logits(0, 0, 1, 1, 0, 0, 2)
    figures = evaluate(scores, target, task)
    f1 = {"sad": 2 * 2 / (2 * 2 + 2 + 1), "angry": 2 * 1 / (2 * 1 + 1 + 1), "happy": 0.0}
    assert figures["accuracy"] == figures["weighted_accuracy"] == pytest.approx(3 / 6)
    assert figures["unweighted_accuracy"] == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    assert {name: figures[f"f1/{name}"] for name in f1} == pytest.approx(f1)
    assert figures["weighted_f1"] == pytest.approx((3 * f1["sad"] + 2 * f1["angry"]) / 6)
    assert figures["macro_f1"] == pytest.approx(sum(f1.values()) / 3)
    p = math.exp(5) / (math.exp(5) + 2)
    assert figures["calibration_error"] == pytest.approx(abs(p - 3 / 6), abs=1e-6)
    assert figures["loss"] == pytest.approx(-(3 * math.log(p) + 3 * math.log((1 - p) / 2)) / 6, rel=1e-5)
    assert set(METRICS["classification"]) | {f"f1/{name}" for name in f1} == set(figures)


def test_a_class_that_does_not_occur_has_no_vote(task):
    figures = evaluate(logits(0, 1, 1), torch.tensor([0, 1, 1]), task)
    assert figures["macro_f1"] == figures["unweighted_accuracy"] == 1.0
    assert figures["f1/happy"] == 0.0
    assert evaluate(logits(0, 1, 2), torch.tensor([0, 1, 1]), task)["macro_f1"] == pytest.approx((1 + 2 / 3 + 0) / 3)


def test_scores_by_hand(score_task):
    target = torch.tensor([-3.0, -0.4, 0.0, 1.2, 2.6, float("nan")])
    guess = torch.tensor([-2.7, 0.2, -1.0, 0.9, 5.0, 1.0])
    figures = evaluate(guess[:, None], target, score_task)
    #  not negative: truth F F T T T, guess F T F T T
    assert figures["acc2"] == figures["accuracy"] == pytest.approx(3 / 5)
    assert figures["f1"] == figures["weighted_f1"] == pytest.approx((2 * (2 * 1 / (2 + 1 + 1)) + 3 * (2 * 2 / (4 + 1 + 1))) / 5)
    assert figures["acc2_nonzero"] == pytest.approx(3 / 4)
    #  without the zero: truth F F T T, guess F T T T
    assert figures["f1_nonzero"] == pytest.approx((2 * (2 * 1 / (2 + 0 + 1)) + 2 * (2 * 2 / (4 + 1 + 0))) / 4)
    assert figures["acc7"] == pytest.approx(4 / 5)  # -3, 0, (0 for -1: wrong), 1, 3
    assert figures["mae"] == figures["loss"] == pytest.approx((0.3 + 0.6 + 1.0 + 0.3 + 2.4) / 5)
    a, b = target[:5] - target[:5].mean(), guess[:5] - guess[:5].mean()
    assert figures["pearson"] == pytest.approx(float((a * b).sum() / (a.norm() * b.norm())))
    assert set(METRICS["score"]) == set(figures)


def test_constant_scores_have_no_correlation(score_task):
    figures = evaluate(torch.zeros(3, 1), torch.tensor([0.0, 0.0, 0.0]), score_task)
    assert (figures["pearson"], figures["acc2_nonzero"], figures["acc2"]) == (0.0, 0.0, 1.0)


def test_nothing_to_judge(task, score_task):
    with pytest.raises(CorpusError, match="task three: expected utterances with a target, found none among 2"):
        evaluate(torch.zeros(2, 3), torch.tensor([-1, -1]), task)
    with pytest.raises(CorpusError, match="found none among 1"):
        evaluate(torch.zeros(1, 1), torch.tensor([float("nan")]), score_task)


@pytest.mark.parametrize(("scores", "target"), [((3, 2), (3,)), ((3, 3), (2,)), ((3,), (3,)), ((3, 3), (3, 1)), ((3, 3), ())])
def test_shapes_that_do_not_fit(task, scores, target):
    found = re.escape(
        f"expected a target (N,) and scores (N, 3), one column for each of 3 labels, found a target {target} and scores {scores}"
    )
    with pytest.raises(ConfigError, match=f"task three: {found}; give"):
        evaluate(torch.zeros(scores), torch.zeros(target, dtype=torch.long), task)


def test_a_score_task_has_one_column(score_task):
    with pytest.raises(ConfigError, match=r"scores \(N, 1\), one column, found a target \(3,\) and scores \(3, 2\)"):
        evaluate(torch.zeros(3, 2), torch.zeros(3), score_task)


def test_scores_that_are_no_numbers_are_not_judged(task, score_task):
    scores = logits(0, 1, 1)
    scores[1, 2] = math.nan
    with pytest.raises(ConfigError, match="task three: expected finite scores, found NaN or inf in 1 of 3 utterances; lower"):
        evaluate(scores, torch.tensor([0, 1, 1]), task)
    with pytest.raises(ConfigError, match="found a loss of inf"):
        evaluate(torch.tensor([[-3e38, 3e38, 0]]), torch.tensor([0]), task)
    with pytest.raises(ConfigError, match="found NaN or inf in 1 of 2 utterances"):
        evaluate(torch.tensor([[math.inf], [1.0]]), torch.tensor([0.0, 1.0]), score_task)


def test_calibration_error_against_a_loop():
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.ones(4), 500).astype(np.float32)
    probabilities[:3] = [[1, 0, 0, 0], [0.25, 0.25, 0.25, 0.25], [0.4, 0.6, 0, 0]]
    target = random.integers(0, 4, 500)
    bins = [[] for _ in range(15)]
    for row, right in zip(probabilities, target, strict=True):
        confidence = float(row.max())
        for b in range(15):
            if b / 15 < confidence <= (b + 1) / 15:
                bins[b].append((confidence, row.argmax() == right))
    expected = sum(len(b) / 500 * abs(np.mean([hit for _, hit in b]) - np.mean([c for c, _ in b])) for b in bins if b)
    assert sum(map(len, bins)) == 500
    assert calibration_error(probabilities, target) == pytest.approx(expected)


def test_confusion(task, score_task):
    counts = confusion(logits(0, 0, 1, 1, 0, 0, 2), torch.tensor([0, 0, 0, 1, 1, 2, -1]), task)
    assert counts.tolist() == [[2, 1, 0], [1, 1, 0], [1, 0, 0]]
    counts = confusion(torch.tensor([[-9.0], [0.4], [1.0]]), torch.tensor([-3.0, 1.0, float("nan")]), score_task)
    assert counts.shape == (7, 7)
    assert counts.sum() == 2 and counts[0, 0] == 1 and counts[4, 3] == 1


def test_majority(task):
    scores = majority(torch.tensor([2, 2, 0, -1, -1, -1, -1]), 4, 3)
    assert scores.argmax(-1).tolist() == [2, 2, 2, 2]


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_prediction_is_in_row_order_for_any_batch_size(build, train, batch_size):
    method = build()
    method.second[2].train()  # a mode that must survive
    modes = [module.training for module in method.modules()]
    scores = predict(method, train, batch_size)
    assert [module.training for module in method.modules()] == modes
    assert not scores.requires_grad
    method.eval()
    for i in range(len(train)):
        rows = slice(int(train.ptr[i]), int(train.ptr[i + 1]))
        alone = method(train.select(torch.tensor([i])))
        torch.testing.assert_close(scores[rows], alone.scores.detach())
    whole = infer(method, train, batch_size)
    torch.testing.assert_close(whole.states, method(train).states.detach())
    first = predict(method, train, batch_size, forward=method.ask_first)
    torch.testing.assert_close(first, method.ask_first(train).scores.detach())
