"""Decisions from the metrics of the epochs: selection of an epoch, early stopping, and reduction of the learning rate.

The test split is never used: an epoch is selected on the development split, or the number of epochs is fixed in advance.
"""

from __future__ import annotations

from erc_graph.training.config import LOWER_IS_BETTER, TrainingConfig
from erc_graph.training.history import Epoch, StageHistory
from erc_graph.training.schedule import plateau


def improved(history: StageHistory, config: TrainingConfig) -> bool:
    """Return whether the latest epoch is better than all earlier ones.

    >>> history = StageHistory("train", [Epoch(1.0, {"loss": 0.9}, 0.1), Epoch(0.8, {"loss": 0.7}, 0.1)], chosen=1)
    >>> improved(history, TrainingConfig(criterion="loss"))
    True
    """
    if config.selection == "last" or not history.chosen:
        return True
    new, old = history.epochs[-1].dev[config.criterion], history.best.dev[config.criterion]
    return new < old if config.criterion in LOWER_IS_BETTER else new > old


def stalled(history: StageHistory, config: TrainingConfig) -> bool:
    """Return whether early stopping ends the stage after the latest epoch."""
    return config.selection == "dev" and 0 < config.patience <= len(history.epochs) - history.chosen


def reduced(history: StageHistory, config: TrainingConfig) -> float:
    """Return the factor of the learning rate in the next epoch; the factor is 1 unless the schedule is `plateau`."""
    if config.schedule != "plateau":
        return 1.0
    judged = all(epoch.dev for epoch in history.epochs)
    figures = [epoch.dev[config.criterion] if judged else epoch.loss for epoch in history.epochs]
    lower = not judged or config.criterion in LOWER_IS_BETTER
    return plateau(figures, lower=lower, wait=config.plateau, factor=config.plateau_factor)


def figure(epoch: Epoch, config: TrainingConfig) -> dict[str, float]:
    """Return name → value of the metric that selects the epoch, or of the training loss if there is no development split."""
    name = config.criterion
    return {f"dev {name}": epoch.dev[name]} if epoch.dev else {"loss": epoch.loss}
