"""Training curves: stages side by side, the kept epoch named."""

from __future__ import annotations

import re
from pathlib import Path

import matplotlib
import pytest

from erc_graph.errors import ConfigError
from erc_graph.report.curves import plot_curves
from erc_graph.training.history import Epoch, History, StageHistory


def stage(name: str, epochs: int, chosen: int, **dev: float) -> StageHistory:
    return StageHistory(name, [Epoch(1 / (i + 1), {k: v + i / 100 for k, v in dev.items()}, 1.0) for i in range(epochs)], chosen)


def words(history: History, folder: Path, **options) -> set[str]:
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        path = plot_curves(history, folder / "a.svg", **options)
    return set(re.findall(r"<text[^>]*>(?:<tspan[^>]*>)?([^<]*)<", path.read_text()))


def test_stages_metrics_and_kept_epoch(tmp_path: Path) -> None:
    dev = {"accuracy": 0.4, "weighted_f1": 0.3, "loss": 2.0}
    found = words(History([stage("pairs $1$", 20, 12, **dev), stage("features", 5, 0, **dev), stage("not run", 0, 0)]), tmp_path)
    assert {"pairs $1$", "features", "selected: epoch 12", "accuracy", "wF1", "training loss", "development", "epoch"} <= found
    assert not {"not run", "loss", "selected: epoch 0"} & found
    assert "loss" in words(History([stage("a", 3, 1, **dev)]), tmp_path, metrics=["loss"])


def test_without_a_development_part_only_the_loss_is_drawn(tmp_path: Path) -> None:
    found = words(History([stage("only", 1, 1)]), tmp_path)
    assert "training loss" in found and "development" not in found


def test_other_metrics_when_there_is_no_accuracy(tmp_path: Path) -> None:
    assert {"MAE", "pearson"} <= words(History([stage("score", 3, 2, mae=1.0, pearson=0.5)]), tmp_path)


def test_nothing_to_draw(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least one epoch"):
        plot_curves(History([stage("a", 0, 0)]), tmp_path / "a.png")
