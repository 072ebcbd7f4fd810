"""A picture of a conversation graph: time from left to right, one lane per stream, colour = emotion, shape and letter = speaker.

Everything is laid out in inches on one bare axis, so that nothing moves when names are long or turns are many. Names come from a
corpus and are treated as data: no mathematical markup, no control characters, never part of a file name.
"""

from __future__ import annotations

import math
import textwrap
import unicodedata
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from erc_graph.data.files.storage import atomic_write
from erc_graph.data.palette import MISSING, emotion_colour
from erc_graph.data.printable import one_line
from erc_graph.errors import ConfigError
from erc_graph.graphs.convert import Labels, label_names
from erc_graph.report.drawn_edges import arcs, bows, joined_pairs, strongest

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

MOST_UTTERANCES = 1000
_INK, _SOFT, _LANE, _ACROSS = "#2B2F36", "#7A808A", "#F3F4F6", "#8A929E"
_WITHIN = ("#3F5A7D", "#B4651E", "#2E7D6B", "#8E5AA8", "#6B6B00", "#A33B53")
# Marker → diameter at which it looks as large as the circle.
_SHAPES = {"o": 1.0, "s": 0.88, "^": 1.05, "D": 0.8, "v": 1.05, "p": 1.05, "h": 1.05, "P": 1.05}
_MARKERS = tuple(_SHAPES)
_DASHED = (0, (2, 1.6))
_TOP, _ROW = 0.75, 0.2  # where lanes and keys begin; height of a line of the keys


def draw_graph(
    graph: HeteroData,
    path: str | Path,
    *,
    labels: Labels | None = None,
    predictions: Labels | None = None,
    title: str | None = None,
) -> Path:
    """Draw a graph to a PNG or SVG file, which appears complete or not at all.

    Nodes are filled with the colour of their emotion (light grey: unlabelled; scores: negative, neutral, positive), hollow and
    dashed where the stream is absent. Where no turn has a label they have the colours of what is predicted. Arcs join turns within
    a stream, lines join streams; wider and darker = larger weight. Of many arcs each node shows its strongest ones, and the caption
    says so.

    Args:
        graph: From `build_graph`, or a pipeline's `graph`.
        path: Ends in `.png` or `.svg`.
        labels: One per utterance, instead of the graph's own: names, indices, scores (numbers or their text) or `None`.
        predictions: One per utterance, likewise; they get a strip, and nodes are ringed where they differ from the label (scores:
            where one is negative and the other is not).
        title: By default the dialogue's name and size.

    Returns:
        The path.

    Raises:
        ConfigError: another file type, too many utterances, or labels that do not fit.
        StorageError: the file cannot be written.
    """
    path = Path(path)
    kind = path.suffix.lower().removeprefix(".")
    if kind not in ("png", "svg"):
        raise ConfigError(f"draw_graph: expected a file name ending in .png or .svg, found {path.name!r}")
    count = len(graph.speakers)
    if not 0 < count <= MOST_UTTERANCES:
        raise ConfigError(f"draw_graph: expected 1 to {MOST_UTTERANCES} utterances, found {count}; draw one dialogue at a time")
    target = graph[graph.node_types[0]].y
    score = target.is_floating_point()
    true = label_names(target if labels is None else labels, graph.labels, count, "labels", score)
    guess = None if predictions is None else label_names(predictions, graph.labels, count, "predictions", score)

    import matplotlib

    with atomic_write(path) as unfinished, warnings.catch_warnings(), matplotlib.rc_context({"svg.hashsalt": "erc_graph"}):
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a script that the font lacks is drawn as boxes
        figure = _Picture(graph, true, guess, title).figure
        figure.savefig(unfinished, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else {"Software": None})
    return path


