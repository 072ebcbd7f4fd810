"""ConvoKit's utterances come out in the order in which they were said, whatever the order of the lines."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from erc_graph.data.files.formats import read_annotations
from erc_graph.data.files.load import load_corpus
from erc_graph.data.files.notes import noting
from erc_graph.errors import CorpusError


def line(id: str, reply: str | None, time: Any, **more: Any) -> dict[str, Any]:
    return {
        "id": id,
        "conversation_id": "c",
        "text": f"text {id}",
        "speaker": "s",
        "reply-to": reply,
        "timestamp": time,
        "meta": {},
        **more,
    }


def write(tmp_path: Path, rows: list[dict[str, Any]], name: str = "utterances.jsonl") -> Path:
    path = tmp_path / name
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("rows", "order"),
    [
        ([line("b", "a", 2), line("a", None, 1), line("c", "a", 3)], "abc"),
        ([line("c", "b", None), line("a", None, None), line("b", "a", None)], "abc"),
        ([line("a", None, 5), line("b", "a", 5), line("c", "b", 5)], "abc"),  # equal times
        ([line("c", "b", 5), line("b", "a", 5), line("a", None, 5)], "abc"),
        ([line("d", "a", None), line("a", None, None), line("b", "a", None), line("c", "d", None)], "adcb"),  # a branch stays together
        ([line("a", "b", None), line("b", "a", None)], "ab"),  # a circle
        ([line("a", "a", None), line("b", "gone", None)], "ab"),
        ([line("b", "a", "2"), line("a", None, "10")], "ba"),  # times are numbers, not text
    ],
)
def test_order(tmp_path: Path, rows: list[dict[str, Any]], order: str) -> None:
    assert read_annotations(write(tmp_path, rows)).utterance_ids == list(order)


def test_any_order_of_the_lines_gives_the_same(tmp_path: Path) -> None:
    rows = [line(str(i), str(i - 1) if i else None, i) for i in range(20)]
    random.Random(3).shuffle(rows)
    assert read_annotations(write(tmp_path, rows)).utterance_ids == [str(i) for i in range(20)]


def test_older_names_labels_and_several_conversations(tmp_path: Path) -> None:
    rows = [
        {"id": "1", "root": "1", "text": "Hi", "user": {"id": "ann"}, "reply_to": None, "meta": {"Emotion": "Joy"}},
        {"id": "2", "root": "1", "text": "Oh", "user": "bob", "reply_to": "1", "meta": {"Emotion": "joy", "x": [1]}},
        {"id": "3", "root": "3", "text": "", "user": None, "reply_to": None, "meta": None},
    ]
    corpus = load_corpus(write(tmp_path, rows, "test.jsonl"))
    assert corpus.dialogue_ids == ("1", "3") and corpus.speakers == ("ann", "bob", "speaker")
    assert corpus.task.labels == ("joy",) and corpus.target.tolist() == [0, 0, -1] and corpus.splits == {"test": ("1", "3")}


def test_what_is_assumed_is_said_and_times_are_kept(tmp_path: Path) -> None:
    rows = [line("a", None, 7.5), line("b", "a", None)]
    for row in rows:
        del row["conversation_id"]
    with noting() as notes:
        read = read_annotations(write(tmp_path, rows))
    assert read.dialogue_ids == ["utterances"] and read.columns["start"] == [7.5, None]
    assert notes == [
        "utterances.jsonl: no conversation_id; a single conversation is assumed",
        "utterances.jsonl: 1 conversations have utterances without a time; in these, a reply is placed after the utterance that it answers",
    ]


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="utterances of ConvoKit without `text`; found id, reply-to"):
        read_annotations(write(tmp_path, [{"id": "a", "reply-to": None}]))
    with pytest.raises(CorpusError, match="utterance 'a': duplicate utterance id 'a'"):
        read_annotations(write(tmp_path, [line("a", None, 1), line("a", None, 2)]))
