from __future__ import annotations

import os
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from erc_graph.data.palette import emotion_colour
from erc_graph.data.sample.vectors import SampleConfig, sample_corpus
from erc_graph.data.tasks import get_task
from erc_graph.errors import ConfigError, StorageError
from erc_graph.graphs.build import build_from_states, build_graph
from erc_graph.graphs.convert import label_names
from erc_graph.report import draw
from erc_graph.report.draw import draw_graph
from tests.report.conftest import four_relations, talk

HOSTILE = (
    "$\\frac{",
    "<script>alert(1)</script>",
    "a]]>&--><b>",
    "line\nbreak\x00\x1b[31m",
    "\ud800",
    "名前",
    "x" * 500,
    "",
    "../../etc",
)


def make(turns: int = 6, speakers: int = 2, dialogues: int = 3) -> Any:
    return sample_corpus(dialogues=dialogues, seed=1, config=SampleConfig(turns=(turns, turns), speakers=(speakers, speakers)))


def picture(graph: Any, guess: list[str | None] | None = None, title: str | None = None) -> Any:
    true = label_names(graph[graph.node_types[0]].y, graph.labels, len(graph.speakers), "labels")
    return draw._Picture(graph, true, guess, title)


def texts(shown: Any) -> list[str]:
    return [text.get_text() for text in shown.axes.texts]


@pytest.mark.parametrize("recipe", ["pairwise", "window", "speaker", "causal"])
@pytest.mark.parametrize("suffix", ["png", "svg", "PNG"])
def test_files_of_both_kinds(tmp_path: Path, recipe: str, suffix: str) -> None:
    graph = build_graph(make()[0], recipe)
    path = draw_graph(graph, tmp_path / f"graph.{suffix}")
    data = path.read_bytes()
    if suffix == "svg":
        assert ElementTree.fromstring(data).tag.endswith("svg")
    else:
        assert data.startswith(b"\x89PNG")
    assert os.listdir(tmp_path) == [path.name]


def test_the_same_graph_gives_the_same_bytes(tmp_path: Path) -> None:
    graph = build_graph(make()[0])
    for suffix in ("png", "svg"):
        one, two = (draw_graph(graph, str(tmp_path / f"{i}.{suffix}")).read_bytes() for i in range(2))
        assert one == two


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_hostile_names_are_only_text(tmp_path: Path, suffix: str) -> None:
    corpus = make(9)
    names = tuple(HOSTILE[i % 9] for i in range(corpus.utterances))
    task = replace(corpus.task, labels=HOSTILE[:6])
    hostile = replace(corpus, speakers=names, texts=names, dialogue_ids=HOSTILE[:3], task=task, splits={})
    graph = build_graph(hostile, modalities=("text",))
    path = draw_graph(graph, tmp_path / f"g.{suffix}", predictions=list(HOSTILE) * 3, title=HOSTILE[0])
    draw_graph(graph, path)
    if suffix == "svg":
        tree = ElementTree.fromstring(path.read_bytes())
        assert not any(element.tag.endswith(("script", "}b")) for element in tree.iter())
    assert os.listdir(tmp_path) == [path.name]


def check_texts(shown: Any) -> None:
    """All texts lie inside the picture, and no two overlap."""
    renderer = FigureCanvasAgg(shown.figure).get_renderer()
    x0, y0, x1, y1 = np.array([text.get_window_extent(renderer).extents for text in shown.axes.texts]).T
    width, height = shown.figure.get_size_inches() * shown.figure.dpi
    assert min(x0) >= 0
    assert min(y0) >= 0
    assert max(x1) <= width
    assert max(y1) <= height
    beside = (x1[:, None] <= x0) | (x0[:, None] >= x1)
    below = (y1[:, None] <= y0) | (y0[:, None] >= y1)
    clash = np.argwhere(np.triu(~(beside | below), 1))
    assert not [(texts(shown)[i], texts(shown)[j]) for i, j in clash]


@pytest.mark.parametrize(("turns", "speakers", "modalities"), [(1, 2, 1), (3, 3, 3), (20, 5, 2), (60, 4, 3)])
@pytest.mark.parametrize("together", [False, True])
def test_no_two_texts_overlap(turns: int, speakers: int, modalities: int, together: bool) -> None:
    corpus = make(turns, speakers)
    chosen = corpus.modalities[:modalities]
    graph = build_graph(corpus, "speaker", chosen) if together else build_graph(corpus[0], "pairwise", chosen)
    check_texts(picture(graph, guess=["joy"] * len(graph.speakers)))


