"""The report of a run as one page that opens offline, without remote scripts, styles, fonts or pictures.

The content of a corpus is treated as data: jinja2 escapes it in the page, and `explorer.json_block` escapes it in the data of the script.
The content security policy of the page lets only one script run: the script whose SHA-256 hash the policy contains.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from erc_graph.data.files.budget import content_of
from erc_graph.data.files.storage import atomic_write
from erc_graph.data.palette import label_colours
from erc_graph.data.printable import one_line
from erc_graph.errors import CheckpointError, ErcGraphError
from erc_graph.report import curves as curves_
from erc_graph.report.calibration import ACCURACY, GAP, plot_calibration, reliability
from erc_graph.report.curves import HistoryLike, plot_curves
from erc_graph.report.explorer import Conversation, json_block, pack
from erc_graph.report.figure import FAINT, INK, SOFT
from erc_graph.report.predictions import Predictions
from erc_graph.report.projection import plot_projection
from erc_graph.report.text_tables import mean_std

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

TEMPLATES = Path(__file__).parent / "templates"
BEFORE, AFTER = 2, 1  # turns shown around an error
INKS = {INK: "ink", SOFT: "soft", FAINT: "line", "#FFFFFF": "card", curves_._COLOURS[0]: "first", curves_._COLOURS[1]: "second"}


@dataclass(frozen=True, kw_only=True)
class Contents:
    """The content of a report.

    Attributes:
        result: Content of the run's result.json.
        columns: `(metric, heading)` of the metrics at the top of the page, the most important metric first.
        protocol: Description of the evaluation: split, selection of the epoch, seeds.
        predictions: Predictions of the first seed.
        conversations: Conversations of the explorer, including all conversations of `predictions`.
        streams: Streams of the graph, such as modalities; empty without a graph.
        history: Training history of the first seed and fold; `None` if unknown.
        states: `(N, k)`: the `k` inputs of the classifier for each of the `N` predicted utterances; `None` if unknown.
        pictures: Files of the pictures `curves` and `projection`, which are shown if `history` or `states` is unknown.
        notes: Notes for the reader, which name missing sections and the reasons.
        text: Whether the page contains the texts of the corpus.
    """

    result: Mapping[str, Any]
    columns: Sequence[tuple[str, str]]
    protocol: str
    predictions: Predictions
    conversations: Sequence[Conversation]
    streams: Sequence[str] = ()
    history: HistoryLike | None = None
    states: NDArray[np.float32] | None = None
    pictures: Mapping[str, Path] = field(default_factory=dict)
    notes: Sequence[str] = ()
    text: bool = True


def write_page(path: str | Path, contents: Contents) -> Path:
    """Write the report atomically.

    Raises:
        StorageError: the file cannot be written.
    """
    page = render_page(contents).encode("utf-8", errors="replace")  # a lone surrogate is no character of any page
    with atomic_write(path) as temporary:
        temporary.write_bytes(page)
    return Path(path)


def render_page(contents: Contents) -> str:
    """Return the report as the text of an HTML page."""
    from markupsafe import Markup

    found = contents.predictions
    script = (TEMPLATES / "explorer.js").read_text(encoding="utf-8")
    data = pack(contents.conversations, found.labels, contents.streams, text=contents.text)
    return environment().get_template("page.html").render(
        title=f"{contents.result['method']} on {contents.result['dataset']}",
        result=contents.result,
        protocol=contents.protocol,
        notes=contents.notes,
        text=contents.text,
        labels=found.labels,
        colours=label_colours(list(found.labels)),
        tiles=_tiles(contents),
        compared=_compared(contents),
        facts=_facts(contents.result),
        confusion=_confusion(found),
        classes=_classes(contents),
        curves=_picture(contents, "curves"),
        projection=_picture(contents, "projection"),
        calibration=_calibration(found),
        errors=_errors(contents),
        conversations=contents.conversations,
        streams=contents.streams,
        turns=sum(len(c) for c in contents.conversations),
        judged=len(found),
        style=Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),
        script=Markup(script),
        digest=digest(script),
        data=Markup(json_block(data)),
    )  # fmt: skip


def digest(script: str) -> str:
    """Return the SHA-256 hash of a script in base64, for the content security policy of a page."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def environment() -> Environment:
    """Return the jinja2 environment of the page templates; the environment escapes all values that are not marked as HTML."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["line"] = one_line
    return environment


# -- headline -------------------------------------------------------------------------------


def _tiles(contents: Contents) -> list[dict[str, str]]:
    """Return name, mean and standard deviation of each metric at the top of the page."""
    test = contents.result["metrics"]["test"]
    return [
        {"name": heading, "value": value.partition(" ± ")[0], "spread": value.partition(" ± ")[2]}
        for key, heading in contents.columns
        if key in test and (value := mean_std(test[key]["values"]))
    ]


def _compared(contents: Contents) -> list[tuple[str, list[str]]]:
    """Return the table rows of the method and its baselines."""
    rows = [(str(contents.result["method"]), contents.result["metrics"]["test"])]
    baselines = contents.result.get("baselines", {})
    rows += [(name, baselines[key]) for key, name in (("bigru", "BiGRU"), ("majority", "majority")) if key in baselines]
    return [(name, [mean_std(values[key]["values"]) if key in values else "–" for key, _ in contents.columns]) for name, values in rows]


def _facts(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return facts about the run: parameters, time, seeds, code version, packages and data."""
    machine = result.get("environment", {})
    facts = {
        "parameters": f"{result['parameters']:,}",
        "time per epoch": f"{result['seconds_per_epoch']:.2f} s on {machine.get('device', 'an unknown device')}",
        "seeds": f"{', '.join(map(str, result['seeds']))}; results that are not means are from seed {result['seeds'][0]}",
        "commit": machine.get("git_commit"),
        "packages": ", ".join(f"{name} {version}" for name, version in machine.get("packages", {}).items()),
        "SHA-256 of the data": result.get("data_sha256"),
        **{f"{name} features": extractor for name, extractor in result.get("data", {}).get("extractors", {}).items()},
    }
    return [(name, str(value)) for name, value in facts.items() if value]


