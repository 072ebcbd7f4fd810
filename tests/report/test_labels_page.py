"""The page of `predict --html`: complete, self-contained, small; what was said is text; and it works in a real Chromium."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from erc_graph.data.tasks import MELD7
from erc_graph.errors import StorageError
from erc_graph.report.explorer import Conversation
from erc_graph.report.labels_page import LabelsPage, packed, render_labels, write_labels_page

from .conftest import HOSTILE, LABELS
from .test_browser import POOR, browser  # noqa: F401
from .test_page import Reader
from .test_turning_points import talk

WORDS = "but I really do not know what you mean by that, так что давай поговорим об этом завтра в конторе"
NASTY = (
    HOSTILE,
    "</script><img src=x onerror=alert(2)>",
    "a & b \u2028 c \x00 \ud800",
    "\u202eright to left\u202c \x1b[31m \ufeff",
    "w" * 5000,
    "",
)


def hostile() -> Conversation:
    """Markup, quotes, line separators, control and bidi characters, a lone surrogate, a very long word."""
    names = ("<b>Eve</b>", "\u202eAnn\"'", "<b>Eve</b>", "x" * 300, "<b>Eve</b>", "\u202eAnn\"'")
    return talk(id=f"d{HOSTILE}", texts=NASTY, speakers=names, times=("0:03", f"{HOSTILE}", "", "", "", "1:00:05"))


def page(*conversations: Conversation, **changes: Any) -> LabelsPage:
    values: dict[str, Any] = {
        "title": f"talk {HOSTILE}.txt", "model": "Pairwise reads text", "labels": LABELS, "conversations": conversations or (talk(),),
        "notes": [f"one conversation {HOSTILE}"],
    }  # fmt: skip
    return LabelsPage(**{**values, **changes})


def long(turns: int, number: int = 0) -> Conversation:
    chances = np.random.default_rng(number).dirichlet(np.ones(7), turns)
    return Conversation(
        id=f"long-{number}", split="", utterances=tuple(map(str, range(turns))),
        speakers=tuple(("Ann", "Bob", "Eve")[t % 3] for t in range(turns)),
        texts=tuple(f"{t}: {WORDS}" for t in range(turns)), times=tuple(f"{t // 60}:{t % 60:02d}" for t in range(turns)),
        target=np.full(turns, -1), guess=chances.argmax(1), probabilities=chances, unsure=chances.max(1) < 0.5,
    )  # fmt: skip


def data(text: str) -> Any:
    return json.loads(Reader(text).scripts[0])


def test_everything_is_there_and_nothing_is_loaded() -> None:
    text = render_labels(page(talk(), hostile(), unsure=0.5))
    reader = Reader(text)
    ids = [values["id"] for _, values in reader.elements if values.get("id")]
    assert {"time", "explorer", "speakers", "turning", "limits", "data", "course", "list", "chat", "detail"} <= set(ids)
    assert len(ids) == len(set(ids))
    for tag, values in reader.elements:
        for name in ("src", "href", "action", "data", "srcset"):
            assert (values.get(name) or "#").startswith(("#", "data:")), (tag, values)
        assert not any(name.startswith("on") for name in values), (tag, values)
    assert "@import" not in text and not re.search(r"url\((?!#|\"?data:)", text)
    assert set(re.findall(r"https?://[^\s\"'<>]+", text)) == {"http://www.w3.org/2000/svg"}  # a name, not a place
    said = " ".join(reader.text.split())
    assert "is below 0.5" in said and "no diagnosis" in said and "sarcasm" in said and "at most 5" in said
    assert "is below" not in render_labels(page())


def test_the_policy_names_the_one_script() -> None:
    reader = Reader(render_labels(page()))
    assert [values.get("type") for tag, values in reader.elements if tag == "script"] == ["application/json", None]
    policy = next(values["content"] for _, values in reader.elements if values.get("http-equiv") == "Content-Security-Policy")
    digest = base64.b64encode(hashlib.sha256(reader.scripts[1].encode()).digest()).decode()
    assert policy is not None and f"script-src 'sha256-{digest}'" in policy and "default-src 'none'" in policy


def test_what_was_said_is_text(tmp_path: Path) -> None:
    content = write_labels_page(tmp_path / "a.html", page(hostile())).read_text(encoding="utf-8")
    assert "<script>alert" not in content and "<img" not in content and not set("\u2028\u202e\x00\x1b\ufeff") & set(content)
    found = data(content)["conversations"][0]
    assert tuple(found["t"]) == NASTY and found["i"] == f"d{HOSTILE}" and found["w"][1] == HOSTILE
    assert found["n"] == ["<b>Eve</b>", "\u202eAnn\"'", "x" * 300]
    assert "talk &lt;script&gt;" in content and "one conversation &lt;script&gt;" in content


def test_totals_turning_points_and_tiles_by_hand() -> None:
    unsure = np.array([False, False, False, True, False, False])
    text = render_labels(page(talk(unsure=unsure), talk(id="b", speakers=("Bob", "Ann") * 3), unsure=0.45))
    first, second = data(text)["conversations"]
    assert first["n"] == ["Ann", "Bob"] and first["a"] == [[2, 1, 0], [1, 2, 0]]
    assert first["c"] == [[2, 0, 60], [4, 2, 50], [5, 3, 30]] and first["u"] == [3] and "u" not in second
    assert second["n"] == ["Ann", "Bob"] and second["s"] == [1, 0] * 3, "a speaker keeps the side"
    assert second["a"] == [[1, 2, 0], [2, 1, 0]]
    tiles = re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", text)
    assert tiles == [
        ("conversations", "2"),
        ("utterances", "12"),
        ("speakers", "2"),
        ("most frequent", "joy, 0.50"),
        ("unsure, below 0.45", "1 of 12"),
    ]


def test_scores() -> None:
    scores = np.array([[np.nan, value] for value in (-1.2, 0.4, -0.4, 2.0, 0.3, 0.2)])
    labels = [f"{value:+d}" for value in range(-3, 4)]
    scored = page(talk(probabilities=None, scores=scores, guess=np.array([2, 3, 3, 5, 3, 3])), labels=labels)
    assert packed(scored)["conversations"][0]["c"] == [[5, 3, 1.8], [3, 1, 1.6], [2, 0, 0.8]]
    assert "the score of every utterance" in render_labels(scored) and "difference of the two scores" in render_labels(scored)


def test_five_hundred_turns_are_below_300_kb(tmp_path: Path) -> None:
    path = write_labels_page(tmp_path / "a.html", page(long(500), labels=MELD7, unsure=0.5))
    assert 100_000 < path.stat().st_size < 300_000
    assert "давай" in path.read_text(encoding="utf-8")  # as it is, not as six bytes a letter


def test_written_as_a_whole(tmp_path: Path) -> None:
    path = write_labels_page(tmp_path / "a.html", page())
    assert path.read_text(encoding="utf-8").rstrip().endswith("</html>") and [file.name for file in tmp_path.iterdir()] == ["a.html"]
    with pytest.raises(StorageError, match="could not be written"):
        write_labels_page(path / "below.html", page())


# -- in a browser ---------------------------------------------------------------------------

Visit = Callable[..., Any]


@pytest.fixture
def visit(browser: Any, tmp_path: Path) -> Iterator[Visit]:  # noqa: F811
    """Open a page; fails at the end if anything was said on the console, asked for, or popped up."""
    contexts, said = [], []

    def open_(shown: LabelsPage, width: int = 1280, scheme: str = "light", place: str = "") -> Any:
        path = write_labels_page(tmp_path / "a.html", shown)
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True, reduced_motion="reduce")
        contexts.append(context)
        tab = context.new_page()
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("dialog", lambda dialog: (said.append(f"dialog {dialog.message}"), dialog.dismiss()))
        tab.on("request", lambda request: said.append(request.url) if not request.url.startswith(("file:", "data:")) else None)
        tab.goto(path.as_uri() + place)
        tab.wait_for_selector("#chat li")
        return tab

    yield open_
    for context in contexts:
        context.close()
    assert said == []


@pytest.mark.slow
@pytest.mark.browser
def test_a_turn_and_its_probabilities(visit: Visit) -> None:
    tab = visit(page(talk(texts=tuple("abcdef"), times=tuple("012345"), unsure=np.arange(6) == 3), unsure=0.45))
    assert not tab.is_visible("#list") and tab.inner_text("#chat li:nth-child(1) .tags").split() == ["joy", "0.70", "0"]
    assert "unsure" in tab.inner_text("#chat li:nth-child(4) .tags") and tab.locator("#chat li.unsure").count() == 1
    tab.hover("#chat li:nth-child(3) .bubble")
    assert tab.inner_text("#detail h3") == "Turn 2 · Ann"
    assert [text.strip() for text in tab.locator("#detail .bars dd").all_inner_texts()] == ["0.10", "0.80", "0.10"]
    assert tab.inner_text("#pointed").startswith("Turn 2 · Ann · sadness 0.80") and "true" not in tab.inner_text("#detail")
    tab.focus("#chat li:nth-child(1)")
    tab.keyboard.press("End")
    assert tab.inner_text("#detail h3") == "Turn 5 · Bob"
    tab.click("#points li:nth-child(2) a")
    tab.wait_for_selector("#chat li[data-turn='4']:focus")
    tab.keyboard.press("Home")
    tab.click("#points li:nth-child(2) a")  # once more, where the address is already there
    tab.wait_for_selector("#chat li[data-turn='4']:focus")


@pytest.mark.browser
def test_the_chart_and_the_totals_follow_the_choice(visit: Visit) -> None:
    tab = visit(page(talk(), talk(id="b", speakers=("Bob", "Zoe") * 3), hostile()))
    rows = (
        "() => [...document.querySelectorAll('#totals tbody tr')].map((row) => [...row.cells].map((cell) => cell.firstChild.textContent))"
    )
    assert tab.evaluate(rows) == [["Ann", "3", "2", "1", "0"], ["Bob", "3", "1", "2", "0"], ["all", "6", "3", "3", "0"]]
    assert tab.locator("#course .point").count() == 3 and tab.inner_text("#time .of") == "talk"
    tab.focus("#list")
    tab.keyboard.press("ArrowDown")
    assert tab.inner_text("#time .of") == "b" and tab.evaluate(rows)[0][0] == "Bob" and tab.evaluate(rows)[1][0] == "Zoe"
    tab.click("#course", position={"x": tab.locator("#course").bounding_box()["width"] - 10, "y": 80})
    tab.wait_for_selector("#chat li[data-turn='5']:focus")
    tab.keyboard.press("Home")
    tab.focus("#list")
    tab.keyboard.press("End")
    assert tab.inner_text("#chat li:first-child .bubble") == HOSTILE and tab.inner_text("#detail h3") == "Turn 0 · <b>Eve</b>"


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_readable_everywhere(visit: Visit, width: int, scheme: str) -> None:
    for shown in (page(hostile(), talk()), page(long(40), labels=MELD7, unsure=0.5)):
        tab = visit(shown, width, scheme)
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        assert tab.evaluate(POOR) == []


@pytest.mark.browser
def test_scores_are_drawn(visit: Visit) -> None:
    scores = np.array([[np.nan, value] for value in (-1.2, 0.4, -0.4, 2.0, 0.3, 0.2)])
    labels = [f"{value:+d}" for value in range(-3, 4)]
    tab = visit(page(talk(probabilities=None, scores=scores, guess=np.array([2, 3, 3, 5, 3, 3])), labels=labels))
    assert "−1.2" in tab.inner_text("#chat li:first-child .tags").replace("-", "−") and "by 1.8" in tab.inner_text("#points")
