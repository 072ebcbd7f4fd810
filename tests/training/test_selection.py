"""Which epoch is kept: against a rule written out, over random figures."""

from __future__ import annotations

import random

import pytest

from erc_graph.training.config import TrainingConfig
from erc_graph.training.history import Epoch, StageHistory
from erc_graph.training.selection import figure, improved, reduced, stalled


def followed(figures: list[float], config: TrainingConfig) -> StageHistory:
    """The history of a stage that has these development figures, epoch after epoch, as far as early stopping lets it run."""
    history = StageHistory("train")
    for value in figures:
        if stalled(history, config):
            break
        history.epochs.append(Epoch(1.0, {config.criterion: value}, 0.0))
        if improved(history, config):
            history.chosen = len(history.epochs)
    return history


@pytest.mark.parametrize("criterion", ["weighted_f1", "loss"])
@pytest.mark.parametrize("seed", range(20))
def test_the_first_of_the_best_epochs_is_kept(criterion: str, seed: int) -> None:
    figures = [random.Random(seed).randint(0, 5) / 5 for _ in range(12)]
    best = min(figures) if criterion == "loss" else max(figures)
    assert followed(figures, TrainingConfig(criterion=criterion)).chosen == figures.index(best) + 1
    assert followed(figures, TrainingConfig(criterion=criterion, selection="last", patience=2)).chosen == len(figures)


def test_early_stopping_waits_for_its_patience() -> None:
    figures = [0.5, 0.6, 0.6, 0.5, 0.7]
    assert len(followed(figures, TrainingConfig(patience=2)).epochs) == 4
    assert followed(figures, TrainingConfig(patience=3)).chosen == 5


def test_the_plateau_follows_the_figure_that_selects() -> None:
    history = StageHistory("train", [Epoch(1.0 / (i + 1), {"weighted_f1": 0.5}, 0.0) for i in range(4)], chosen=1)
    config = TrainingConfig(schedule="plateau", plateau=2, plateau_factor=0.1)
    assert reduced(history, config) == pytest.approx(0.1) and reduced(history, TrainingConfig()) == 1.0
    for epoch in history.epochs:
        epoch.dev = {}
    assert reduced(history, config) == 1.0, "the training loss still falls"
    assert figure(history.epochs[1], config) == {"loss": 0.5}