WEIRD = (
    "They gave the part to somebody else. Again.",
    "$\\frac{",
    "line\nbreak\x00\x1b[31m",
    "\ud800",
    "名前は何ですか" * 5,
    "x" * 500,
    "",
    "שלום עולם מה שלומך היום",
    "🙂🙂👩‍👩‍👧 ok",
    "W" * 80,
    "مرحبا بالعالم كيف حالك",
    "a b " * 80,
)


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.parametrize("streams", [("text",), ("text", "audio", "visual")])
@pytest.mark.parametrize("hyper", [False, True])
def test_no_two_texts_overlap_with_relations_hyperedges_and_weird_words(streams: tuple[str, ...], hyper: bool) -> None:
    members = {(stream, "speaker", "hyperedge"): [(turn, turn % 9) for turn in range(12)] for stream in streams}
    graph = four_relations(12, 9, streams=streams, names=WEIRD, texts=WEIRD, hyperedges=[name[:40] for name in WEIRD[:9]] if hyper else ())
    for kind, ends in members.items() if hyper else ():
        graph[kind].edge_index = torch.tensor(ends).T
    shown = picture(graph, guess=["joy"] * 12, title=WEIRD[5])
    check_texts(shown)
    assert {"They gave the"} <= {line for line in texts(shown) if line.startswith("They")}
    assert not any("\x1b" in line or "\n" in line for line in texts(shown))


def test_words_below_the_turns_only_where_there_is_room() -> None:
    few, many = (four_relations(count, texts=["hello there"] * count) for count in (12, 30))
    assert texts(picture(few)).count("hello there") == 12
    assert not any("hello" in text for text in texts(picture(many)))


def test_letters_stand_in_large_nodes_and_below_small_ones() -> None:
    from erc_graph.report.pen import letter

    small, large = picture(four_relations(60, 3)), picture(four_relations(12, 3))
    assert "speaker" in texts(small) and "speaker" not in texts(large)
    for shown in (small, large):
        placed = [text for text in shown.axes.texts if len(text.get_text()) == 1 and text.get_text().isalpha()]
        found = {round(text.get_position()[0], 6): text.get_text() for text in placed}
        assert found == {round(x, 6): letter(code) for x, code in zip(shown.x.tolist(), shown.speaker.tolist(), strict=True)}
    heights = {text.get_position()[1] for text in large.axes.texts if text.get_text() in "ABC"}
    assert heights == {large.y["text"]}


def test_speaker_pairs_of_nine_speakers_have_two_entries() -> None:
    ends: dict[tuple[str, str, str], list[tuple[int, ...]]] = {}
    for i in range(18):
        for j in range(18):
            ends.setdefault(("text", f"{'past' if i <= j else 'future'}_{i % 9}_{j % 9}", "text"), []).append((i, j))
    found = texts(picture(talk([turn % 9 for turn in range(18)], ends)))
    assert [text for text in found if "speaker pairs" in text] == ["past (81 speaker pairs)", "future (81 speaker pairs)"]


def test_keys_name_what_is_there() -> None:
    corpus = make(20, 3)
    graph = build_graph(corpus[0], modalities=("text", "audio"))
    found = texts(picture(graph))
    assert {"text", "audio", "Emotion", "Speaker", "Relation", "context", "Weight", "not weighted", "turn"} <= set(found)
    for label in set(corpus[0].labels):
        assert str(label) in found
    for name in set(corpus[0].speakers):
        assert any(text[2:] == name for text in found)
    assert "predicted" not in found
    assert any("for each node, the arcs to its 3 strongest neighbours" in text for text in found)
    guess = ["anger" if label != "anger" else "fear" for label in corpus[0].labels]
    assert {"predicted", "wrong prediction"} <= set(texts(picture(graph, guess)))


def test_wrong_predictions_are_ringed_and_unlabelled_ones_are_not() -> None:
    corpus = make(6)
    target = corpus.target.clone()
    target[:6] = torch.tensor([0, 0, -1, 1, 2, 3])
    graph = build_graph(replace(corpus, target=target)[0])
    shown = picture(graph, ["joy", "anger", "joy", "sadness", "joy", "fear"])
    assert shown.wrong.tolist() == [False, True, False, False, True, False]
    assert "unlabelled" in texts(shown)


def test_without_any_label_nodes_have_the_colours_of_what_is_predicted() -> None:
    from matplotlib.colors import to_hex

    corpus = make(3)
    graph = build_graph(replace(corpus, target=torch.full_like(corpus.target, -1))[0])
    shown = picture(graph, ["joy", "anger", "joy"])
    words = set(texts(shown))
    assert "Predicted" in words and not {"Emotion", "predicted", "unlabelled", "wrong prediction"} & words
    painted = {to_hex(colour) for marks in shown.axes.collections for colour in marks.get_facecolor()}
    assert {emotion_colour(name).lower() for name in ("joy", "anger")} <= painted