@dataclass(frozen=True, eq=False)
class _Lines:
    """Polylines `points (E, P, 2)` in inches with `weight (E,)` (NaN: none) and the names of their `relations (E,)`."""

    points: np.ndarray
    weight: np.ndarray
    relations: np.ndarray
    palette: Sequence[str]

    @property
    def colours(self) -> dict[str, str]:
        return {name: self.palette[i % len(self.palette)] for i, name in enumerate(dict.fromkeys(self.relations.tolist()))}

    @property
    def span(self) -> tuple[float, float]:
        """Least and largest weight, NaN where there is none."""
        known = self.weight[~np.isnan(self.weight)]
        return (float(known.min()), float(known.max())) if len(known) else (math.nan, math.nan)

    @property
    def strength(self) -> np.ndarray:
        """Weights as 0…1 between the least and the largest; one half where there is no difference, or no weight."""
        low, high = self.span
        return np.nan_to_num((self.weight - low) / (high - low), nan=0.5) if high > low else np.full(len(self.weight), 0.5)


class _Picture:
    """From the top: title, lanes with arcs and lines, speakers, predictions, turns, caption; the keys on the right."""

    def __init__(self, graph: HeteroData, true: list[str | None], guess: list[str | None] | None, title: str | None) -> None:
        from matplotlib.figure import Figure

        self.predicted = guess is not None and not any(name is not None for name in true)
        if self.predicted:  # nothing to compare with
            true, guess = guess or [], None
        self.graph, self.true, self.guess = graph, true, guess
        self.lanes = list(graph.node_types)
        node = graph[self.lanes[0]]
        self.speaker, self.turn, dialogue = (value.cpu().numpy() for value in (node.speaker, node.turn, node.dialogue))
        pairs = list(zip(true, guess or true, strict=True))
        self.wrong = np.array([t is not None and g is not None and t != g for t, g in pairs])
        if node.y.is_floating_point():  # as in the two-class accuracy of scores: hardly a prediction is exactly neutral
            self.wrong &= np.array([(t == "negative") != (g == "negative") for t, g in pairs])
        count = len(true)
        self.most = 3 if count <= 30 else 2  # arcs that a node brings along: more become a carpet
        self.fine = 1.0 if count <= 30 else 0.75  # thinner lines where there are many
        self.step = min(1.0, max(0.27, 9.0 / count))
        self.size = min(0.3, 0.58 * self.step)  # diameter of a node
        self.left = 0.4 + max(_width(self.lanes, 10), _width(["predicted"], 8))
        self.x = self.left + self.step * (np.arange(count) + 0.5 + 1.5 * dialogue)
        self.right = float(self.x[-1]) + self.step / 2

        rise, last = min(2.0, 0.55 + 0.024 * count), len(self.lanes) - 1
        self.y, self.rise, y = {}, {}, _TOP
        for i, name in enumerate(self.lanes):
            hangs = 0 < last == i  # arcs of the last lane hang below it: the lines to the lane above stay clear
            y += 1.0 if hangs else 0.3 + rise
            self.y[name], self.rise[name] = y, -rise if hangs else rise
        strips = y + (rise + 0.35 if last else 0.45)
        within, across = self._edges()
        blocks = self._keys(within, across)
        bottom = strips + (0.28 if guess else 0) + 0.3
        columns = _columns(blocks, bottom - _TOP + 0.3)
        bottom = max(bottom, _TOP - 0.35 + max(sum(map(_tall, column)) for column in columns))
        widths = [
            0.55 + _width([text for heading, entries in column for text in (heading, *(t for _, t in entries))], 8) for column in columns
        ]
        width = max(4.8, self.right + 0.3 + sum(widths))
        caption = textwrap.wrap("; ".join(self.remarks), int((width - 0.4) / 0.062))
        height = bottom + 0.35 + 0.17 * len(caption)
        self.figure = Figure(figsize=(width, height), facecolor="white")
        self.axes = self.figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
        self.axes.set_axis_off()

        self._text(0.2, 0.3, self._title(title, width), 12, weight="bold")
        for name in self.lanes:
            y = self.y[name]
            self.axes.fill_between([self.left, self.right], y - 0.2, y + 0.2, color=_LANE, linewidth=0, zorder=0)
            self._text(self.left - 0.12, y, one_line(name, 24), 10, ha="right", weight="bold")
        if len(graph.dialogue_ids) > 1:
            ends = graph.ptr.tolist()
            for name, start, end in zip(graph.dialogue_ids, ends[:-1], ends[1:], strict=True):
                room = max(2, int(self.step * (end - start + 1) / 0.08))
                self._text(float(self.x[start]) - self.step / 2, _TOP - 0.1, one_line(name, room), 8, color=_SOFT)
        self._draw_lines(across, zorder=1)
        self._draw_lines(within, zorder=2)
        for name in self.lanes:
            self._draw_nodes(name)
        self._draw_strips(strips)
        key_x = self.right + 0.3
        for column, key_width in zip(columns, widths, strict=True):
            self._draw_keys(column, key_x)
            key_x += key_width
        for i, line in enumerate(caption):
            self._text(0.2, bottom + 0.3 + 0.17 * i, line, 7.5, color=_SOFT)

    def _title(self, title: str | None, width: float) -> str:
        most = max(12, int(width / 0.125))
        if title is not None:
            return one_line(title, most)
        ids = self.graph.dialogue_ids
        nodes = self.graph[self.lanes[0]]
        people = len(set(zip(nodes.dialogue.tolist(), nodes.speaker.tolist(), strict=True)))
        size = f"{_plural(len(self.true), 'utterance')}, {_plural(people, 'speaker')}"
        return f"{one_line(ids[0] if len(ids) == 1 else f'{len(ids)} dialogues', max(4, most - len(size) - 3))} · {size}"

    # -- edges -------------------------------------------------------------------------------------------------------------------

    def _edges(self) -> tuple[_Lines, _Lines]:
        """Arcs within lanes, lines across them; `self.remarks` gets what the caption has to say."""
        found: dict[bool, list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = {True: [], False: []}
        total = drawn = loops = 0
        backward = False
        for i, first in enumerate(self.lanes):
            for j, second in enumerate(self.lanes[i:], start=i):
                if not any({kind[0], kind[2]} == {first, second} for kind in self.graph.edge_types):
                    continue
                pairs = joined_pairs(self.graph, first, second)
                if i == j:
                    loop = pairs.a == pairs.b
                    loops += int(loop.sum())
                    pairs = pairs.take(~loop)
                    backward |= pairs.backward
                    chosen = pairs.take(strongest(pairs, self.most))
                    total, drawn = total + len(pairs.a), drawn + len(chosen.a)
                    start, end = self.x[chosen.a], self.x[chosen.b]
                    longest = max(4 * self.step, float((end - start).max(initial=0)))
                    points = arcs(start, end, self.y[first], self.rise[first], longest)
                else:
                    chosen = pairs
                    bow = min(0.45 * self.step, self.size / 2 + 0.12) * (j - i - 1)
                    points = bows(self.x[chosen.a], self.x[chosen.b], self.y[first], self.y[second], bow)
                found[i == j].append((points, chosen.weight, chosen.relations))
        self.remarks = []
        if drawn < total:
            equal = ", among equals the nearest" if any("edge_weight" not in self.graph[kind] for kind in self.graph.edge_types) else ""
            self.remarks.append(f"{drawn} of {total} arcs drawn: the {self.most} strongest of every node{equal}")
        if loops:
            self.remarks.append(f"{_plural(loops, 'self-loop')} not drawn")
        if total and not backward:
            self.remarks.append("arcs point forward in time only")
        within, across = (_gather(found[inside], palette) for inside, palette in ((True, _WITHIN), (False, (_ACROSS,))))
        return within, across

    def _draw_lines(self, lines: _Lines, zorder: int) -> None:
        from matplotlib.collections import LineCollection
        from matplotlib.colors import to_rgba_array

        order = lines.strength.argsort(kind="stable")  # the strongest on top
        strength, colours = lines.strength[order], lines.colours
        rgba = to_rgba_array([colours[name] for name in lines.relations[order]])
        rgba[:, 3:] = _opacity(strength)[:, None]
        thick = self.fine * _thickness(strength)
        collection = LineCollection(list(lines.points[order]), linewidths=thick, colors=rgba, capstyle="round", zorder=zorder)
        self.axes.add_collection(collection, autolim=False)

    # -- nodes -------------------------------------------------------------------------------------------------------------------

    def _draw_nodes(self, stream: str) -> None:
        present = self.graph[stream].present.cpu().numpy()
        fill = np.array([emotion_colour(name) for name in self.true])
        for code in np.unique(self.speaker % len(_MARKERS)):
            marker, mine = _MARKERS[code], self.speaker % len(_MARKERS) == code
            y = self.y[stream]
            self._mark(self.x[mine & present], y, self.size, marker, fill[mine & present])
            self._mark(self.x[mine & ~present], y, 0.75 * self.size, marker, "white", edgecolors=_SOFT, linestyles=_DASHED)
            ringed = mine & present & self.wrong
            self._mark(self.x[ringed], y, 1.32 * self.size + 0.035, marker, "none", edgecolors="black", linewidths=1.4)

    def _draw_strips(self, y: float) -> None:
        self._text(self.left - 0.12, y, "speaker", 8, ha="right", color=_SOFT)
        for x, code in zip(self.x.tolist(), self.speaker.tolist(), strict=True):
            self._text(x, y, _letter(code), 7.5, ha="center")
        if self.guess is not None:
            y += 0.28
            self._text(self.left - 0.12, y, "predicted", 8, ha="right", color=_SOFT)
            edge = np.where(self.wrong, "black", "white")
            fill = [emotion_colour(name) for name in self.guess]
            self._mark(self.x, y, 0.5 * self.size + 0.06, "s", fill, edgecolors=edge, linewidths=1.2)
        y += 0.3
        self._text(self.left - 0.12, y, "turn", 8, ha="right", color=_SOFT)
        every = 1 if self.step > 0.4 else 5
        for x, turn in zip(self.x.tolist(), self.turn.tolist(), strict=True):
            if turn % every == 0:
                self._text(x, y, str(turn), 7.5, ha="center", color=_SOFT)

    def _mark(self, x: Any, y: float, diameter: float, marker: str, fill: Any, **style: Any) -> None:
        area = (72 * diameter * _SHAPES[marker]) ** 2
        style = {"linewidths": 0.8, "edgecolors": _INK, "zorder": 4, **style}
        self.axes.scatter(x, np.full(np.shape(x), y), s=area, c=fill, marker=marker, **style)

    def _text(self, x: float, y: float, text: str, size: float, *, ha: str = "left", color: str = _INK, weight: str = "normal") -> None:
        self.axes.text(x, y, text, fontsize=size, ha=ha, va="center_baseline", color=color, fontweight=weight, parse_math=False)

    # -- keys --------------------------------------------------------------------------------------------------------------------

    def _keys(self, within: _Lines, across: _Lines) -> list[_Block]:
        """Headings with their entries: a sample to draw and its text."""
        used = {*self.true, *(self.guess or ())}
        order = self.graph.labels or ["negative", "neutral", "positive"]
        names = [name for name in dict.fromkeys([*order, *self.true, *(self.guess or ())]) if name in used and name is not None]
        emotions: list[_Entry] = [({"fill": emotion_colour(name)}, name) for name in names[:16]]
        if len(names) > 16:
            emotions.append(({}, f"and {len(names) - 16} more"))
        if None in used:
            emotions.append(({"fill": MISSING}, "unlabelled"))
        called: dict[int, dict[str, None]] = {}
        for code, name in zip(self.speaker.tolist(), self.graph.speakers, strict=True):
            called.setdefault(code, {})[name] = None
        people: list[_Entry] = []
        for code in sorted(called)[:12]:
            first, *others = called[code]
            marker = _MARKERS[code % len(_MARKERS)]
            people.append(({"marker": marker, "fill": "white"}, f"{_letter(code)} {one_line(first, 22)}{', …' if others else ''}"))
        if len(called) > 12:
            people.append(({}, f"and {len(called) - 12} more"))
        marks: list[_Entry] = []
        if not all(bool(self.graph[stream].present.all()) for stream in self.lanes):
            marks.append(({"fill": "white", "edgecolors": _SOFT, "linestyles": _DASHED}, "absent"))
        if self.wrong.any():
            marks.append(({"fill": "white", "ring": True}, "predicted otherwise"))
        blocks: list[_Block] = [
            ("Predicted" if self.predicted else "Emotion", emotions),
            ("Speaker", people),
            *self._edge_keys(within),
            *self._edge_keys(across),
            ("Nodes", marks),
        ]
        return [(heading, [(sample, one_line(text, 34)) for sample, text in entries]) for heading, entries in blocks if entries]

    def _edge_keys(self, lines: _Lines) -> list[_Block]:
        colours, (low, high) = lines.colours, lines.span
        if not colours:
            return []
        several = len(colours) > 1
        entries: list[_Entry] = [({"line": 0.7, "colour": colour}, name) for name, colour in colours.items()] if several else []
        colour = _SOFT if several else next(iter(colours.values()))
        if f"{low:.2f}" != f"{high:.2f}":
            entries += [
                ({"line": 1.0, "colour": colour}, f"weight {high:.2f}"),
                ({"line": 0.0, "colour": colour}, f"weight {low:.2f}"),
            ]
        else:
            entries.append(({"line": 0.5, "colour": colour}, "not weighted" if math.isnan(low) else f"weight {low:.2f}"))
        return [("Edges" if several else f"Edges: {next(iter(colours))}", entries)]

    def _draw_keys(self, blocks: list[_Block], x: float) -> None:
        y = _TOP
        for heading, entries in blocks:
            self._text(x, y, heading, 8, weight="bold")
            for sample, text in entries:
                y += _ROW
                style = dict(sample)
                if "line" in style:
                    strength = np.array(style["line"])
                    look = {"color": style["colour"], "alpha": float(_opacity(strength)), "linewidth": float(_thickness(strength))}
                    self.axes.plot([x, x + 0.24], [y, y], **look)
                elif "fill" in style:
                    marker, ring = style.pop("marker", "o"), style.pop("ring", False)
                    self._mark([x + 0.12], y, 0.11, marker, style.pop("fill"), **style)
                    if ring:
                        self._mark([x + 0.12], y, 0.17, marker, "none", edgecolors="black", linewidths=1.4)
                self._text(x + 0.32, y, text, 8)
            y += 0.36


_Entry = tuple[dict[str, Any], str]
_Block = tuple[str, list[_Entry]]


def _gather(parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]], palette: Sequence[str]) -> _Lines:
    if not parts:
        return _Lines(np.empty((0, 2, 2)), np.empty(0), np.empty(0, dtype=object), palette)
    points, weight, relations = (np.concatenate(part) for part in zip(*parts, strict=True))
    return _Lines(points, weight, relations, palette)


def _thickness(strength: np.ndarray) -> np.ndarray:
    return 0.5 + 2.1 * strength


def _opacity(strength: np.ndarray) -> np.ndarray:
    return 0.22 + 0.63 * strength**1.3


def _letter(code: int) -> str:
    """A, B, … Z, then 27, 28, …"""
    return chr(ord("A") + code) if code < 26 else str(code + 1)


def _width(texts: Iterable[str], size: float) -> float:
    """Inches that the widest of the texts takes, generously."""

    def cells(text: str) -> float:
        return sum(2.0 if unicodedata.east_asian_width(c) in "WF" else 1.25 if c.isupper() else 1.0 for c in one_line(text, 34))

    return max(map(cells, texts), default=0.0) * size * 0.0092


def _tall(block: _Block) -> float:
    return 0.36 + _ROW * len(block[1])


def _columns(blocks: list[_Block], height: float) -> list[list[_Block]]:
    """Blocks of the keys in columns of at most `height`, unless one block alone is taller."""
    columns: list[list[_Block]] = [[]]
    for block in blocks:
        if columns[-1] and sum(map(_tall, columns[-1])) + _tall(block) > height:
            columns.append([])
        columns[-1].append(block)
    return columns


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("s" if count != 1 else "")
