"""The page: complete, self-contained, and with nothing of a corpus but text."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from erc_graph.errors import CheckpointError, StorageError
from erc_graph.report.page import Contents, render_page, write_page
from erc_graph.report.predictions import Predictions

from .conftest import HOSTILE, conversation

Make = Callable[..., Contents]


class Reader(HTMLParser):
    """Elements, attributes and headings of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.scripts: list[str] = []
        self.inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")
            self.inside = True

    def handle_endtag(self, tag: str) -> None:
        self.inside = False if tag == "script" else self.inside

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.scripts[-1] += data
        else:
            self.text += data


def test_everything_is_there_and_nothing_is_loaded(make: Make) -> None:
    page = render_page(make())
    reader = Reader(page)
    ids = [values["id"] for _, values in reader.elements if values.get("id")]
    assert {"training", "classes", "states", "calibration", "errors", "explorer", "data"} <= set(ids)
    assert len(ids) == len(set(ids)), "ids of the drawings must differ"
    svg = [values for tag, values in reader.elements if tag == "svg" and values.get("role") == "img"]
    assert len(svg) == 3 and all(values["aria-label"] for values in svg)
    for tag, values in reader.elements:
        for name in ("src", "href", "action", "data", "srcset"):
            assert (values.get(name) or "#").startswith(("#", "data:")), (tag, values)
        assert not any(name.startswith("on") for name in values), (tag, values)
    assert "@import" not in page and not re.search(r"url\((?!#|\"?data:)", page)
    assert set(re.findall(r"https?://[^\s\"'<>]+", page)) == {"http://www.w3.org/2000/svg"}  # a name, not a place
    assert {tag for tag, _ in reader.elements} & {"link", "iframe", "object", "embed", "base"} == {"link"}  # the empty icon


def test_the_policy_names_the_one_script(make: Make) -> None:
    reader = Reader(render_page(make()))
    assert len(reader.scripts) == 2 and [v.get("type") for t, v in reader.elements if t == "script"] == ["application/json", None]
    policy = next(values["content"] for tag, values in reader.elements if values.get("http-equiv") == "Content-Security-Policy")
    digest = base64.b64encode(hashlib.sha256(reader.scripts[1].encode()).digest()).decode()
    assert policy is not None and f"script-src 'sha256-{digest}'" in policy and "default-src 'none'" in policy


def test_what_a_corpus_says_is_text(make: Make) -> None:
    page = render_page(make())
    assert "<script>alert" not in page and "<img src=x" not in page and "<svg onload" not in page
    data = json.loads(Reader(page).scripts[0])
    assert data["conversations"][1]["t"][0] == HOSTILE and data["conversations"][1]["i"] == f"d{HOSTILE}"
    assert "mine &lt;script&gt;" in page


def test_drawings_follow_the_page(make: Make) -> None:
    page = render_page(make())
    drawn = "".join(re.findall(r"<svg .*?</svg>", page, re.DOTALL))
    assert "var(--ink)" in drawn and "var(--card)" in drawn and "var(--e0)" in drawn and "var(--first)" in drawn
    assert not re.search(r"(fill|stroke): #", drawn), set(re.findall(r"(?:fill|stroke): #\w+", drawn))


def test_headline_and_errors(make: Make) -> None:
    contents = make()
    text = Reader(render_page(contents)).text
    assert "0.650" in text and "± 0.071" in text and "official; two seeds" in text and "majority" in text
    worst = contents.predictions.worst()
    assert worst and text.count("talk-") + text.count("d<script>") >= len(worst)
    for row in worst:
        assert re.search(rf"{re.escape(contents.predictions.dialogue[row])}, turn \d", text)


def test_without_text(make: Make) -> None:
    page = render_page(make(text=False))
    assert "sentence 3 of" not in page and "alert(2)" not in page and "This page contains no text of the corpus" in " ".join(page.split())
    assert "sentence 3 of" in render_page(make())


def test_what_is_not_known_is_left_out(make: Make, tmp_path: Path) -> None:
    picture = tmp_path / "curves.png"
    picture.write_bytes(b"\x89PNG")
    given = make(history=None, states=None, pictures={"curves": picture, "projection": tmp_path / "none.png"}, notes=["gone: <b>"])
    page = render_page(given)
    assert "data:image/png;base64,iVBORw==" in page and 'id="states"' not in page and "gone: &lt;b&gt;" in page
    picture.unlink()
    os.mkfifo(picture)
    with pytest.raises(CheckpointError, match=r"curves\.png: expected a regular file, found a named pipe"):
        render_page(given)


def test_no_error_no_label_twice_no_graph(make: Make) -> None:
    plain = conversation(3, 4, edges=None, present=None)
    right = conversation(3, 4, edges=None, present=None, target=plain.guess)
    page = render_page(make(conversations=[right], streams=()))
    assert "No error among the evaluated utterances." in page and "strongest incoming edges are highlighted" not in page


def test_scores(make: Make) -> None:
    random = np.random.default_rng(0)
    scores = random.uniform(-3, 3, (6, 2))
    seven = np.round(scores).astype(int) + 3
    names = tuple(f"{value:+d}" for value in range(-3, 4))
    c = conversation(1, 6, probabilities=None, scores=scores, target=seven[:, 0], guess=seven[:, 1])
    found = Predictions(labels=names, dialogue=(c.id,) * 6, utterance=c.utterances, target=seven[:, 0], guess=seven[:, 1], scores=scores)
    base = make()
    result: dict[str, Any] = {**base.result, "labels": [], "metrics": {"test": {"mae": {"values": [0.9]}}}, "seeds": [0]}
    page = render_page(Contents(
        result=result, columns=[("mae", "MAE")], protocol="p", predictions=found, conversations=[c], streams=("audio", "text"),
    ))  # fmt: skip
    assert 'id="calibration"' not in page and "The largest errors" in page and "0.900" in page and "±" not in Reader(page).text


def test_written_as_a_whole(make: Make, tmp_path: Path) -> None:
    path = write_page(tmp_path / "report.html", make())
    content = path.read_text(encoding="utf-8")
    assert content.rstrip().endswith("</html>") and [file.name for file in tmp_path.iterdir()] == ["report.html"]
    with pytest.raises(StorageError, match="could not be written"):
        write_page(path / "below.html", make())
