"""Conversation graphs as one HTML page that opens offline; the page shows the edges of the utterance that has mouse or keyboard focus.

The page uses no library. Libraries such as vis-network and plotly have a size of at least half a megabyte, and their layouts do not order
utterances by time. The page is the file `interactive.html` of this folder (about 30 kB), into which the graphs are written as JSON. Texts
are inserted only as text nodes, and the content security policy of the page allows nothing from other sources.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from erc_graph.data.files.storage import atomic_write
from erc_graph.data.palette import emotion_colour
from erc_graph.errors import ConfigError
from erc_graph.graphs.convert import Labels, label_names, streams_of
from erc_graph.graphs.graphml import write_graphml
from erc_graph.graphs.rules import HYPEREDGE
from erc_graph.report.draw import draw_graph
from erc_graph.report.drawn_edges import crowded, joined_lines, strongest
from erc_graph.report.drawn_hyperedges import Membership, membership
from erc_graph.report.pen import letter
from erc_graph.report.relation_styles import DASHES, looks

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

KINDS = ("png", "svg", "graphml", "html")
_PAGE = Path(__file__).with_suffix(".html")


def write_page(
    graphs: Iterable[HeteroData], path: str | Path, *, predictions: Iterable[Labels | None] | None = None, title: str | None = None
) -> Path:
    """Write one self-contained page of one or several conversation graphs, atomically.

    Args:
        graphs: Graphs from `build_graph` or from the method `graph` of a pipeline.
        path: File name that ends in `.html`.
        predictions: For each graph, one prediction per utterance as in `draw_graph`. If no utterance has a label, nodes have the colours of
            the predictions.
        title: Title of the page.

    Raises:
        ConfigError: the file type is unknown, there is no graph, or predictions do not fit a graph.
        StorageError: the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"graph page: expected a file name ending in .html, found {path.name!r}")
    text = page(graphs, predictions=predictions, title=title)
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="replace")
    return path


