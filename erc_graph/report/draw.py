"""Drawing of conversation graphs. The nodes of a modality (a stream) are drawn on one horizontal line (a lane), from left to right in time.

The layout is computed in inches, so that long names or many utterances do not change the layout of other elements. Names from a corpus are
treated as data: mathematical markup and control characters have no effect, and file names never contain such a name.
"""

from __future__ import annotations

import textwrap
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from erc_graph.data.files.storage import atomic_write
from erc_graph.data.palette import MISSING, emotion_colour
from erc_graph.data.printable import count, one_line
from erc_graph.errors import ConfigError
from erc_graph.graphs.convert import Labels, label_names, streams_of
from erc_graph.report import legend
from erc_graph.report.drawn_hyperedges import membership
from erc_graph.report.hyperedge_marks import HyperedgeMarks
from erc_graph.report.legend import Block, Entry
from erc_graph.report.pen import DASHED, LANE, MARKERS, SOFT, Pen, ink_on, letter, shortened, width, wrapped
from erc_graph.report.strokes import Strokes

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

MOST_UTTERANCES = 1000
_TOP = 0.7  # where lanes begin
_WORDS = 6.5  # size of what was said


def draw_graph(
    graph: HeteroData,
    path: str | Path,
    *,
    labels: Labels | None = None,
    predictions: Labels | None = None,
    title: str | None = None,
) -> Path:
    """Draw a graph to a PNG or SVG file, atomically.

    The colour of a node shows the emotion, or the sign of the score. A light grey node has no label. The shape and the letter of a node
    show the speaker. A node is hollow and dashed if the modality is missing in the utterance. If no utterance has a label, the colours show
    the predictions.

    Arcs are edges within a stream (modality), and lines are edges between streams. Every relation has a colour and a dash pattern; a wider
    and darker line means a larger weight. An arrowhead shows the direction, unless an edge and its reverse are equal. In a graph of one
    stream, edges from later utterances are drawn below the nodes. If there are too many arcs, only the strongest arcs of each node are
    drawn, and the caption reports this. Hyperedges are drawn as outlines around their nodes, or as rows of marks.

    Args:
        graph: Graph from `build_graph` or from the method `graph` of a pipeline.
        path: File name that ends in `.png` or `.svg`.
        labels: One label per utterance, instead of the labels of the graph: name, index, score (number or text) or `None`.
        predictions: One prediction per utterance, of the same types as `labels`. Predictions are drawn as a strip, and a node has a ring if
            its prediction is wrong. A predicted score is wrong if exactly one of the prediction and the label is negative.
        title: Title; default: id and size of the dialogue.

    Returns:
        The path.

    Raises:
        ConfigError: the file type is unknown, there are more than 1000 utterances, or labels or predictions do not fit the graph.
        StorageError: the file cannot be written.
    """
    path = Path(path)
    kind = path.suffix.lower().removeprefix(".")
    if kind not in ("png", "svg"):
        raise ConfigError(f"draw_graph: expected a file name ending in .png or .svg, found {path.name!r}")
    count = len(graph.speakers)
    if not 0 < count <= MOST_UTTERANCES:
        raise ConfigError(f"draw_graph: expected 1 to {MOST_UTTERANCES} utterances, found {count}; draw one dialogue at a time")
    target = graph[streams_of(graph)[0]].y
    score = target.is_floating_point()
    true = label_names(target if labels is None else labels, graph.labels, count, "labels", score)
    guess = None if predictions is None else label_names(predictions, graph.labels, count, "predictions", score)

    import matplotlib

    with atomic_write(path) as unfinished, warnings.catch_warnings(), matplotlib.rc_context({"svg.hashsalt": "erc_graph"}):
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a script that the font lacks is drawn as boxes
        figure = _Picture(graph, true, guess, title).figure
        figure.savefig(unfinished, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else {"Software": None})
    return path


