"""The page in a real Chromium: no error, it reacts, it is reachable by keyboard, and what a corpus says is never run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pytest

from erc_graph.report.page import Contents, write_page

from .conftest import HOSTILE, conversation

pytestmark = pytest.mark.browser
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
Make = Callable[..., Contents]
# Texts with a WCAG contrast below 4.5 against what is painted behind them. Cells of the confusion matrix have shades of their own.
POOR = """() => {
  const paint = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const linear = (v) => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const light = (colour) => {
    paint.clearRect(0, 0, 1, 1);
    paint.fillStyle = colour;
    paint.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...paint.getImageData(0, 0, 1, 1).data].map((v) => linear(v / 255));
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const below = (e) => {
    for (; e; e = e.parentElement) {
      const colour = getComputedStyle(e).backgroundColor;
      if (!/, 0\\)$|transparent/.test(colour)) return colour;
    }
  };
  const texts = "h1, h2, h3, p, dt, dd, th, td, small, summary, a, b, figcaption, .emotion, .bubble, .who, .tags span, .heard span";
  return [...document.querySelectorAll(texts)].flatMap((e) => {
    if (!e.textContent.trim() || !e.getClientRects().length || e.closest(".skip, svg, .confusion td")) return [];
    const pair = [light(getComputedStyle(e).color), light(below(e))];
    const ratio = (Math.max(...pair) + .05) / (Math.min(...pair) + .05);
    return ratio < 4.5 ? [[e.tagName, e.className, e.textContent.slice(0, 30), ratio.toFixed(2)]] : [];
  });
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra [browser]")
    if CHROMIUM is None:
        pytest.skip("needs Chromium")
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=options)
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser: Any, make: Make, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Open a report; fails at the end if anything was said on the console, asked for, or popped up."""
    contexts, said = [], []

    def open_(width: int = 1280, scheme: str = "light", place: str = "", **changes: Any) -> Any:
        path = write_page(tmp_path / "report.html", make(**changes))
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True, reduced_motion="reduce")
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: (said.append(f"dialog {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: said.append(request.url) if not request.url.startswith(("file:", "data:")) else None)
        page.goto(path.as_uri() + place)
        page.wait_for_selector("#chat li")
        return page

    yield open_
    for context in contexts:
        context.close()
    assert said == []


def test_another_conversation_and_a_turns_edges(visit: Callable[..., Any]) -> None:
    page = visit()
    assert page.locator("#list li").count() == 6 and page.inner_text("#name") == "talk-1" and page.locator("#chat li").count() == 9
    page.click("#list li:nth-child(3)")
    assert page.inner_text("#name") == "talk-2" and page.locator("#chat li").count() == 5
    assert page.get_attribute("#list li:nth-child(3)", "aria-selected") == "true"
    page.hover("#chat li:nth-child(4) .bubble")
    assert page.inner_text("#detail h3") == "Turn 3 · Ada"
    # 4 from the same stream (the absent node of turn 2 is one of the complete graph's), 1 from the other, into each of two streams.
    assert page.locator("#edges path").count() == 10
    assert page.locator("#chat li.source").count() == 4 and page.locator("#wires circle.to").count() == 2
    assert "strongest edges into audio" in page.inner_text("#detail") and "0.50" in page.inner_text("#detail")
    first = page.locator("#edges path").first.get_attribute("d")
    page.hover("#chat li:nth-child(1) .bubble")
    assert page.locator("#edges path").first.get_attribute("d") != first


def test_by_keyboard_alone(visit: Callable[..., Any]) -> None:
    page = visit()
    page.focus("#list")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert page.inner_text("#name") == "talk-2"
    assert page.get_attribute("#list", "aria-activedescendant") == page.get_attribute("#list li[aria-selected=true]", "id")
    page.keyboard.press("End")
    assert page.inner_text("#name") == "talk-5"
    page.keyboard.press("Enter")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.dataset.turn") == "1" and page.inner_text("#detail h3").startswith("Turn 1")
    assert page.locator("#chat li[tabindex='0']").count() == 1
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('#detail, .card') !== null")


def test_search_order_and_cell(visit: Callable[..., Any]) -> None:
    page = visit()
    page.fill("#search", "sentence 4 of 3")
    assert page.locator("#list li").count() == 1 and page.inner_text("#name") == "talk-3" and "1 of 6" in page.inner_text("#count")
    page.fill("#search", "no such words")
    assert page.locator("#list li").count() == 0
    page.fill("#search", "")
    page.select_option("#order", "wrong")
    wrong = [int(text.split()[0]) for text in page.locator("#list small span:last-child").all_text_contents()]
    assert wrong == sorted(wrong, reverse=True) and wrong[0] > 0
    cell = page.locator(".confusion a[href='#f1-0'], .confusion a[href='#f2-1'], .confusion a[href='#f0-2']").first
    true, guess = (int(k) for k in (cell.get_attribute("href") or "").removeprefix("#f").split("-"))
    count = int(cell.locator("small").inner_text())
    cell.click()
    page.wait_for_selector("#filter", state="visible")  # a link takes effect a moment after the click
    names = ("joy", "sadness", "neutral")
    assert page.locator("#detail .said dd").all_inner_texts() == [names[true], names[guess]]
    assert 1 <= page.locator("#list li").count() <= count
    page.click("#filter")
    assert page.locator("#list li").count() == 6 and not page.is_visible("#filter")


def test_an_error_leads_to_its_turn(visit: Callable[..., Any]) -> None:
    page = visit()
    link = page.locator(".error > a").first
    name, turn = link.inner_text().rsplit(", turn ", 1)
    link.click()
    page.wait_for_selector(f"#chat li[data-turn='{turn}']:focus")  # a link takes effect a moment after the click
    assert page.inner_text("#name") == name and page.inner_text("#detail h3").startswith(f"Turn {turn}")


def test_a_script_in_a_corpus_is_shown_and_not_run(visit: Callable[..., Any]) -> None:
    page = visit(place="#c1t0")
    assert page.inner_text("#chat li:first-child .bubble") == HOSTILE and page.inner_text("#name") == f"d{HOSTILE}"
    assert page.inner_text("#detail blockquote") == HOSTILE and page.inner_text("h1") == f"pairwise on mine {HOSTILE}"
    assert page.inner_text("#detail h3") == "Turn 0 · <b>Eve</b>"
    assert page.locator("script").count() == 2 and page.locator("main img, main b b").count() == 0
    page.hover("#chat li:nth-child(2) .bubble")
    page.fill("#search", "alert(2)")
    assert page.locator("#list li").count() == 1


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_readable_everywhere(visit: Callable[..., Any], width: int, scheme: str) -> None:
    page = visit(width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("#app").evaluate("box => box.getBoundingClientRect().right") <= width
    assert page.evaluate(POOR) == []


def test_without_graph_text_or_speakers(visit: Callable[..., Any]) -> None:
    bare = conversation(1, 3, speakers=(), texts=(), edges=None, present=None)
    page = visit(conversations=[bare], streams=())
    assert page.locator("#wires circle").count() == 0 and page.inner_text("#chat li:first-child .bubble") == "turn 0"


def test_trust_in_modalities(visit: Callable[..., Any]) -> None:
    trust = {"text": np.array([0.8, 0.1, 0.5]), "audio": np.array([0.2, 0.9, 0.5])}
    page = visit(width=900, conversations=[conversation(1, 3, trust=trust)], place="#c0t1")
    assert "trust in each modality" in page.inner_text("#detail") and "0.90" in page.inner_text("#detail")
    assert "audio is missing" not in page.inner_text("#detail") and "text is missing in this utterance" in page.inner_text("#detail")


@pytest.mark.slow
def test_fast_with_1400_conversations(visit: Callable[..., Any]) -> None:
    many = [conversation(n, 10) for n in range(1400)]
    start = perf_counter()
    page = visit(conversations=many)
    made = perf_counter() - start
    timing = page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
    assert page.locator("#list li").count() == 1400 and timing < 2000, (timing, made)