def page(graphs: Iterable[HeteroData], *, predictions: Iterable[Labels | None] | None = None, title: str | None = None) -> str:
    """Return the page of `write_page` as text.

    Raises:
        ConfigError: there is no graph, or predictions do not fit a graph.
    """
    known = list(graphs)
    guesses = [None] * len(known) if predictions is None else list(predictions)
    if not known or len(guesses) != len(known):
        raise ConfigError(
            f"graph page: expected graphs, each with a list of predictions, found {len(known)} graphs and {len(guesses)} lists"
        )
    views = [view for graph, guess in zip(known, guesses, strict=True) for view in _views(graph, guess)]
    heading = title if title is not None else views[0]["id"] if len(views) == 1 else f"{len(views)} conversations"
    # `<` never appears in the data as itself: no text can end the element that holds it.
    data = json.dumps(views, ensure_ascii=False, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    template = _PAGE.read_text(encoding="utf-8")
    start, middle, end = template.split("{{title}}")[0], template.split("{{title}}")[1].split("{{data}}")[0], template.split("{{data}}")[1]
    return "".join((start, escape(heading), middle, data, end)).encode("utf-8", "replace").decode()


def _views(graph: HeteroData, predictions: Labels | None) -> list[dict[str, Any]]:
    """Return the data of the page for each dialogue; the node of stream `lane` and utterance `turn` has the index `lane * turns + turn`."""
    lanes = streams_of(graph)
    node = graph[lanes[0]]
    score = node.y.is_floating_point()
    count = len(graph.speakers)
    true = label_names(node.y, graph.labels, count, "labels", score)
    guess = [None] * count if predictions is None else label_names(predictions, graph.labels, count, "predictions", score)
    kinds = [kind for kind in graph.edge_types if HYPEREDGE not in (kind[0], kind[2])]
    found, look_of = looks(kinds)
    relations = list(look_of)
    flat = _edges(graph, kinds, lanes, relations)
    rest = _rest(graph, lanes, relations)
    hyper = membership(graph, lanes)
    ends = graph.ptr.tolist()
    used = list(dict.fromkeys(name for name in [*(graph.labels or ["negative", "neutral", "positive"]), *true, *guess] if name is not None))
    views = []
    for dialogue, first, last in zip(graph.dialogue_ids, ends[:-1], ends[1:], strict=True):
        turns = last - first

        def own(rows: np.ndarray, first: int = first, turns: int = turns) -> np.ndarray:
            """Convert node indices of the whole graph to node indices of this dialogue."""
            return rows // count * turns + rows % count - first

        def inside(rows: np.ndarray, first: int = first, last: int = last) -> np.ndarray:
            return (rows % count >= first) & (rows % count < last)

        codes = node.speaker[first:last].tolist()
        called: dict[int, str] = {}
        for code, name in zip(codes, graph.speakers[first:last], strict=True):
            called.setdefault(code, name)
        present = {*true[first:last], *guess[first:last]}
        views.append(
            {
                "id": dialogue,
                "lanes": lanes,
                "turns": turns,
                "turn": node.turn[first:last].tolist(),
                "speaker": codes,
                "speakers": {code: [letter(code), name] for code, name in sorted(called.items())},
                "label": true[first:last],
                "guess": guess[first:last] if predictions is not None else None,
                "colours": {name: emotion_colour(name) for name in used if name in present},
                "text": list(graph.texts[first:last]),
                "present": [graph[lane].present[first:last].int().tolist() for lane in lanes],
                "relations": relations,
                "look": [look_of[relation] for relation in relations],
                "looks": [{"name": look.name, "colour": look.colour, "dash": DASHES[look.dash]} for look in found],
                "edges": _listed(flat, inside(flat["target"]), own, ("source", "target")),
                "rest": _listed(rest, inside(rest["a"]), own, ("a", "b")),
                "hyper": [] if hyper is None else _hyperedges(hyper, inside(hyper.row), first, turns),
            }
        )
    return views


def _edges(graph: HeteroData, kinds: list[tuple[str, str, str]], lanes: list[str], relations: list[str]) -> dict[str, np.ndarray]:
    """Return all edges between nodes of utterances; the node of stream `s` and utterance `u` of `U` has the index `s * U + u`."""
    parts: dict[str, list[np.ndarray]] = {key: [np.empty(0, dtype=np.int64)] for key in ("source", "target", "relation", "weight")}
    count = len(graph.speakers)
    for m, relation, n in kinds:
        edge = graph[m, relation, n]
        source, target = edge.edge_index.cpu().numpy()
        parts["source"].append(source + lanes.index(m) * count)
        parts["target"].append(target + lanes.index(n) * count)
        parts["relation"].append(np.full(len(source), relations.index(relation)))
        parts["weight"].append(
            edge.edge_weight.detach().float().cpu().numpy() if "edge_weight" in edge else np.full(len(source), np.nan, dtype=np.float32)
        )
    return {key: np.concatenate(values) for key, values in parts.items()}


def _rest(graph: HeteroData, lanes: list[str], relations: list[str]) -> dict[str, np.ndarray]:
    """Return the lines that the page shows while no utterance is selected; these are the lines that `draw_graph` draws."""
    count = len(graph.speakers)
    parts: dict[str, list[np.ndarray]] = {
        key: [np.empty(0, dtype=np.int64)] for key in ("a", "b", "relation", "weight", "towards", "times")
    }
    within = [lines.take(lines.a != lines.b) for lines in (joined_lines(graph, name, name, relations) for name in lanes)]
    shown = [np.ones(len(lines.a), dtype=bool) for lines in within]
    for start, end in pairwise(graph.ptr.tolist()):
        own = [np.flatnonzero((lines.a >= start) & (lines.a < end)) for lines in within]
        if crowded([lines.take(rows) for lines, rows in zip(within, own, strict=True)], end - start):
            for lines, rows, mask in zip(within, own, shown, strict=True):
                mask[rows] = strongest(lines.take(rows), end - start)
    for i, first in enumerate(lanes):
        for j, second in enumerate(lanes[i:], start=i):
            lines = within[i].take(shown[i]) if i == j else joined_lines(graph, first, second, relations)
            parts["a"].append(lines.a + i * count)
            parts["b"].append(lines.b + j * count)
            for key in ("relation", "weight", "towards", "times"):
                parts[key].append(getattr(lines, key))
    return {key: np.concatenate(values) for key, values in parts.items()}


def _listed(
    flat: dict[str, np.ndarray], chosen: np.ndarray, own: Callable[[np.ndarray], np.ndarray], ends: tuple[str, str]
) -> dict[str, list[Any]]:
    """Return the selected edges, as one list per column; `own` converts the node indices in the columns `ends` to those of a dialogue."""
    found = {key: own(values[chosen]) if key in ends else values[chosen] for key, values in flat.items()}
    return {key: _rounded(values) if key == "weight" else values.astype(np.int64).tolist() for key, values in found.items()}


def _hyperedges(found: Membership, here: np.ndarray, first: int, turns: int) -> list[dict[str, Any]]:
    """Return the hyperedges of one dialogue with the node indices of their members."""
    upright = found.upright
    listed: dict[int, dict[str, Any]] = {}
    columns = (found.edge[here].tolist(), (found.stream * turns + found.row - first)[here].tolist(), _rounded(found.weight[here]))
    for edge, member, weight in zip(*columns, strict=True):
        about = {"name": found.names[edge], "relation": found.relations[edge], "upright": bool(upright[edge]), "members": [], "weight": []}
        one = listed.setdefault(edge, about)
        one["members"].append(member)
        one["weight"].append(weight)
    return list(listed.values())


def _rounded(weights: np.ndarray) -> list[float | None]:
    """Round weights to three digits; a missing weight is `None`."""
    return [None if weight != weight else round(weight, 3) for weight in weights.astype(np.float64).tolist()]


@dataclass(frozen=True, eq=False)
class GraphView:
    """A view of a graph. A notebook shows the view as an interactive page, and `save` writes the graph to a file.

    Attributes:
        graph: Graph from `build_graph` or from the method `graph` of a pipeline.
        predictions: One prediction per utterance, as in `draw_graph`; default: none.
        title: Title; default: id of the dialogue.
    """

    graph: HeteroData
    predictions: Labels | None = None
    title: str | None = None

    def __repr__(self) -> str:
        graph = self.graph
        edges = sum(graph[kind].num_edges for kind in graph.edge_types if HYPEREDGE not in (kind[0], kind[2]))
        what = graph.dialogue_ids[0] if len(graph.dialogue_ids) == 1 else f"{len(graph.dialogue_ids)} dialogues"
        return f"GraphView({what}: {len(graph.speakers)} turns in {', '.join(streams_of(graph))}; {edges} edges)"

    @cached_property
    def html(self) -> str:
        """Return the interactive page as HTML text; the page needs no other files."""
        return page([self.graph], predictions=[self.predictions], title=self.title)

    def _repr_html_(self) -> str:
        # In a frame of its own: the notebook's styles and scripts and those of the page do not meet.
        return (
            f'<iframe title="{escape(repr(self), quote=True)}" srcdoc="{escape(self.html, quote=True)}" sandbox="allow-scripts" '
            'style="width:100%;height:640px;border:0"></iframe>'
        )

    def save(self, path: str | Path) -> Path:
        """Write a `.png`, `.svg`, `.graphml` or `.html` file, atomically.

        Raises:
            ConfigError: the file type is unknown, or predictions do not fit the graph.
            StorageError: the file cannot be written.
        """
        path = Path(path)
        kind = path.suffix.lower().removeprefix(".")
        if kind not in KINDS:
            raise ConfigError(f"graph: expected a file name ending in {', '.join(f'.{kind}' for kind in KINDS)}, found {path.name!r}")
        if kind == "graphml":
            return write_graphml(self.graph, path, predictions=self.predictions)
        if kind == "html":
            return write_page([self.graph], path, predictions=[self.predictions], title=self.title)
        return draw_graph(self.graph, path, predictions=self.predictions, title=self.title)


def show(graph: HeteroData, *, predictions: Labels | None = None, title: str | None = None) -> GraphView:
    """Return a view of a graph, which a notebook shows as an interactive page.

    Args:
        graph: Graph from `build_graph` or from the method `graph` of a pipeline.
        predictions: One prediction per utterance, as in `draw_graph`; default: none.
        title: Title; default: id of the dialogue.

    >>> from erc_graph.data.sample.vectors import sample_corpus
    >>> from erc_graph.graphs.build import build_graph
    >>> show(build_graph(sample_corpus(dialogues=10)[0], "window"))
    GraphView(sample-0: 27 turns in text, audio, visual; 1315 edges)
    """
    return GraphView(graph=graph, predictions=predictions, title=title)
