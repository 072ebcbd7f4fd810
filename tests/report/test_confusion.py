"""The confusion matrix as a picture: what it says, read back from the SVG."""

from __future__ import annotations

import re
import time
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.image import imread

from erc_graph.data.palette import emotion_colour
from erc_graph.data.tasks import IEMOCAP6
from erc_graph.errors import ConfigError
from erc_graph.report.confusion import plot_confusion


def words(path: Path) -> list[str]:
    return re.findall(r"<text[^>]*>(?:<tspan[^>]*>)?([^<]*)<", path.read_text())


@pytest.fixture(autouse=True)
def _text_as_text():
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        yield


def test_shares_are_of_the_true_class_and_counts_stand_below(tmp_path: Path) -> None:
    path = plot_confusion([[6, 2, 0], [1, 3, 0], [0, 0, 0]], ["joy", "anger", "$fear$"], tmp_path / "a.svg")
    found = words(path)
    assert [word for word in found if word.startswith("0.")] == ["0.75", "0.25", "0.25", "0.75"]
    assert {"6", "2", "1", "3"} <= set(found) and found.count("–") == 3  # a class that never occurs has no shares
    assert {"joy  (8)", "anger  (4)", "$fear$  (0)"} <= set(found)
    assert "accuracy 0.750, 12 utterances" in found
    assert emotion_colour("joy").lower() in path.read_text().lower()


@pytest.mark.parametrize("size", [1, 2, 3, 6, 10])
def test_sizes(tmp_path: Path, size: int) -> None:
    matrix = np.random.default_rng(0).integers(0, 2000, (size, size))
    path = plot_confusion(
        matrix, [*IEMOCAP6, "a name\nof many words that is too long", "b", "c", "d"][:size], tmp_path / "a.png", title="t"
    )
    height, width = imread(path).shape[:2]
    assert max(height, width) < 1800 and min(height, width) > 150


@pytest.mark.parametrize("size", [31, pytest.param(300, marks=pytest.mark.slow)])
def test_many_classes_stay_a_small_picture(tmp_path: Path, size: int) -> None:
    matrix = np.random.default_rng(0).integers(0, 20, (size, size))
    labels = [f"class number {i}" for i in range(size)]
    start = time.process_time()
    picture = imread(plot_confusion(matrix, labels, tmp_path / "a.png"))
    assert time.process_time() - start < 20
    assert max(picture.shape[:2]) < 3000
    found = words(plot_confusion(matrix, labels, tmp_path / "a.svg"))
    assert not any(word.startswith("0.") for word in found)
    assert sum(word.startswith("class number") for word in found) == (62 if size == 31 else 120)


@pytest.mark.parametrize(
    ("matrix", "labels", "message"),
    [
        ([[1, 2]], ["a", "b"], r"one row per label \(2\), found shape \(1, 2\)"),
        ([[1, 2], [3, 4]], ["a"], r"one row per label \(1\), found shape \(2, 2\)"),
        (np.zeros((0, 0)), [], "expected a square matrix"),
        ([[1, -2], [3, 4]], ["a", "b"], "negative or non-finite"),
        ([[1, np.nan], [3, 4]], ["a", "b"], "negative or non-finite"),
    ],
)
def test_what_is_no_confusion_matrix(tmp_path: Path, matrix, labels, message) -> None:
    with pytest.raises(ConfigError, match=message):
        plot_confusion(matrix, labels, tmp_path / "a.png")
    assert not list(tmp_path.iterdir())
