"""Heat of windows and the graph of words and frames, as pictures: read back from the SVG."""

from __future__ import annotations

import re
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch

from erc_graph.errors import ConfigError
from erc_graph.graphs.word_windows import window_graph
from erc_graph.report.windows import plot_heat, plot_word_frames


def words(path: Path) -> list[str]:
    return re.findall(r"<text[^>]*>(?:<tspan[^>]*>)?([^<]*)<", path.read_text())


@pytest.fixture(autouse=True)
def _text_as_text():
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        yield


def test_a_panel_for_every_attention(tmp_path: Path) -> None:
    path = plot_heat({"fixed": np.eye(10, 65), "$grown$": 0.5 * np.eye(10, 45)}, tmp_path / "heat.svg")
    found = words(path)
    assert {"fixed", "$grown$", "frame", "mean weight"} <= set(found) and found.count("window") == 2
    assert path.read_text().count("<image") >= 2
    assert plot_heat({"silence": np.zeros((1, 1))}, tmp_path / "none.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("maps", "message"),
    [
        ({}, "expected one heat map or more, found none"),
        ({"x": np.zeros(3)}, r"x: expected finite numbers \(windows, frames\), found shape \(3,\)"),
        ({"x": np.full((2, 2), np.nan)}, "expected finite numbers"),
        ({"x": np.zeros((0, 4))}, "expected finite numbers"),
    ],
)
def test_nothing_to_draw(maps: dict[str, np.ndarray], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        plot_heat(maps, tmp_path / "heat.png")
    assert not list(tmp_path.iterdir())


def test_words_above_frames(tmp_path: Path) -> None:
    seen = torch.zeros(3, 25).bool()
    seen[0, :10], seen[1, 5:15] = True, True
    weights = seen * torch.rand(3, 25)
    found = words(plot_word_frames(window_graph(weights, seen, ["so", "<b>\n", "$a$"]), tmp_path / "one.svg"))
    assert {"so", "&lt;b&gt;", "$a$", "frame", "3 words, 25 frames, 20 edges", "1", "25"} <= set(found)
    found = words(plot_word_frames(window_graph(weights, seen), tmp_path / "two.svg", title="Utterance 7"))
    assert {"Utterance 7", "1", "2", "3"} <= set(found)
    nothing = window_graph(torch.zeros(2, 4), torch.zeros(2, 4).bool())
    assert plot_word_frames(nothing, tmp_path / "nothing.png").exists()
    with pytest.raises(ConfigError, match=r"expected a file name ending in \.png"):
        plot_word_frames(nothing, tmp_path / "nothing.txt")
