"""Clips of videos: MMSA's table, MAG's words, MulT's arrays without ids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from erc_graph.data.files.formats import read_annotations
from erc_graph.data.files.load import load_corpus
from erc_graph.data.files.notes import noting
from erc_graph.errors import CorpusError
from tests.data.files.formats.test_tuples import dump

TABLE = "video_id,clip_id,text,label,label_T,annotation,mode\n"


def test_mmsa_label_table(tmp_path: Path) -> None:
    path = tmp_path / "label.csv"
    path.write_text(f"{TABLE}v1,10,No.,-0.5,0,Negative,train\nv1,2,Yes!,1.0,0,Positive,train\nv2,0001,Hm,0.0,0,Neutral,valid\n")
    with noting() as notes:
        read = read_annotations(path)
    assert read.dialogue_ids == ["v1", "v2"] and read.utterance_ids == ["v1_2", "v1_10", "v2_0001"]
    assert read.columns == {"score": [1.0, -0.5, 0.0], "sentiment": ["positive", "negative", "neutral"]}
    assert read.splits == {"train": ["v1"], "dev": ["v2"]} and notes == ["label.csv: one speaker per video is assumed"]
    assert load_corpus(path).task.name == "sentiment" and load_corpus(path, task="meld3").target.tolist() == [1, 2, 0]


def test_a_video_in_two_splits_is_two_conversations(tmp_path: Path) -> None:
    path = tmp_path / "label.csv"
    path.write_text(f"{TABLE}v,1,No.,-0.5,0,Negative,train\nv,2,Yes!,1.0,0,Positive,test\n", encoding="utf-16")
    read = read_annotations(path)
    assert read.dialogue_ids == ["v:train", "v:test"] and read.utterance_ids == ["v_1", "v_2"]


def clip(number: int, words: int = 2, *, widths: tuple[int, int] = (4, 5), label: Any = None) -> tuple[Any, ...]:
    rng = np.random.default_rng(number)
    arrays = tuple(rng.normal(size=(words, width)) for width in widths)
    return ((["HI", "THERE"][:words], *arrays), np.array([[float(number)]]) if label is None else label, f"v[{number}]")


def test_mag_reads_words_as_sequences(tmp_path: Path) -> None:
    read = read_annotations(dump(tmp_path, {"train": [clip(1), clip(0, words=1)], "dev": [], "test": [(*clip(3)[:2], "w[0]")]}))
    assert read.dialogue_ids == ["v", "w"] and read.utterance_ids == ["v_0", "v_1", "w_0"] and read.texts == ["HI", "HI THERE", "HI THERE"]
    assert read.columns["score"] == [0.0, 1.0, 3.0] and read.splits == {"train": ["v"], "test": ["w"]}
    assert read.sequences["visual"].item == (4,) and read.sequences["audio"].item == (5,) and read.sequences["audio"].sizes == (1, 2, 2)
    np.testing.assert_allclose(read.sequences["visual"][1], clip(1)[0][1], rtol=1e-6)


@pytest.mark.parametrize(
    ("bad", "match"),
    [
        (((["HI"],), np.zeros((1, 1)), "v[9]"), r"train, clip 1: expected the tuple \(\(words, visual, acoustic\), score, id\)"),
        (clip(1, label="x"), "train, clip 1: expected"),
        (((["HI"], np.zeros(3), np.zeros((1, 5))), 1.0, "v[9]"), r"train, clip 1: visual: expected an array of shape \(words, width\)"),
        (clip(1, widths=(4, 6)), "clip 1: audio: 6 numbers per word, but other clips have 5"),
        ((*clip(1)[:2], "v9"), "id 'v9'; expected"),
    ],
)
def test_mag_refusals(tmp_path: Path, bad: tuple[Any, ...], match: str) -> None:
    with pytest.raises(CorpusError, match=match):
        read_annotations(dump(tmp_path, {"train": [clip(0), bad]}))


def mult(labels: Any) -> dict[str, Any]:
    return {
        name: {"text": np.ones((2, 3, 6)), "audio": np.ones((2, 3, 4)), "vision": np.ones((2, 3, 2)), "labels": labels}
        for name in ("train", "valid", "test")
    }


def test_mult_without_ids(tmp_path: Path) -> None:
    yes = np.array([[1.0, 0.0], [0.0, 1.0]])  # no, yes
    labels = np.stack([yes[[0, 1, 0, 0]], yes[[1, 0, 1, 0]]])  # happy; neutral and sad
    with noting() as notes:
        read = read_annotations(dump(tmp_path, mult(labels)))
    assert read.lengths == [1] * 6 and read.columns == {"label": ["happy", None] * 3} and read.dataset == "iemocap4"
    assert {name: value.item for name, value in read.sequences.items()} == {"text": (6,), "audio": (4,), "visual": (2,)}
    assert read.splits == {"train": ["train0", "train1"], "dev": ["dev0", "dev1"], "test": ["test0", "test1"]}
    assert "every utterance is a separate conversation" in notes[0] and "3 utterances have none or several of the four emotions" in notes[1]


def test_mult_with_scores(tmp_path: Path) -> None:
    read = read_annotations(dump(tmp_path, mult(np.array([[[1.5]], [[-2.0]]]))))
    assert read.columns == {"score": [1.5, -2.0] * 3}
    with pytest.raises(CorpusError, match="train: labels: expected an array of numbers, found list of 1"):
        read_annotations(dump(tmp_path, mult([1])))
