from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch

import erc_graph
from erc_graph.data.palette import emotion_colour
from erc_graph.data.sample.vectors import SampleConfig, sample_corpus
from erc_graph.errors import ConfigError, StorageError
from erc_graph.graphs.build import build_graph
from erc_graph.report import interactive
from erc_graph.report.interactive import page, show, write_page
from tests.report.conftest import four_relations, talk

HOSTILE = (
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "a]]>&--><b>",
    "line\nbreak\x00\x1b[31m\u2028",
    "\ud800",
    "名前",
    "x" * 500,
    "",
    "{{data}}",
)


def make(turns: int = 6, dialogues: int = 3) -> Any:
    return sample_corpus(dialogues=dialogues, seed=1, config=SampleConfig(turns=(turns, turns), speakers=(2, 2)))


def data(text: str) -> list[dict[str, Any]]:
    """What a browser would hand to the script."""
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)[1])  # type: ignore[index]


class Elements(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes)))


@pytest.mark.parametrize("recipe", ["pairwise", "speaker"])
def test_edges_of_the_page_are_those_of_networkx(recipe: str) -> None:
    graph = build_graph(make()[1], recipe)
    (view,) = data(page([graph]))
    edges, lanes, turns = view["edges"], view["lanes"], view["turns"]
    found = sorted(
        ((lanes[s // turns], s % turns), (lanes[t // turns], t % turns), view["relations"][r], w)
        for s, t, r, w in zip(edges["source"], edges["target"], edges["relation"], edges["weight"], strict=True)
    )
    expected = sorted(
        (m, n, values["relation"], round(values["weight"], 3) if "weight" in values else None)
        for m, n, values in erc_graph.to_networkx(graph).edges(data=True)
    )
    for ours, theirs in zip(found, expected, strict=True):
        assert ours[:3] == theirs[:3] and ours[3] == pytest.approx(theirs[3], abs=1e-3)


def test_several_dialogues_of_one_graph_are_those_built_alone() -> None:
    corpus = make()
    together = data(page([build_graph(corpus, "window")]))
    alone = data(page([build_graph(dialogue, "window") for dialogue in corpus]))
    for one, other in zip(together, alone, strict=True):
        assert {key: one[key] for key in one if key not in ("rest",)} == {key: other[key] for key in other if key not in ("rest",)}
        assert sorted(zip(one["rest"]["a"], one["rest"]["b"], strict=True)) == sorted(
            zip(other["rest"]["a"], other["rest"]["b"], strict=True)
        )


def test_turns_speakers_labels_and_predictions() -> None:
    corpus = make(4)
    target = corpus.target.clone()
    target[0] = -1
    dialogue = replace(corpus, target=target)[0]
    (view,) = data(page([build_graph(dialogue)], predictions=[["joy", "fear", None, "joy"]]))
    assert view["label"] == list(dialogue.labels) and view["label"][0] is None
    assert view["guess"] == ["joy", "fear", None, "joy"]
    assert view["text"] == list(dialogue.texts)
    letters = [view["speakers"][str(code)] for code in view["speaker"]]
    assert [name for _, name in letters] == list(dialogue.speakers) and letters[0][0] == "A"
    assert view["colours"]["joy"] == emotion_colour("joy")
    assert view["present"] == [dialogue.batch().present[lane].int().tolist() for lane in view["lanes"]]


def test_scores_have_three_names() -> None:
    from erc_graph.data.tasks import get_task

    scores = replace(make(3), task=get_task("sentiment"), target=torch.tensor([-2.0, 0.0, float("nan")] * 3))
    (view,) = data(page([build_graph(scores[0])]))
    assert view["label"] == ["negative", "neutral", None] and set(view["colours"]) == {"negative", "neutral"}


def test_hostile_text_is_only_text(tmp_path: Path) -> None:
    corpus = make(9)
    names = tuple(HOSTILE[i % 9] for i in range(corpus.utterances))
    task = replace(corpus.task, labels=HOSTILE[:6])
    hostile = replace(corpus, speakers=names, texts=names, dialogue_ids=HOSTILE[:3], task=task, splits={})
    path = write_page([build_graph(hostile)], tmp_path / "page.html", title=HOSTILE[0], predictions=[list(HOSTILE) * 3])
    text = path.read_text(encoding="utf-8")
    elements = Elements(text).found
    assert [tag for tag, _ in elements].count("script") == 2 and "b" not in {tag for tag, _ in elements}
    shown = data(text)[0]["text"]
    assert shown == [name.encode("utf-8", "replace").decode() for name in HOSTILE]


def test_nothing_is_fetched_from_anywhere() -> None:
    text = page([build_graph(make()[0])])
    elements = Elements(text).found
    assert not [tag for tag, values in elements if tag in ("link", "img", "iframe") or "src" in values or "href" in values]
    policy = next(values["content"] for tag, values in elements if values.get("http-equiv") == "Content-Security-Policy")
    assert policy and policy.startswith("default-src 'none'")
    assert set(re.findall(r"https?://[^\"' ]+", text)) == {"http://www.w3.org/2000/svg"}
    assert "innerHTML" not in text and "eval(" not in text
    assert len(text) < 100_000


def test_every_form_and_a_notebook(tmp_path: Path) -> None:
    view = show(build_graph(make()[0]), predictions=["joy"] * 6, title="one <two>")
    for kind in interactive.KINDS:
        assert view.save(tmp_path / f"graph.{kind}").stat().st_size > 1000
    assert sorted(os.listdir(tmp_path)) == ["graph.graphml", "graph.html", "graph.png", "graph.svg"]
    ((tag, values),) = Elements(view._repr_html_()).found
    assert tag == "iframe" and values["sandbox"] == "allow-scripts" and values["srcdoc"] == view.html
    assert unescape(re.search("<title>(.*)</title>", view.html)[1]) == "one <two>"  # type: ignore[index]
    assert re.fullmatch(r"GraphView\(.*: 6 turns in text, audio, visual; \d+ edges\)", repr(view))


def test_refusals(tmp_path: Path) -> None:
    graph = build_graph(make()[0])
    with pytest.raises(ConfigError, match=r"expected a file name ending in .html, found 'a.txt'"):
        write_page([graph], tmp_path / "a.txt")
    with pytest.raises(ConfigError, match=r"ending in .png, .svg, .graphml, .html, found 'a.pdf'"):
        show(graph).save(tmp_path / "a.pdf")
    with pytest.raises(ConfigError, match="expected graphs, each with a list of predictions, found 0 graphs and 0 lists"):
        page([])
    with pytest.raises(ConfigError, match="found 1 graphs and 2 lists"):
        page([graph], predictions=[None, None])
    with pytest.raises(ConfigError, match="predictions: expected 6 values"):
        page([graph], predictions=[["joy"]])
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="a part of the path is a file"):
        write_page([graph], tmp_path / "file" / "a.html")
    assert os.listdir(tmp_path) == ["file"]


def test_relations_share_looks_and_lines_have_directions() -> None:
    (view,) = data(page([four_relations(6)]))
    looks = [view["looks"][view["look"][relation]] for relation in map(view["relations"].index, ("same_past", "other_future"))]
    assert [look["name"] for look in looks] == ["same_past", "other_future"]
    assert looks[0]["colour"] != looks[1]["colour"] and looks[0]["dash"] != looks[1]["dash"]
    rest, edges = view["rest"], view["edges"]
    found = {
        (a, b, r) if way > 0 else (b, a, r) for a, b, r, way in zip(rest["a"], rest["b"], rest["relation"], rest["towards"], strict=True)
    }
    expected = {(s, t, r) for s, t, r in zip(edges["source"], edges["target"], edges["relation"], strict=True) if s != t}
    assert found == expected and set(rest["times"]) == {1} and set(rest["towards"]) == {1, -1}


def test_hyperedges_with_their_members() -> None:
    ends = {("text", "speaker", "hyperedge"): [(0, 0), (2, 0), (1, 1)], ("audio", "turn", "hyperedge"): [(1, 2)]}
    weights = {("text", "speaker", "hyperedge"): [0.5, 0.25, 1.0]}
    (view,) = data(page([talk([0, 1, 0], ends, weights=weights, hyperedges=("A</script>", "B", "turn 1"), streams=("text", "audio"))]))
    assert view["lanes"] == ["text", "audio"] and view["relations"] == [] and view["edges"]["source"] == []
    assert view["hyper"] == [
        {"name": "A</script>", "relation": "speaker", "upright": False, "members": [0, 2], "weight": [0.5, 0.25]},
        {"name": "B", "relation": "speaker", "upright": False, "members": [1], "weight": [1.0]},
        {"name": "turn 1", "relation": "turn", "upright": True, "members": [4], "weight": [None]},
    ]


def test_every_dialogue_has_its_own_hyperedges() -> None:
    graph = build_graph(make(3, 3), "window")
    node = graph["hyperedge"]
    node.kind, node.names, node.num_nodes = torch.zeros(3, dtype=torch.long), ["a", "b", "c"], 3
    graph["audio", "stream", "hyperedge"].edge_index = torch.tensor([[0, 1, 3, 6, 8], [0, 0, 1, 2, 2]])
    views = data(page([graph]))
    assert [[(one["name"], one["members"]) for one in view["hyper"]] for view in views] == [[("a", [3, 4])], [("b", [3])], [("c", [3, 5])]]


PROBE = """<script>
const said = [];
addEventListener("error", (event) => said.push("error: " + event.message));
addEventListener("load", () => {
  said.push(nodes.length, document.querySelectorAll(".rest path").length > 0);
  nodes[2].focus();
  said.push(document.querySelectorAll("#own path").length, document.querySelector("aside h2").textContent);
  const key = (name) => document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key: name, bubbles: true }));
  key("ArrowRight"); key("ArrowDown");
  said.push(document.activeElement.getAttribute("aria-label"));
  key("Enter"); said.push(pinned); key("Escape"); said.push(pinned);
  const before = zoom; document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "+", bubbles: true }));
  said.push(zoom > before);
  const choice = document.getElementById("dialogue"); choice.value = 1; choice.dispatchEvent(new Event("change"));
  said.push(document.getElementById("title").textContent, document.querySelectorAll("script").length);
  document.body.dataset.said = JSON.stringify(said);
});
</script>"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium")
def test_the_page_reacts_in_a_browser(tmp_path: Path) -> None:
    corpus = make(5)
    texts = tuple("<img src=x onerror=alert(1)><script>document.title='run'</script>" for _ in corpus.texts)
    graphs = [
        build_graph(dialogue, "window") for dialogue in replace(corpus, texts=texts, dialogue_ids=("one", "<b>two", "three"), splits={})
    ]
    path = write_page(graphs, tmp_path / "page.html", title="talks")
    path.write_text(path.read_text().replace("</head>", PROBE.replace("</script>", "</script></head>")))
    command = [
        "chromium",
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--dump-dom",
        path.as_uri(),
    ]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    said = json.loads(unescape(re.search('data-said="([^"]*)"', shown)[1]))  # type: ignore[index]
    streams = graphs[0].node_types
    incoming = (
        sum(int((graphs[0][kind].edge_index[1] == 2).sum()) for kind in graphs[0].edge_types if kind[2] == streams[0]) - 1
    )  # less the edge to itself
    assert said[:2] == [15, True] and said[2] == incoming and said[3] == f"Turn 2, {streams[0]}"
    assert said[4].startswith("turn 3, ") and f", {streams[1]}, " in said[4]
    assert said[5:] == [8, None, True, "talks: <b>two", 3]
    assert "<title>talks</title>" in shown


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra [browser]")
    if shutil.which("chromium") is None:
        pytest.skip("needs Chromium")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"] if os.geteuid() == 0 else [])
        yield chromium
        chromium.close()


WIDE = ("They gave the part to somebody else. Again.", "<b>x", "x" * 500, "W" * 80, "שלום עולם", "🙂🙂 ok", "", "a\x1b[31m\nb", "名前" * 40)


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_relations_hyperedges_and_weird_words_in_a_browser(browser: Any, tmp_path: Path, width: int, scheme: str) -> None:
    streams = ("text", "audio")
    graph = four_relations(9, 9, streams=streams, names=WIDE, texts=WIDE, hyperedges=("even", "x" * 99, "turn 0"))
    for stream in streams:
        graph[stream, "speaker", "hyperedge"].edge_index = torch.tensor([[0, 2, 4, 1, 3], [0, 0, 0, 1, 1]])
        graph[stream, "turn", "hyperedge"].edge_index = torch.tensor([[0], [2]])
    said: list[str] = []
    shown = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    shown.on("pageerror", lambda error: said.append(str(error)))
    shown.on("console", lambda message: said.append(message.text))
    shown.goto(write_page([graph], tmp_path / "page.html").as_uri())
    assert shown.evaluate("document.documentElement.scrollWidth") <= width
    lines = shown.locator(".rest path").count()
    assert shown.locator(".rest polygon").count() == lines > 0  # every line has its arrowhead: all weights differ
    boxes = "[...document.querySelectorAll('svg[role] text')].filter(e => e.textContent).map(e => e.getBoundingClientRect())"
    apart = "(a, b) => a.right <= b.left + .5 || b.right <= a.left + .5 || a.bottom <= b.top + .5 || b.bottom <= a.top + .5"
    assert shown.evaluate(f"{{ const apart = {apart}, all = {boxes}; all.every((a, i) => all.slice(i + 1).every((b) => apart(a, b))); }}")
    assert shown.locator(".hyper.upright").count() == 1 and shown.locator("g.hyper").count() == 2
    shown.locator("g.hyper").first.focus()
    assert shown.locator(".node.member").count() == 6 and shown.inner_text("aside h2") == "Hyperedge even"
    shown.keyboard.press("Escape")
    assert shown.locator(".node.member").count() == 0 and shown.locator("aside .talk li").count() == 9
    shown.locator("aside .talk li").nth(4).click()
    assert shown.inner_text("aside h2") == "Turn 4, text" and "even" in shown.inner_text("aside")
    shown.keyboard.press("Escape")
    shown.locator("#relations input").nth([look["name"] for look in data(page([graph]))[0]["looks"]].index("other_past")).uncheck()
    assert 0 < shown.locator(".rest path").count() < lines
    assert said == []
    shown.close()
