"""Training curves as pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from erc_graph.data.printable import one_line
from erc_graph.errors import ConfigError
from erc_graph.report.figure import FAINT, INK, SOFT, picture

NAMES = {"accuracy": "accuracy", "weighted_f1": "wF1", "macro_f1": "macro F1", "acc2": "ACC-2", "mae": "MAE"}
_COLOURS = ("#006699", "#D55E00", "#00A060", "#8E5AA8", "#7F7F00")


class EpochLike(Protocol):
    """Interface of an epoch (a typing protocol), with the mean training `loss` and the development metrics `dev`."""

    @property
    def loss(self) -> float:
        """Return the mean training loss."""

    @property
    def dev(self) -> Mapping[str, float]:
        """Return the value of each metric on the development split; empty if there is no development split."""


class StageLike(Protocol):
    """Interface of a training stage (a typing protocol), with its name, its epochs and the number of the selected epoch."""

    @property
    def name(self) -> str:
        """Return the name of the stage."""

    @property
    def epochs(self) -> Sequence[EpochLike]:
        """Return the epochs in the order of training."""

    @property
    def chosen(self) -> int:
        """Return the number of the selected epoch, counted from 1; 0 means that no epoch is selected."""


class HistoryLike(Protocol):
    """Interface of a training history (a typing protocol), such as `erc_graph.training.history.History`."""

    @property
    def stages(self) -> Sequence[StageLike]:
        """Return the stages in the order of training."""


def plot_curves(history: HistoryLike, path: str | Path, *, metrics: Sequence[str] | None = None) -> Path:
    """Draw training loss and development metrics over the epochs, with one column per training stage and a mark at the selected epoch.

    Args:
        history: Training history.
        path: File name that ends in `.png`, `.svg` or `.pdf`.
        metrics: Names of development metrics; default: accuracy and weighted F1 if they exist, otherwise the first three metrics.

    Returns:
        The path.

    Raises:
        ConfigError: there is no epoch, or the file type is unknown.
        StorageError: the file cannot be written.
    """
    stages = [stage for stage in history.stages if stage.epochs]
    if not stages:
        raise ConfigError("plot_curves: expected at least one epoch, found none")
    known = list(dict.fromkeys(name for stage in stages for epoch in stage.epochs for name in epoch.dev))
    if metrics is None:
        metrics = [name for name in ("accuracy", "weighted_f1") if name in known] or known[:3]
    metrics = [name for name in metrics if name in known]
    rows = 2 if metrics else 1
    with picture(path, max(4.4, 3.4 * len(stages)), 1.2 + 1.9 * rows) as figure:
        grid = figure.subplots(rows, len(stages), squeeze=False, sharex="col")
        for axes in grid[1:, 1:].ravel():
            axes.sharey(grid[1, 0])
        for column, stage in enumerate(stages):
            epochs = range(1, len(stage.epochs) + 1)
            marker = "o" if len(epochs) < 15 else ""
            loss = grid[0, column]
            loss.set_title(one_line(stage.name, 32))
            loss.plot(epochs, [epoch.loss for epoch in stage.epochs], color=INK, marker=marker, markersize=3.5, linewidth=1.5)
            for name, colour in zip(metrics, _COLOURS, strict=False):
                values = [epoch.dev.get(name, float("nan")) for epoch in stage.epochs]
                dev = grid[1, column]
                label = one_line(NAMES.get(name, name), 24)
                dev.plot(epochs, values, color=colour, marker=marker, markersize=3.5, linewidth=1.5, label=label)
                if stage.chosen:
                    best = values[stage.chosen - 1]
                    dev.plot([stage.chosen], [best], "o", color=colour, markersize=7, markeredgecolor="white")
            for axes in grid[:, column]:
                axes.grid(axis="y", color=FAINT, linewidth=0.8)
                axes.set_axisbelow(True)
                axes.set_xlim(0.5, len(epochs) + 0.5)
                axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
                if stage.chosen:
                    axes.axvline(stage.chosen, color=SOFT, linewidth=1, linestyle=(0, (2, 2)), zorder=1)
            if stage.chosen:
                text = f"selected: epoch {stage.chosen}"
                late = stage.chosen > 0.6 * len(stage.epochs)
                loss.annotate(
                    text, (stage.chosen, 1), xycoords=("data", "axes fraction"), xytext=(-4 if late else 4, -2),
                    textcoords="offset points", ha="right" if late else "left", va="top", fontsize=8, color=SOFT,
                )  # fmt: skip
            grid[-1, column].set_xlabel("epoch")
        grid[0, 0].set_ylabel("training loss")
        if metrics:
            grid[1, 0].set_ylabel("development")
            handles, names = grid[1, 0].get_legend_handles_labels()
            figure.legend(handles, names, loc="outside lower center", ncols=len(names))
    return Path(path)