def test_labels_and_predictions_as_names_indices_tensors_and_scores(tmp_path: Path) -> None:
    graph = build_graph(make(3)[0])
    names = graph.labels
    assert label_names(torch.tensor([0, -1, 2]), names, 3, "labels") == [names[0], None, names[2]]
    assert label_names(np.array([1, 1, 0]), names, 3, "labels") == [names[1], names[1], names[0]]
    assert label_names(["joy", None, 0], names, 3, "labels") == ["joy", None, names[0]]
    assert label_names(torch.tensor([-1.5, 0.0, float("nan")]), [], 3, "labels") == ["negative", "neutral", None]
    scores = replace(make(3), task=get_task("sentiment"), target=torch.linspace(-3, 3, 9))
    draw_graph(build_graph(scores[0]), tmp_path / "scores.png", labels=[0.5, -1.0, None], predictions=[0.1, 0.2, 0.3])
    states = {"fused": torch.randn(3, 4)}
    bare = build_from_states(make(3)[0].batch(), states, {"fused": torch.ones(3, dtype=torch.bool)}, "pairwise")
    draw_graph(bare, tmp_path / "bare.png")
    assert len(os.listdir(tmp_path)) == 2


def test_scores_have_three_colours_also_as_text(tmp_path: Path) -> None:
    assert label_names(["+1.2", "-0.3", "+0.0", None, "nan", 2, -1], [], 7, "labels", score=True) == [
        "positive", "negative", "neutral", None, None, "positive", "negative",
    ]  # fmt: skip
    assert label_names(["1", "-1"], [], 2, "labels") == ["1", "-1"]  # names of classes stay what they are
    target = torch.tensor([-2.0, -0.1, 0.0, 0.4, 3.0, float("nan")]).repeat(3)
    graph = build_graph(replace(make(6), task=get_task("sentiment"), target=target)[0])
    path = draw_graph(graph, tmp_path / "a.svg", predictions=["-1.5", "+0.2", "+0.1", "-0.3", "+1.0", "+1.0"])
    found = path.read_text().lower()
    assert all(emotion_colour(name).lower() in found for name in ("negative", "neutral", "positive", None))
    assert not any(emotion_colour(text).lower() in found for text in ("-1.5", "+0.2", "+0.1", "-0.3", "+1.0"))
    shown = picture(graph, ["negative", "positive", "positive", "negative", "positive", "positive"])
    assert shown.wrong.tolist() == [False, True, False, True, False, False]
    assert [text for text in texts(shown) if text.endswith(("tive", "neutral"))] == ["negative", "neutral", "positive"]


def test_what_cannot_be_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = build_graph(make(3)[0])
    with pytest.raises(ConfigError, match=r"ending in .png or .svg, found 'x.pdf'"):
        draw_graph(graph, tmp_path / "x.pdf")
    with pytest.raises(ConfigError, match="labels: expected 3 values, one per utterance, found 2"):
        draw_graph(graph, tmp_path / "x.png", labels=["joy", "joy"])
    with pytest.raises(ConfigError, match="predictions: utterance 1 has the label index 6; the graph has 6 labels"):
        draw_graph(graph, tmp_path / "x.png", predictions=[0, 6, 0])
    with pytest.raises(StorageError, match=r"x.png: could not be written .*a part of the path is a file"):
        draw_graph(graph, Path(__file__) / "x.png")
    monkeypatch.setattr(draw, "MOST_UTTERANCES", 2)
    with pytest.raises(ConfigError, match="expected 1 to 2 utterances, found 3; draw one dialogue at a time"):
        draw_graph(graph, tmp_path / "x.png")
    assert os.listdir(tmp_path) == []


def test_a_failed_write_leaves_the_old_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = build_graph(make(3)[0])
    path = tmp_path / "x.png"
    path.write_bytes(b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StorageError, match="No space left on device"):
        draw_graph(graph, path)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x.png"]


def test_many_speakers_and_many_turns(tmp_path: Path) -> None:
    corpus = make(200)
    crowd = replace(corpus, speakers=tuple(f"person {i % 200}" for i in range(corpus.utterances)))
    shown = picture(build_graph(crowd[0], "window", modalities=("text",)))
    assert "and 188 more" in texts(shown)
    assert "200" in texts(shown)
