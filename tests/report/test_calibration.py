"""Reliability: bins against a loop, the error against the metric that runs report."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from erc_graph.errors import ConfigError
from erc_graph.report.calibration import plot_calibration, reliability
from erc_graph.training.metrics import calibration_error


def data(rows: int = 500) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(1)
    return random.dirichlet(np.ones(4), rows).astype(np.float32), random.integers(0, 4, rows)


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_the_error_is_the_metric_of_the_run(bins: int) -> None:
    chances, target = data()
    assert reliability(chances, target, bins).error == pytest.approx(calibration_error(chances, target, bins))


def test_bins_equal_a_loop() -> None:
    chances, target = data(80)
    found = reliability(chances, target, 10)
    for b in range(10):
        inside = [i for i in range(80) if b / 10 < float(chances[i].max()) <= (b + 1) / 10]
        assert found.count[b] == len(inside)
        if inside:
            assert found.confidence[b] == pytest.approx(np.mean([chances[i].max() for i in inside]))
            assert found.accuracy[b] == pytest.approx(np.mean([chances[i].argmax() == target[i] for i in inside]))
        else:
            assert np.isnan(found.accuracy[b])


def test_too_sure_and_not_sure_enough() -> None:
    sure = np.array([[0.99, 0.01]] * 4)
    assert reliability(sure, [0, 1, 0, 1]).overconfidence == pytest.approx(0.49)
    assert reliability(np.array([[0.6, 0.4]] * 4), [0, 0, 0, 0]).overconfidence == pytest.approx(-0.4)
    assert reliability(np.zeros((0, 3)), np.zeros(0)).error == 0


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"expected \(N, C\) probabilities and \(N,\) labels, found \(2,\)"):
        reliability([0.1, 0.9], [0])


def test_drawn(tmp_path: Path) -> None:
    path = plot_calibration(reliability(*data()), tmp_path / "a.svg")
    assert path.read_text().startswith("<?xml")
    plot_calibration(reliability(np.array([[0.9, 0.1]]), [0]), tmp_path / "one.png")  # all bins but one are empty