# -- classes --------------------------------------------------------------------------------


def _confusion(found: Predictions) -> list[dict[str, Any]]:
    """Return the rows of the confusion matrix; each cell has a count and its share of the utterances of the true class."""
    counts = found.confusion
    total = counts.sum(1)
    return [
        {
            "label": label,
            "total": int(total[i]),
            "cells": [
                {"count": int(n), "share": float(n / max(total[i], 1)), "true": i, "guess": j} for j, n in enumerate(counts[i].tolist())
            ],
        }
        for i, label in enumerate(found.labels)
    ]


def _classes(contents: Contents) -> list[dict[str, Any]]:
    test = contents.result["metrics"]["test"]
    rows = []
    for label, (precision, recall, f1, count) in zip(contents.predictions.labels, contents.predictions.per_class(), strict=True):
        seeds = test[f"f1/{label}"]["values"] if f"f1/{label}" in test else [f1]
        rows.append({"precision": precision, "recall": recall, "f1": float(np.mean(seeds)), "seeds": mean_std(seeds), "count": count})
    return rows


# -- pictures -------------------------------------------------------------------------------


def _picture(contents: Contents, name: str) -> Markup | None:
    """Return a drawing with the colours of the page; if the data for the drawing is unknown, return the picture file of the run."""
    history, states, found = contents.history, contents.states, contents.predictions
    try:
        if name == "curves" and history is not None:
            return inline_svg(lambda path: plot_curves(history, path), name, "Training loss and development metrics over the epochs")
        if name == "projection" and states is not None:
            return inline_svg(
                lambda path: plot_projection(states, found.target, found.labels, path),
                name,
                "Inputs of the classifier for the test utterances in two dimensions, coloured by true emotion",
                {colour: f"e{i}" for i, colour in enumerate(label_colours(list(found.labels)))},
            )
    except ErcGraphError:  # nothing to draw, for example no epoch
        return None
    picture = contents.pictures.get(name)
    return _embedded(picture, name) if picture is not None else None


def _calibration(found: Predictions) -> dict[str, Any] | None:
    if found.probabilities is None:
        return None
    bins = reliability(found.probabilities, found.target)
    drawn = inline_svg(lambda path: plot_calibration(bins, path), "calibration", "Reliability diagram: accuracy by confidence")
    return {"picture": drawn, "error": bins.error, "over": bins.overconfidence}


def inline_svg(draw: Callable[[Path], object], name: str, title: str, colours: Mapping[str, str] | None = None) -> Markup:
    """Return a drawing as inline SVG with the colour variables of the page, so that the drawing changes with the light or dark theme."""
    import matplotlib
    from markupsafe import Markup, escape

    with TemporaryDirectory() as folder, matplotlib.rc_context({"svg.fonttype": "none"}):
        path = Path(folder) / f"{name}.svg"
        draw(path)
        text = path.read_text(encoding="utf-8")
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", text)  # ids of several pictures in one page must differ
    for colour, variable in {**INKS, ACCURACY: "first", GAP: "second", **(colours or {})}.items():
        text = re.sub(rf"((?:fill|stroke): ){colour}", rf"\1var(--{variable})", text, flags=re.IGNORECASE)
    head, rest = text.split(">", 1)
    head = re.sub(r' (width|height|xmlns(:xlink)?|version)="[^"]*"', "", head)
    return Markup(f'{head} role="img" aria-label="{escape(title)}">{rest.strip()}').replace("xlink:href", "href")


def _embedded(path: Path, name: str) -> Markup | None:
    """Return an HTML element that contains a PNG file; `None` if the file cannot be read.

    Raises:
        CheckpointError: the path is not a regular file.
    """
    from markupsafe import Markup

    try:
        content = base64.b64encode(content_of(path, CheckpointError)).decode()
    except OSError:
        return None
    return Markup(f'<img alt="{name}, drawn by the run" src="data:image/png;base64,{content}">')


# -- errors ---------------------------------------------------------------------------------


def _errors(contents: Contents) -> list[dict[str, Any]]:
    """Return the most confident wrong predictions (or the largest errors of scores), each with the adjacent utterances."""
    found = contents.predictions
    place = {(c.id, name): (i, t) for i, c in enumerate(contents.conversations) for t, name in enumerate(c.utterances)}
    errors = []
    for row in found.worst():
        where = place.get((found.dialogue[row], found.utterance[row]))
        if where is None:
            continue
        number, turn = where
        c = contents.conversations[number]
        around = range(max(turn - BEFORE, 0), min(turn + AFTER + 1, len(c)))
        errors.append(
            {
                "conversation": number,
                "turn": turn,
                "id": c.id,
                "true": int(found.target[row]),
                "guess": int(found.guess[row]),
                "sure": float(found.probabilities[row, found.guess[row]]) if found.probabilities is not None else None,
                "scores": found.scores[row].tolist() if found.scores is not None else None,
                "turns": [
                    {
                        "here": t == turn,
                        "number": t,
                        "speaker": c.speakers[t] if c.speakers else "",
                        "text": c.texts[t] if contents.text and c.texts else "",
                        "true": int(c.target[t]),
                    }
                    for t in around
                ],
            }
        )
    return errors
