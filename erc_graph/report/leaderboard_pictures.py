"""Pictures of a leaderboard: results and training time, measured and published results, selection of epochs on test data, mean ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from erc_graph.data.printable import one_line
from erc_graph.errors import ConfigError
from erc_graph.report.figure import FAINT, INK, SOFT, picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Board = Mapping[str, Any]
COLOURS = {"graph": "#006699", "recurrent": "#D55E00", "transformer": "#8E5AA8", "fusion": "#00A060", "language model": "#7F7F00"}


def done(board: Board) -> list[Mapping[str, Any]]:
    """Return the rows of the leaderboard whose methods have at least one finished seed."""
    return [row for row in board["rows"] if row["seeds"]]


def figure_of(row: Mapping[str, Any], part: str = "test") -> float:
    """Return the weighted F1 of a method, averaged over seeds."""
    found = row["chosen_on_test"] if part == "chosen_on_test" else row[part]["weighted_f1"]
    return float(found["mean"])


def colour(row: Mapping[str, Any]) -> str:
    """Return the colour for the kind of a method."""
    return COLOURS.get(row["family"], SOFT)


def plot_cost(boards: Sequence[Board], path: str | Path) -> Path:
    """Draw weighted F1 on the test split against processor seconds per epoch, with one panel per corpus.

    A line connects the methods for which no method of equal or lower cost has a higher weighted F1.

    Raises:
        ConfigError: no method has a finished seed, or the file type is unknown.
    """
    boards = _some(boards)
    with picture(path, 4.6 * min(2, len(boards)), 3.6 * ((len(boards) + 1) // 2)) as figure:
        panels = figure.subplots((len(boards) + 1) // 2, min(2, len(boards)), squeeze=False).ravel()
        for axes, board in zip(panels, boards, strict=False):
            rows = done(board)
            at = {row["method"]: (row["cost"]["cpu_seconds_per_epoch"]["mean"] or 1e-3, figure_of(row)) for row in rows}
            for row in rows:
                x, y = at[row["method"]]
                axes.errorbar(x, y, yerr=row["test"]["weighted_f1"]["std"], fmt="o", ms=4, lw=0.7, color=colour(row), alpha=0.85)
            front = [name for name, (x, y) in at.items() if not any(a <= x and b > y for a, b in at.values())]
            line = sorted(at[name] for name in front)
            axes.plot([x for x, _ in line], [y for _, y in line], lw=0.8, color=SOFT, zorder=0)
            axes.set_xscale("log")
            low, high = axes.get_xlim()
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.xaxis.set_minor_formatter(lambda value, _, few=high < 10 * low: f"{value:g}" if few else "")
            axes.set(title=one_line(board["dataset"], 40), xlabel="processor seconds per epoch", ylabel="wF1, test")
            axes.grid(color=FAINT, lw=0.5)
            axes.set_axisbelow(True)
            _name(axes, at, [*front, *[row["method"] for row in rows[:3]], "bigru"])
        for axes in panels[len(boards) :]:
            axes.set_visible(False)
        _kinds(panels[0], [row for board in boards for row in done(board)])
    return Path(path)


def plot_published(boards: Sequence[Board], path: str | Path) -> Path:
    """Draw measured against published weighted F1; on the dotted line, the two values are equal. Published results used other features.

    Raises:
        ConfigError: no measured method has a published result, or the file type is unknown.
    """
    boards = [board for board in _some(boards) if any(row["published"] for row in done(board))]
    if not boards:
        raise ConfigError("plot_published: expected at least one method with a published result, found none")
    with picture(path, 4.2 * len(boards), 4.0) as figure:
        for axes, board in zip(figure.subplots(1, len(boards), squeeze=False)[0], boards, strict=True):
            rows = [row for row in done(board) if row["published"]]
            at = {row["method"]: (row["published"]["weighted_f1"], figure_of(row)) for row in rows}
            axes.axline((0, 0), slope=1, lw=0.8, ls=":", color=SOFT)
            for row in rows:
                axes.plot(*at[row["method"]], "o", ms=4, color=colour(row), alpha=0.85)
            low, high = np.min(list(at.values()), 0) - 0.02, np.max(list(at.values()), 0) + 0.02
            axes.set(title=one_line(board["dataset"], 40), xlabel="published wF1, other features", ylabel="measured wF1")
            axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
            axes.grid(color=FAINT, lw=0.5)
            axes.set_axisbelow(True)
            _name(axes, at, list(at))
    return Path(path)


def plot_inflation(boards: Sequence[Board], path: str | Path) -> Path:
    """Draw by how much the weighted F1 of each method would be higher if the epoch were selected on the test set.

    Raises:
        ConfigError: no method has a finished seed, or the file type is unknown.
    """
    boards = _some(boards)
    most = max(len(done(board)) for board in boards)
    with picture(path, 3.6 * len(boards), 1.0 + 0.19 * most) as figure:
        for axes, board in zip(figure.subplots(1, len(boards), squeeze=False)[0], boards, strict=True):
            rows = sorted(done(board), key=lambda row: figure_of(row, "chosen_on_test") - figure_of(row))
            gains = [figure_of(row, "chosen_on_test") - figure_of(row) for row in rows]
            axes.barh(range(len(rows)), gains, color=[colour(row) for row in rows], height=0.7)
            axes.set_yticks(range(len(rows)), [one_line(row["method"], 24) for row in rows], fontsize=7)
            axes.axvline(float(np.mean(gains)), lw=0.8, ls=":", color=INK)
            axes.set(title=one_line(board["dataset"], 40), xlabel="wF1 gain by selection on test")
            axes.set_ylim(-0.6, len(rows) - 0.4)
            axes.tick_params(axis="y", length=0)
    return Path(path)


@dataclass(frozen=True)
class Ranks:
    """Mean ranks of methods over blocks of results, such as corpora; in every block, the best method has rank 1.

    Attributes:
        names: Names of the methods, the best first.
        mean: Mean rank of each method.
        blocks: Number of blocks.
        what: Name for the blocks, for the axis label.
        apart: Pairs of methods with a significant difference, as pairs of positions in `names`.
        families: Kind of each method.
    """

    names: Sequence[str]
    mean: Sequence[float]
    blocks: int
    what: str
    apart: Set[tuple[int, int]]
    families: Sequence[str]

    @property
    def groups(self) -> list[tuple[int, int]]:
        """Return the first and last position of every largest group of adjacent methods without significant differences."""
        found: list[tuple[int, int]] = []
        for start in range(len(self.names)):
            end = start
            while end + 1 < len(self.names) and not any((k, end + 1) in self.apart for k in range(start, end + 1)):
                end += 1
            if end > start and not (found and found[-1][1] >= end):
                found.append((start, end))
        return found


def plot_ranks(ranks: Ranks, path: str | Path) -> Path:
    """Draw a critical-difference diagram: the mean ranks, and bars that join methods without a significant difference.

    Raises:
        ConfigError: the file type is unknown.
    """
    mean, groups, count = ranks.mean, ranks.groups, len(ranks.names)
    half = (count + 1) // 2
    with picture(path, 7.2, 1.1 + 0.16 * half + 0.11 * len(groups)) as figure:
        axes = figure.subplots()
        low, high = min(mean), max(mean)
        margin = 0.45 * (high - low or 1)
        deep = 0.5 + 0.35 * len(groups)
        for place, name in enumerate(ranks.names):
            left = place < half
            depth = deep + 0.6 * (place if left else count - 1 - place) + 0.4
            edge = low - 0.1 * (high - low or 1) if left else high + 0.1 * (high - low or 1)
            axes.plot([mean[place], mean[place], edge], [0, -depth, -depth], lw=0.6, color=SOFT)
            words = f"{one_line(name, 24)}  {mean[place]:.1f}" if left else f"{mean[place]:.1f}  {one_line(name, 24)}"
            axes.text(
                edge,
                -depth,
                f" {words} ",
                ha="right" if left else "left",
                va="center",
                fontsize=7,
                color=COLOURS.get(ranks.families[place], SOFT),
            )
        for number, (start, end) in enumerate(groups):
            axes.plot([mean[start], mean[end]], [-0.35 * (number + 1)] * 2, lw=2.5, color=INK, solid_capstyle="round")
        axes.set(xlim=(low - margin, high + margin), ylim=(-deep - 0.6 * half - 0.6, 0))
        axes.xaxis.tick_top()
        axes.set_xticks([tick for tick in axes.get_xticks() if low - 1 <= tick <= high + 1 and tick >= 1])
        axes.xaxis.set_label_position("top")
        axes.set_xlabel(f"mean rank over {ranks.blocks} {ranks.what} (1 is best); bars join methods without a significant difference")
        axes.yaxis.set_visible(False)
        for side in ("left", "bottom"):
            axes.spines[side].set_visible(False)
        axes.spines["top"].set_visible(True)
    return Path(path)


def _some(boards: Sequence[Board]) -> list[Board]:
    found = [board for board in boards if done(board)]
    if not found:
        raise ConfigError("leaderboard: expected at least one method with a finished seed, found none")
    return found


def _name(axes: Axes, at: Mapping[str, tuple[float, float]], wanted: Sequence[str]) -> None:
    """Write the names of methods beside their points in the order of `wanted`; a name that would overlap another name is left out."""
    size = 4.0  # pixels of half a letter, about
    axes.figure.get_figure(root=True).draw_without_rendering()  # so that the scale is known
    points = {name: tuple(axes.transData.transform(place)) for name, place in at.items()}
    taken = [(x - 3, y - 3, x + 3, y + 3) for x, y in points.values()]
    for name in dict.fromkeys(name for name in wanted if name in at):
        words = one_line(name, 24)
        x, y = points[name]
        box = (x + 5, y + 3, x + 5 + 1.3 * size * len(words), y + 13)
        if any(box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3] for other in taken):
            continue
        taken.append(box)
        axes.annotate(words, at[name], xytext=(4, 3), textcoords="offset points", fontsize=7)


def _kinds(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    """Draw the legend of the kinds of methods."""
    for kind in [kind for kind in COLOURS if any(row["family"] == kind for row in rows)]:
        axes.plot([], [], "o", ms=4, color=COLOURS[kind], label=kind)
    axes.legend(fontsize=7, loc="lower right")
