"""JSON of conversations: EmotionLines, RECCON and their relatives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from erc_graph.data.files.formats import read_annotations
from erc_graph.data.files.load import load_corpus
from erc_graph.data.files.notes import noting
from erc_graph.errors import CorpusError


def turn(speaker: str, text: str, emotion: str | None, **more: Any) -> dict[str, Any]:
    return {"speaker": speaker, "utterance": text, "emotion": emotion, **more}


LINES = [[turn("Ann", "Hi", "joy"), turn("Bob", "Oh", "non-neutral")], [turn("Cem", "No", "Anger")]]


@pytest.mark.parametrize(
    ("content", "dataset", "ids", "labels"),
    [
        (LINES, "emotionlines", ["train_0", "train_1"], ["joy", None, "anger"]),
        ([*LINES, []], "emotionlines", ["train_0", "train_1"], ["joy", None, "anger"]),
        ({"tr_1": [LINES[1]]}, "dailydialog", ["tr_1"], ["anger"]),
        ({"tr_1": LINES[1], "tr_2": [[turn("A", "x", "happines")], [turn("A", "y", "Sad")]]}, "dailydialog", None, None),
        (
            {"Ses01F_impro01": [[turn("F", "x", "exc"), turn("M", "y", "surprise")]]},
            "iemocap6",
            ["Ses01F_impro01"],
            ["excited", "surprised"],
        ),
        ([[turn("Ann", "Привет", "скука")]], None, ["train_0"], ["скука"]),
        ([[{"sender": "Ann", "message": "Hi", "Emotion": "sad"}]], "emotionlines", ["train_0"], ["sadness"]),
    ],
)
def test_forms(tmp_path: Path, content: Any, dataset: str | None, ids: list[str] | None, labels: list[str | None] | None) -> None:
    path = tmp_path / "friends_train.json"
    path.write_text(json.dumps(content))
    corpus = load_corpus(path)
    assert corpus.provenance["dataset"] == dataset
    assert list(corpus.dialogue_ids) == (ids or ["tr_1", "tr_2_0", "tr_2_1"])
    assert list(corpus.annotations["label"]) == (labels or ["anger", "happiness", "sadness"])
    assert set(corpus.splits) == {"train"}


def test_what_is_assumed_is_said(tmp_path: Path) -> None:
    path = tmp_path / "friends.json"
    path.write_text(json.dumps(LINES))
    with noting() as notes:
        read_annotations(path)
    assert [note.split(": ", 1)[1] for note in notes] == [
        "1 utterances are 'non-neutral', because annotators did not agree, and get no label",
        "the labels are those of emotionlines, so this data set is assumed; to change it, set `dataset` in corpus.toml",
        "the file name contains no split (train, dev or test); give `splits` in corpus.toml",
    ]


def test_turns_and_splits_of_its_own_count(tmp_path: Path) -> None:
    path = tmp_path / "talks.json"
    talk = [
        {"turn": turn, "split": "test", "speaker": "A", "utterance": text, "emotion": "joy"} for turn, text in ((2, "second"), (1, "first"))
    ]
    path.write_text(json.dumps([talk, [{**one, "turn": 1} for one in talk]]))
    with noting() as notes:
        corpus = load_corpus(path)
    assert corpus.texts == ("first", "second", "second", "first")  # turns that stand twice are in the order of the file
    assert set(corpus.splits) == {"test"} and not any("split" in note for note in notes)


def test_the_data_set_of_the_caller_wins(tmp_path: Path) -> None:
    path = tmp_path / "friends_dev.json"
    path.write_text(json.dumps(LINES))
    assert read_annotations(path, dataset="meld").dataset == "meld"


@pytest.mark.parametrize(
    "bad", [{"speaker": "A", "emotion": "joy", "utterance": ["x"]}, {"speaker": "A", "emotion": "joy", "utterance": None}]
)
def test_refusals(tmp_path: Path, bad: dict[str, Any]) -> None:
    path = tmp_path / "train.json"
    path.write_text(json.dumps([[turn("A", "x", "joy"), bad]]))
    with pytest.raises(
        CorpusError, match="dialogue 0, utterance 1: expected a text or a number under each of the keys utterance, speaker, emotion"
    ):
        read_annotations(path)
