"""Dicts of fields, dicts of samples and lists of dialogues."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from erc_graph.data.files.formats import read_annotations
from erc_graph.errors import CorpusError
from tests.data.files.formats.test_tuples import IEMOCAP, MELD, dump, fields


def test_dict_of_named_fields(tmp_path: Path) -> None:
    parts = fields(IEMOCAP)
    content = {
        "speaker": {key: [turn % 2 for turn in range(n)] for key, n in IEMOCAP.items()},
        "label": parts["labels"],
        "text": {key: np.stack(rows) for key, rows in parts["text"].items()},
        "audio": parts["audio"],
        "visual": parts["visual"],
        "sentence": parts["sentences"],
        "trainVid": parts["train"],
        "testVid": parts["test"],
    }
    read = read_annotations(dump(tmp_path, content))
    assert "DnR" in read.format and read.dataset == "iemocap6" and read.speakers[:2] == ["Ses05M", "Ses05F"]
    assert {name: value.shape for name, value in read.features.items()} == {"text": (5, 5), "audio": (5, 4), "visual": (5, 6)}
    parts = fields(MELD, meld=True)
    content = {"speakers": {key: [3] * n for key, n in MELD.items()}, "label": parts["labels"], "sentence": parts["sentences"]}
    read = read_annotations(dump(tmp_path, {**content, "trainVid": [0], "testVid": [1153], "valVid": [1039]}))
    assert read.dataset == "meld" and read.dialogue_ids[1] == "dev_dia0" and read.speakers[0] == "speaker3"
    with pytest.raises(CorpusError, match="without 'label'"):
        read_annotations(dump(tmp_path, {"trainVid": [], "testVid": [], "speaker": {}}))


def sample(vid: Any, n: int, **other: Any) -> dict[str, Any]:
    return {
        "vid": vid, "speakers": [0, 1, 0][:n], "labels": [5, 0, 2][:n], "text": np.ones((n, 3)), "audio": [np.ones(2)] * n,
        "visual": [np.ones(2)] * n, "sentence": ["hi"] * n, **other,
    }  # fmt: skip


def test_dict_of_samples(tmp_path: Path) -> None:
    content = {"train": [sample("Ses01F_impro01", 2)], "dev": [sample("Ses02F_impro01", 1)], "test": [sample("Ses05F_impro01", 3)]}
    read = read_annotations(dump(tmp_path, content))
    assert "CORECT" in read.format and read.dataset == "iemocap6" and read.lengths == [2, 1, 3]
    assert read.splits == {"train": ["Ses01F_impro01"], "dev": ["Ses02F_impro01"], "test": ["Ses05F_impro01"]}
    assert read.speakers == ["Ses01M", "Ses01F", "Ses02M", "Ses05M", "Ses05F", "Ses05M"]
    assert read.features["text"].shape == (6, 3)
    for wrong, match in (
        ({"train": [{"vid": "a", "labels": [1]}]}, "sample 0: no field 'speaker'; fields of the sample: label, vid"),
        ({"train": [sample(1.5, 1)]}, "`vid` must be text"),
        ({"train": [sample("a", 1)], "test": [sample("a", 1)]}, "test, sample 0: duplicate dialogue id 'a'"),
        ({"train": [], "test": []}, "no dialogues in"),
    ):
        with pytest.raises(CorpusError, match=match):
            read_annotations(dump(tmp_path, wrong))


def dialogues(labels: list[Any], cls: Any) -> list[list[dict[str, Any]]]:
    return [
        [{"text": "hi", "speaker": "Ann", "label": label, "cls": cls} for label in labels],
        [{"text": "ho", "speaker": "Bob", "cls": cls}],
    ]


def test_list_of_dialogues(tmp_path: Path) -> None:
    path = tmp_path / "dev_data_roberta.json.feature"
    path.write_text(json.dumps(dialogues(["exc", "hap"], [0.5, 1.0])))
    read = read_annotations(path)
    assert "DAG-ERC" in read.format and read.dataset == "iemocap6" and read.columns == {"label": ["excited", "happy", None]}
    assert read.dialogue_ids == ["dev_0", "dev_1"] and read.splits == {"dev": ["dev_0", "dev_1"]} and read.speakers == ["Ann", "Ann", "Bob"]
    assert read.features["text"].tolist() == [[0.5, 1.0]] * 3
    path.write_text(json.dumps(dialogues(["joy", "neutral"], [[1.0], [1.0, 2.0], [3.0]])))
    read = read_annotations(path)
    assert read.dataset == "meld" and {name: value.shape[1] for name, value in read.features.items()} == {
        "text": 1,
        "audio": 2,
        "visual": 1,
    }
    path = tmp_path / "some.json"
    path.write_text(json.dumps(dialogues(["Mad", "Joyful"], None)))
    read = read_annotations(path)
    assert read.dataset == "emorynlp" and read.features == {} and read.splits == {} and "contains no split" in read.notes[-1]


def test_list_of_dialogues_with_indices_and_a_vocabulary(tmp_path: Path) -> None:
    path = tmp_path / "train_data.json"
    path.write_text(json.dumps(dialogues([1, 0], [0.5])))
    assert read_annotations(path).labels == ["0", "1"]
    dump(tmp_path, {"stoi": {"up": 0, "down": 1}, "itos": ["up", "down"]}, "label_vocab.pkl")
    read = read_annotations(path)
    assert not read.labels and read.columns["label"] == ["down", "up", None]
    dump(tmp_path, {"stoi": {"fear": 0}, "itos": {0: "fear", 1: "happiness"}}, "label_vocab.pkl")
    assert read_annotations(path).dataset == "dailydialog"
    dump(tmp_path, [1], "label_vocab.pkl")
    with pytest.raises(CorpusError, match="expected a dict with `itos`"):
        read_annotations(path)
    (tmp_path / "label_vocab.pkl").rename(tmp_path.parent / f"{tmp_path.name}.pkl")
    (tmp_path / "label_vocab.pkl").symlink_to(tmp_path.parent / f"{tmp_path.name}.pkl")
    with pytest.raises(CorpusError, match=r"label_vocab\.pkl: a symbolic link to a file outside the folder of the link"):
        read_annotations(path)
    (tmp_path / "label_vocab.pkl").unlink()
    path.write_text('[[{"text": "x"}]]')
    with pytest.raises(CorpusError, match="dialogue 0, utterance 0: expected a dict with `text` and `speaker`"):
        read_annotations(path)
