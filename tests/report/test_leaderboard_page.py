"""Page and pictures of a leaderboard: what they say of made-up rows, and the page in a real Chromium."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from erc_graph.errors import ConfigError
from erc_graph.report.leaderboard_page import BoardTable, write_leaderboard_page
from erc_graph.report.leaderboard_pictures import Ranks, plot_cost, plot_inflation, plot_published, plot_ranks
from tests.report.test_browser import browser  # noqa: F401


def mean(values: list[float]) -> dict[str, Any]:
    return {"mean": float(np.mean(values)), "std": float(np.std(values)), "values": values}


def row(name: str, values: list[float], printed: float | None = None) -> dict[str, Any]:
    figures = mean(values)
    return {
        "method": name,
        "family": "graph",
        "seeds": list(range(len(values))),
        "test": {"weighted_f1": figures},
        "published": None if printed is None else {"weighted_f1": printed},
        "cost": {"cpu_seconds_per_epoch": mean([0.5 + values[0]])} if values else {},
        "chosen_on_test": mean([value + 0.01 for value in values]),
    }


BOARDS = [
    {"dataset": "one", "rows": [row("a", [0.6, 0.61, 0.59], 0.66), row("b", [0.5, 0.62, 0.5]), row("<i>", [0.4, 0.4, 0.4], 0.61)]},
    {"dataset": "two", "rows": [row("b", [0.3, 0.3]), row("a", [0.35, 0.25], 0.38), row("only here", [0.2, 0.2]), row("<i>", [0.1, 0.3])]},
]
TABLES = [
    BoardTable(
        "one", "what it is", ["method", "wF1", "seeds"], [["a", "0.600 ± 0.010", "3"], ["<b>x", "–", "0"], ["b", "0.540", "3"]], ["c: no"]
    )
]


RANKS = Ranks(["a", "b", "c", "<i>"], [1.2, 2.0, 2.9, 3.9], 5, "seeds", {(0, 2), (0, 3), (1, 3)}, ["graph"] * 4)


def test_bars_join_what_cannot_be_told_apart() -> None:
    assert RANKS.groups == [(0, 1), (1, 2), (2, 3)]
    assert Ranks(["a", "b"], [1.0, 2.0], 9, "seeds", {(0, 1)}, ["graph"] * 2).groups == []


@pytest.mark.parametrize("plot", [plot_cost, plot_published, plot_inflation, lambda _, path: plot_ranks(RANKS, path)])
@pytest.mark.parametrize("kind", ["png", "svg"])
def test_pictures_are_drawn(plot: Any, kind: str, tmp_path: Path) -> None:
    path = plot(BOARDS, tmp_path / f"a.{kind}")
    assert path.stat().st_size > 3000


def test_too_little_is_refused(tmp_path: Path) -> None:
    empty: list[dict[str, Any]] = [{"dataset": "one", "rows": []}]
    for plot in (plot_cost, plot_inflation):
        with pytest.raises(ConfigError, match="expected at least one method with a finished seed, found none"):
            plot(empty, tmp_path / "a.png")
    with pytest.raises(ConfigError, match="expected at least one method with a published result, found none"):
        plot_published([{"dataset": "one", "rows": [row("a", [0.1])]}], tmp_path / "a.png")
    page = write_leaderboard_page(tmp_path / "a.html", empty, TABLES).read_text(encoding="utf-8")
    assert "<svg" not in page


def test_the_page_has_names_as_text(tmp_path: Path) -> None:
    page = write_leaderboard_page(tmp_path / "a.html", BOARDS, TABLES, RANKS).read_text(encoding="utf-8")
    assert (
        "<b>x" not in page
        and "&lt;b&gt;x" in page
        and page.count("<svg") == 4
        and "mathdefault" not in page
        and "http" not in page.replace("http-equiv", "")
    )


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 400])
def test_it_sorts_and_fits(browser: Any, width: int, tmp_path: Path) -> None:  # noqa: F811
    write_leaderboard_page(tmp_path / "a.html", BOARDS, TABLES, RANKS)
    page = browser.new_page(viewport={"width": width, "height": 800})
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto((tmp_path / "a.html").as_uri())
    names = "() => [...document.querySelectorAll('tbody th')].map((e) => e.textContent)"
    assert page.evaluate(names) == ["a", "<b>x", "b"]
    head = page.get_by_role("button", name="wF1")
    head.click()
    assert page.evaluate(names) == ["a", "b", "<b>x"]
    head.focus()
    page.keyboard.press("Enter")
    assert page.evaluate(names) == ["b", "a", "<b>x"]  # what is not known stays last
    assert page.locator("th[aria-sort=ascending]").count() == 1
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width and not said
    page.close()
