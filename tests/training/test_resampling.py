from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import bootstrap

from erc_graph.data.tasks import Task
from erc_graph.errors import ConfigError
from erc_graph.training.metrics import evaluate
from erc_graph.training.resampling import bootstrap_dialogues, class_figures, score_figures


def table(truth: np.ndarray, guess: np.ndarray, unit: np.ndarray, classes: int) -> np.ndarray:
    sums = np.zeros((unit.max() + 1, classes, classes))
    for dialogue, t, g in zip(unit, truth, guess, strict=True):
        sums[dialogue, t, g] += 1
    return sums.reshape(len(sums), -1)


def test_figures_are_those_of_evaluate() -> None:
    random = np.random.default_rng(0)
    task = Task(name="t", labels=("a", "b", "c", "d"))
    for classes in (4, 3):  # once with a class that never occurs
        truth, guess = random.integers(classes, size=(2, 60))
        scores = torch.nn.functional.one_hot(torch.from_numpy(guess), 4).float()
        expected = evaluate(scores, torch.from_numpy(truth), task)
        sums = table(truth, guess, np.zeros(60, dtype=int), 4)
        for name, figure in class_figures(4).items():
            wanted = expected[f"f1/{task.labels[int(name[3:])]}" if name.startswith("f1/") else name]
            assert figure(sums)[0] == pytest.approx(wanted), name


def test_figures_of_scores_are_those_of_evaluate() -> None:
    from erc_graph.training.metrics import seven

    random = np.random.default_rng(1)
    truth, guess = random.normal(0, 1.5, (2, 50))
    sums = np.zeros((1, 6))
    for t, g, right in zip(truth, guess, seven(truth) == seven(guess), strict=True):
        sums[0, 2 * (t >= 0) + (g >= 0)] += 1
        sums[0, 4] += right
        sums[0, 5] += abs(t - g)
    expected = evaluate(torch.from_numpy(guess)[:, None], torch.from_numpy(truth), Task(name="s", kind="score", column="score"))
    for name, figure in score_figures().items():
        assert figure(sums)[0] == pytest.approx(expected[name], abs=1e-6), name


def test_accuracy_agrees_with_the_bootstrap_of_means() -> None:
    """Scipy's bootstrap of a ratio of sums per dialogue: same difference, interval and p up to the draws."""
    random = np.random.default_rng(2)
    unit = np.repeat(np.arange(30), random.integers(3, 15, 30))
    truth = random.integers(3, size=len(unit))
    a = np.where(random.random(len(unit)) < 0.7, truth, 0)
    b = np.where(random.random(len(unit)) < 0.6, truth, 1)
    ours = bootstrap_dialogues(table(truth, a, unit, 3), table(truth, b, unit, 3), class_figures(3)["accuracy"])
    gain = (a == truth).astype(float) - (b == truth)
    sums = np.bincount(unit, weights=gain), np.bincount(unit).astype(float)
    theirs = bootstrap(
        sums, lambda s, n, axis: s.sum(axis) / n.sum(axis), paired=True, vectorized=True, method="percentile", random_state=random
    )
    drawn = theirs.bootstrap_distribution
    assert ours.difference == pytest.approx(gain.mean()) and ours.pairs == 30
    assert (ours.low, ours.high) == pytest.approx(theirs.confidence_interval, abs=0.004)
    assert ours.p_value == pytest.approx(2 * min((drawn <= 0).mean(), (drawn >= 0).mean()), abs=0.02)
    again = bootstrap_dialogues(table(truth, a, unit, 3), table(truth, b, unit, 3), class_figures(3)["accuracy"])
    assert again == ours


def test_refusals() -> None:
    for first, second in ((np.ones((1, 4)), np.ones((1, 4))), (np.ones((3, 4)), np.ones((2, 4)))):
        with pytest.raises(ConfigError, match="expected the same dialogues for both methods"):
            bootstrap_dialogues(first, second, class_figures(2)["accuracy"])
