"""Projections keep neighbours together, repeat exactly, and live with few, equal and missing points."""

from __future__ import annotations

import re
from pathlib import Path

import matplotlib
import numpy as np
import pytest

from erc_graph.errors import ConfigError
from erc_graph.report.projection import plot_projection, plot_projections, project

NAMES = ["joy", "sadness", "anger"]


def clusters(count: int = 60, width: int = 8) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 3
    return rng.standard_normal((count, width)) + 8 * np.eye(3, width)[labels], labels


def words(path: Path) -> list[str]:
    return re.findall(r"<text[^>]*>(?:<tspan[^>]*>)?([^<]*)<", path.read_text())


@pytest.mark.parametrize("method", ["tsne", "pca"])
def test_clusters_stay_apart_and_repeat(method) -> None:
    features, labels = clusters()
    points, used = project(features, method=method)
    assert used == method and points.shape == (60, 2)
    distance = np.linalg.norm(points[:, None] - points, axis=-1) + 1e9 * np.eye(60)
    assert (labels[distance.argmin(1)] == labels).all()
    assert (project(features, method=method)[0] == points).all()


def test_pca_is_the_plane_of_largest_variance() -> None:
    features, _ = clusters()
    points, _ = project(features, method="pca")
    values = np.linalg.eigvalsh(np.cov(features.T))[::-1]
    assert np.cov(points.T) == pytest.approx(np.diag(values[:2]))
    turned = project(-features, method="pca")[0]
    assert np.abs(turned) == pytest.approx(np.abs(points))


@pytest.mark.parametrize("shape", [(1, 4), (2, 4), (3, 1), (29, 5), (40, 1)])
def test_few_points_and_narrow_features(shape) -> None:
    points, used = project(np.random.default_rng(0).standard_normal(shape))
    assert points.shape == (shape[0], 2) and np.isfinite(points).all()
    assert used == ("tsne" if shape[0] >= 30 else "pca")


def test_equal_points_do_not_become_nan() -> None:
    points, used = project(np.ones((50, 3)))
    assert used == "pca" and (points == 0).all()


def test_picture_says_method_and_numbers(tmp_path: Path) -> None:
    features, labels = clusters(45)
    features[4, 2], features[5, 0] = np.nan, np.inf
    labels[7] = -1
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        path = plot_projections(
            [("row 11: $a$", features, labels), ("row 12", features[:20], labels[:20])], NAMES, tmp_path / "a.svg", most=40
        )
    found = words(path)
    assert {"row 11: $a$", "row 12", "t-SNE, 40 of 43 utterances", "PCA, 18 utterances", *NAMES, "unlabelled"} == set(found)
    again = plot_projections(
        [("row 11: $a$", features, labels), ("row 12", features[:20], labels[:20])], NAMES, tmp_path / "b.svg", most=40
    )
    twice = plot_projections(
        [("row 11: $a$", features, labels), ("row 12", features[:20], labels[:20])], NAMES, tmp_path / "c.svg", most=40
    )
    assert again.read_bytes() == twice.read_bytes()


@pytest.mark.parametrize("count", [0, 1, 3])
def test_almost_nothing_to_draw(tmp_path: Path, count: int) -> None:
    features, labels = clusters(3)
    assert plot_projection(features[:count], labels[:count], NAMES, tmp_path / "a.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("panels", "message"),
    [
        ([], "at least one panel"),
        ([("a", np.zeros(3), np.zeros(3, int))], r"expected features of shape \(utterances, width\), found \(3,\)"),
        ([("a", np.zeros((3, 2)), np.zeros(2, int))], r"expected 3 whole numbers below 3 as labels, found int64 of shape \(2,\)"),
        ([("a", np.zeros((3, 2)), np.array([0, 1, 3]))], "up to 3"),
        ([("a", np.zeros((3, 2)), np.zeros(3))], "found float64"),
    ],
)
def test_bad_panels(tmp_path: Path, panels, message) -> None:
    with pytest.raises(ConfigError, match=message):
        plot_projections(panels, NAMES, tmp_path / "a.png")
    assert not list(tmp_path.iterdir())