class _Picture:
    """The picture, from top to bottom: title, lines of nodes, hyperedges, predictions, utterance numbers and texts, legend, caption."""

    def __init__(self, graph: HeteroData, true: list[str | None], guess: list[str | None] | None, title: str | None) -> None:
        from matplotlib.figure import Figure

        self.predicted = guess is not None and not any(name is not None for name in true)
        if self.predicted:  # nothing to compare with
            true, guess = guess or [], None
        self.graph, self.true, self.guess = graph, true, guess
        self.lanes = streams_of(graph)
        node = graph[self.lanes[0]]
        self.speaker, self.turn, self.dialogue = (value.cpu().numpy() for value in (node.speaker, node.turn, node.dialogue))
        pairs = list(zip(true, guess or true, strict=True))
        self.wrong = np.array([t is not None and g is not None and t != g for t, g in pairs])
        if node.y.is_floating_point():  # as in the two-class accuracy of scores: hardly a prediction is exactly neutral
            self.wrong &= np.array([(t == "negative") != (g == "negative") for t, g in pairs])
        count = len(true)
        self.step = min(1.0, max(0.27, 10.5 / count))
        self.size = min(0.32, 0.58 * self.step)  # diameter of a node
        self.inside = self.size > 0.24  # letters fit into the nodes
        found = membership(graph, self.lanes)
        self.hyper = None if found is None else HyperedgeMarks(found, self.dialogue)
        names = [one_line(name, 24) for name in self.lanes]
        self.left = 0.35 + max(width(names, 10, "bold"), width(["predicted", "from earlier"], 8), self.hyper.width if self.hyper else 0)
        self.x = self.left + self.step * (np.arange(count) + 0.5 + 1.5 * self.dialogue)
        self.right = float(self.x[-1]) + self.step / 2

        self.strokes = Strokes(graph, self.lanes, self.x, self.step, self.size)
        y, self.y = _TOP - 0.15, {}
        for i, name in enumerate(self.lanes):
            y += (self.strokes.above[i] + 0.35) if i == 0 or self.strokes.above[i] else 1.0
            self.y[name] = y
        strips = y + max(0.3, self.strokes.below + 0.15)
        hyper_rows = strips + 0.15
        strips += self.hyper.height if self.hyper else 0.0
        self.said = self._said()
        bottom = strips + 0.1 + (0 if self.inside else 0.25) + (0.28 if guess else 0) + 0.13 * max(map(len, self.said), default=0)
        room = max(4.4, self.right - 0.2)
        blocks = legend.columns(self._keys(), room)
        key_width, key_height = legend.size(blocks)
        wide = max(room, key_width) + 0.4
        caption = textwrap.wrap("; ".join([*self.strokes.remarks, *(self.hyper.remarks if self.hyper else [])]), int((wide - 0.4) / 0.062))
        height = bottom + 0.45 + key_height + 0.17 * len(caption)
        self.figure = Figure(figsize=(wide, height), facecolor="white")
        self.axes = self.figure.add_axes((0, 0, 1, 1), xlim=(0, wide), ylim=(height, 0))
        self.axes.set_axis_off()
        self.pen = pen = Pen(self.axes)

        pen.text(0.2, 0.3, self._title(title, wide - 0.4), 12, fontweight="bold")
        for name in self.lanes:
            y = self.y[name]
            self.axes.fill_between([self.left, self.right], y - 0.22, y + 0.22, color=LANE, linewidth=0, zorder=0)
            pen.text(self.left - 0.12, y, one_line(name, 24), 10, ha="right", fontweight="bold")
        if len(graph.dialogue_ids) > 1:
            ends = graph.ptr.tolist()
            for name, start, end in zip(graph.dialogue_ids, ends[:-1], ends[1:], strict=True):
                pen.text(
                    float(self.x[start]) - self.step / 2, _TOP - 0.05, shortened(name, 8, self.step * (end - start + 1)), 8, color=SOFT
                )
        self.strokes.draw(pen, self.left, self.y)
        for name in self.lanes:
            self._draw_nodes(name)
        if self.hyper:
            self.hyper.draw(pen, self.x, self.left, hyper_rows, list(self.y.values()), self.size)
        self._draw_strips(strips)
        legend.draw(pen, blocks, 0.2, bottom + 0.35)
        for i, line in enumerate(caption):
            pen.text(0.2, bottom + 0.25 + key_height + 0.17 * i, line, 7.5, color=SOFT)

    def _title(self, title: str | None, room: float) -> str:
        if title is not None:
            return _cut(title, room, 12)
        ids = self.graph.dialogue_ids
        people = len(set(zip(self.dialogue.tolist(), self.speaker.tolist(), strict=True)))
        size = f" · {count(len(self.true), 'utterance')}, {count(people, 'speaker')}"
        return _cut(ids[0] if len(ids) == 1 else f"{len(ids)} dialogues", room - width([size], 12, "bold"), 12) + size

    # -- nodes -------------------------------------------------------------------------------------------------------------------

    def _draw_nodes(self, stream: str) -> None:
        present = self.graph[stream].present.cpu().numpy()
        colours = [emotion_colour(name) for name in self.true]
        fill, y = np.array(colours), self.y[stream]
        for code in np.unique(self.speaker % len(MARKERS)):
            marker, mine = MARKERS[code], self.speaker % len(MARKERS) == code
            self.pen.mark(self.x[mine & present], y, self.size, marker, fill[mine & present])
            self.pen.mark(self.x[mine & ~present], y, 0.75 * self.size, marker, "white", edgecolors=SOFT, linestyles=DASHED)
            ringed = mine & present & self.wrong
            self.pen.mark(self.x[ringed], y, 1.32 * self.size + 0.035, marker, "none", edgecolors="black", linewidths=1.4)
        if self.inside:
            for x, code, here, colour in zip(self.x.tolist(), self.speaker.tolist(), present.tolist(), colours, strict=True):
                self.pen.text(x, y, letter(code), 8, ha="center", color=ink_on(colour) if here else SOFT)

    def _said(self) -> list[list[str]]:
        """Return the wrapped lines of the text of every utterance; the list is empty without texts, or without room below the nodes."""
        if not self.graph.texts or self.step < 0.6:
            return []
        return [wrapped(text, _WORDS, self.step - 0.16, 3) for text in self.graph.texts]

    def _draw_strips(self, y: float) -> None:
        if not self.inside:
            self.pen.text(self.left - 0.12, y, "speaker", 8, ha="right", color=SOFT)
            for x, code in zip(self.x.tolist(), self.speaker.tolist(), strict=True):
                self.pen.text(x, y, letter(code), 7.5 if code < 99 else 6, ha="center")
            y += 0.25
        if self.guess is not None:
            self.pen.text(self.left - 0.12, y, "predicted", 8, ha="right", color=SOFT)
            edge = np.where(self.wrong, "black", "white")
            fill = [emotion_colour(name) for name in self.guess]
            self.pen.mark(self.x, y, 0.5 * self.size + 0.06, "s", fill, edgecolors=edge, linewidths=1.2)
            y += 0.28
        self.pen.text(self.left - 0.12, y, "turn", 8, ha="right", color=SOFT)
        every = 1 if self.step > 0.4 else 5
        for x, turn in zip(self.x.tolist(), self.turn.tolist(), strict=True):
            if turn % every == 0:
                self.pen.text(x, y, str(turn), 7.5, ha="center", color=SOFT)
        for x, lines in zip(self.x.tolist(), self.said, strict=False):
            for i, line in enumerate(lines):
                self.pen.text(x, y + 0.19 + 0.13 * i, line, _WORDS, ha="center")

    # -- keys --------------------------------------------------------------------------------------------------------------------

    def _keys(self) -> list[Block]:
        used = {*self.true, *(self.guess or ())}
        order = self.graph.labels or ["negative", "neutral", "positive"]
        names = [name for name in dict.fromkeys([*order, *self.true, *(self.guess or ())]) if name in used and name is not None]
        emotions = [Entry(one_line(name, 34), node={"fill": emotion_colour(name)}) for name in names[:16]]
        if len(names) > 16:
            emotions.append(Entry(f"and {len(names) - 16} more"))
        if None in used:
            emotions.append(Entry("unlabelled", node={"fill": MISSING}))
        called: dict[int, dict[str, None]] = {}
        for code, name in zip(self.speaker.tolist(), self.graph.speakers, strict=True):
            called.setdefault(code, {})[name] = None
        people: list[Entry] = []
        for code in sorted(called)[:12]:
            first, *others = called[code]
            people.append(
                Entry(f"{letter(code)} {one_line(first, 22)}{', …' if others else ''}", node={"marker": MARKERS[code % len(MARKERS)]})
            )
        if len(called) > 12:
            people.append(Entry(f"and {len(called) - 12} more"))
        marks: list[Entry] = []
        if not all(bool(self.graph[stream].present.all()) for stream in self.lanes):
            marks.append(Entry("modality missing", node={"edgecolors": SOFT, "linestyles": DASHED}))
        if self.wrong.any():
            marks.append(Entry("wrong prediction", node={"ring": True}))
        blocks = [
            Block("Speaker", people),
            Block("Predicted" if self.predicted else "Emotion", emotions),
            *self.strokes.key_blocks(),
            *(self.hyper.key_blocks() if self.hyper else []),
            Block("Nodes", marks),
        ]
        return [block for block in blocks if block.entries]


def _cut(text: str, room: float, size: float) -> str:
    """Shorten bold text to one line of at most `room` inches."""
    return shortened(text, size, room * 0.88)
