"""EmoryNLP as its owners and the copies of it write it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from erc_graph.data.files.formats import read_annotations
from erc_graph.data.files.load import load_corpus
from erc_graph.data.files.notes import noting
from erc_graph.errors import CorpusError

HEAD = "Utterance,Speaker,Emotion,Scene_ID,Utterance_ID,Season,Episode"


def official(emotions: list[Any]) -> dict[str, Any]:
    scene = "s01_e02_c03"
    said = [
        {
            "utterance_id": f"{scene}_u{i + 1:03d}",
            "speakers": ["Ann"] if i % 2 else ["Bob", "Cem"],
            "transcript": f"line {i}",
            "emotion": emotion,
        }
        for i, emotion in enumerate(emotions)
    ]
    said.append({"utterance_id": f"{scene}_u099", "speakers": [], "transcript": "", "transcript_with_note": "(Silence.)"})
    return {"episodes": [{"episode_id": "s01_e02", "scenes": [{"scene_id": scene, "utterances": said}]}]}


def test_the_official_json(tmp_path: Path) -> None:
    path = tmp_path / "emotion-detection-trn.json"
    path.write_text(json.dumps(official(["Joyful", "MAD", ["Sad", "Mad"]])))
    corpus = load_corpus(path)
    assert corpus.dialogue_ids == ("s01_e02_c03",) and corpus.splits == {"train": ("s01_e02_c03",)}
    assert corpus.utterance_ids == ("s01_e02_c03_u001", "s01_e02_c03_u002", "s01_e02_c03_u003")
    assert corpus.speakers == ("Bob, Cem", "Ann", "Bob, Cem") and corpus.target.tolist() == [0, 1, -1]
    assert corpus.name == "emorynlp" and corpus.texts == ("line 0", "line 1", "line 2")


@pytest.mark.parametrize(
    ("rows", "speakers", "ids"),
    [
        (["Hi,['Ann'],Sad,1,1,1,1"], ["Ann"], ["s01_e01_c01_u001"]),
        (['Hi,"[""O\'Hara""]",Sad,1,1,1,1'], ["O'Hara"], ["s01_e01_c01_u001"]),
        (["Hi,Ann,Sad,s10,12,s02,e24"], ["Ann"], ["s02_e24_c10_u012"]),
        (["B,['B'],Sad,1.0,2.0,1.0,1.0", "A,['A'],Sad,1.0,1.0,1.0,1.0"], ["A", "B"], ["s01_e01_c01_u001", "s01_e01_c01_u002"]),
        (["Hi,[],Sad,1,1,1,1"], ["speaker"], ["s01_e01_c01_u001"]),
    ],
)
def test_rows_in_many_forms(tmp_path: Path, rows: list[str], speakers: list[str], ids: list[str]) -> None:
    path = tmp_path / "emorynlp_test_final.csv"
    path.write_text("\n".join([HEAD, *rows]))
    read = read_annotations(path)
    assert read.speakers == speakers and read.utterance_ids == ids and list(read.splits) == ["test"]


def test_columns_in_another_order_and_a_name_without_a_split(tmp_path: Path) -> None:
    path = tmp_path / "emory.csv"
    path.write_text("Season;Episode;Scene_ID;Utterance_ID;Emotion;Speaker;Utterance\n1;2;3;4;neutral;['Ann'];Hello\n")
    with noting() as notes:
        read = read_annotations(path)
    assert read.dialogue_ids == ["s01_e02_c03"] and read.splits == {} and "contains no split" in notes[0]


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (f"{HEAD}\nHi,['Ann'],Sad,one,1,1,1", "line 2: Scene_ID 'one' is not an integer"),
        (json.dumps({"episodes": [{"scenes": "x"}]}), "JSON of EmoryNLP in which 'scenes' is missing or not a list"),
        (json.dumps({"episodes": [{"scenes": [{"utterances": []}, 3]}]}), "JSON of EmoryNLP in which 'utterances' is missing"),
        (json.dumps({"episodes": [{"scenes": [{"utterances": [{"transcript": "Hi"}]}]}]}), "utterance 1: expected `scene_id` and"),
    ],
)
def test_refusals(tmp_path: Path, content: str, match: str) -> None:
    (tmp_path / "train.json").write_text(content)
    with pytest.raises(CorpusError, match=match):
        read_annotations(tmp_path / "train.json")
