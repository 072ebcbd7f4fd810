"""Fields are packed into one row order, and every way in which they can disagree is refused with the place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from erc_graph.data.files import pickles
from erc_graph.data.files.formats import read_annotations
from erc_graph.errors import CorpusError
from tests.data.files.formats.test_tuples import IEMOCAP, MELD, changed, dump, fields, tuple_of

FIRST = "Ses05M_impro02"


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (changed(speakers=lambda d: {**d, FIRST: ["M"]}), f"dialogue '{FIRST}': 1 speakers but 3 labels"),
        (changed(sentences=lambda d: {**d, FIRST: ["a"] * 4}), f"dialogue '{FIRST}': 4 sentences but 3 labels"),
        (changed(audio=lambda d: {**d, FIRST: d[FIRST][:2]}), f"dialogue '{FIRST}': 2 audio but 3 labels"),
        (
            changed(audio=lambda d: {**d, FIRST: [*d[FIRST][:2], np.ones(9)]}),
            f"dialogue '{FIRST}', utterance 2: audio vector has 9 numbers, .* 4",
        ),
        (
            changed(audio=lambda d: {**d, FIRST: [*d[FIRST][:2], "x"]}),
            f"dialogue '{FIRST}', utterance 2: audio: expected numbers, found 'x'",
        ),
        (changed(audio=lambda d: {**d, FIRST: [*d[FIRST][:2], ["x"]]}), "audio: expected numbers, found list of 1"),
        (changed(visual=lambda d: {FIRST: d[FIRST]}), r"visual: dialogue 'Ses01F_impro01' is missing \(found 1 of 2\)"),
        (
            changed(visual=lambda d: {**d, "Ses01F_impro01": 7}),
            "visual: dialogue 'Ses01F_impro01': expected one value per utterance, found 7",
        ),
        (changed(labels=lambda d: {**d, FIRST: [0, 6, 1]}), f"dialogue '{FIRST}', utterance 1: label 6 is outside 0-5"),
        (changed(labels=lambda d: {**d, FIRST: [0, -2, 1]}), "utterance 1: label -2 is outside"),
        (changed(labels=lambda d: {**d, FIRST: [0, 1.5, 1]}), "utterance 1: label must be an integer, found 1.5"),
        (changed(labels=lambda d: {**d, FIRST: [0, float("inf"), 1]}), "utterance 1: label must be an integer, found inf"),
        (changed(labels=lambda d: {**d, FIRST: [0, {}, 1]}), "utterance 1: label must be a number or a name, found dict of 0"),
        (changed(labels=lambda d: {**d, FIRST: [0, "sad", 1]}), "partly names and partly numbers"),
        (changed(labels=lambda d: {**d, FIRST: []}), f"dialogue '{FIRST}' is empty"),
        (changed(labels={}), "expected a dict from dialogue ids to labels"),
        (changed(speakers=lambda d: {**d, FIRST: ["M", "F", [1, 1]]}), f"dialogue '{FIRST}', utterance 2: speaker must be a name"),
        (changed(sentences=lambda d: {**d, FIRST: ["a", 7, "b"]}), f"dialogue '{FIRST}', utterance 1: expected a sentence, found 7"),
        (
            changed(ids=lambda d: {**d, FIRST: ["a", "b", "a"]}),
            "dialogue 'Ses05M_impro02', utterance 0: utterance id 'a' is used 2 times",
        ),
        (changed(ids=lambda d: {**d, FIRST: ["a", "b", ""]}), "utterance 2: utterance id must be text"),
        (changed(train=[FIRST, "Ses09"]), "split 'train' names dialogue 'Ses09', which the file does not have"),
        (changed(train=[FIRST, 1.5]), "split 'train' names dialogue 1.5"),
        (changed(train=[FIRST, "Ses01F_impro01"]), "dialogue 'Ses01F_impro01' is in the splits 'train' and 'test'"),
        (changed(train=[FIRST, FIRST]), "in the splits 'train' and 'train'"),
        (changed(lengths={"1": 1, 1: 2}), "duplicate dialogue id '1'"),
        (changed(lengths={1.5: 1, "b": 1}), "dialogue ids must be text or integers, found 1.5"),
        (
            changed("9-tuple of features (MMGCN", lengths={"a": 2}, labels={"a": [0, 5000]}, train=[], test=[]),
            "label 5000 is too large; expected indices of a label set",
        ),
    ],
)
def test_fields_that_disagree(content: Any, match: str, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=match) as caught:
        read_annotations(dump(tmp_path, content))
    assert "file.bin" in str(caught.value)


def test_an_empty_array_and_a_single_value_in_the_place_of_a_list(tmp_path: Path) -> None:
    name = "9-tuple of features (MMGCN"
    parts = fields(IEMOCAP)
    first = next(iter(IEMOCAP))
    parts["audio"] = {**parts["audio"], first: np.zeros((0, 4))}
    with pytest.raises(CorpusError, match="0 audio but 3 labels"):
        read_annotations(dump(tmp_path, tuple_of(name, parts)))
    # Nothing else reads the splits as a list here: an array without a length is none.
    parts = {**fields(IEMOCAP), "train": np.array(first)}
    with pytest.raises(CorpusError, match=r"split 'train': expected a list or set of dialogue ids, found array of shape \(\)"):
        read_annotations(dump(tmp_path, tuple_of(name, parts)))


def test_meld_utterance_numbers_become_meld_ids(tmp_path: Path) -> None:
    parts = fields(MELD, meld=True)
    parts["ids"] = {0: [0, 2], 1039: ["1"], 1153: ["utt0", "utt1", "utt3"]}
    read = read_annotations(dump(tmp_path, tuple_of("MELD 10-tuple", parts)))
    assert read.utterance_ids == [
        "train_dia0_utt0",
        "train_dia0_utt2",
        "dev_dia0_utt1",
        "test_dia0_utt0",
        "test_dia0_utt1",
        "test_dia0_utt3",
    ]


@pytest.mark.parametrize(
    "speakers", [[[1, 0], [0, 1], [1, 0]], [0, 1, 0], [np.array([1.0, 0.0]), np.array([0.0, 1.0]), np.array([1.0, 0.0])]]
)
def test_iemocap_speakers_as_numbers_and_vectors(speakers: list[Any], tmp_path: Path) -> None:
    parts = fields({"Ses05M_impro02": 3})
    parts |= {"speakers": {"Ses05M_impro02": speakers}, "train": ["Ses05M_impro02"], "test": []}
    read = read_annotations(dump(tmp_path, tuple_of("12-tuple", parts)))
    assert read.speakers == ["Ses05M", "Ses05F", "Ses05M"]


def test_scores_of_mosi_mosei_and_avec(tmp_path: Path) -> None:
    lengths = {f"video{i}": 1 for i in range(93)}
    parts = fields(lengths)
    parts |= {
        "labels": {key: [[-1.5, 0.0, 2.0][i % 3]] for i, key in enumerate(lengths)},
        "speakers": {key: [""] for key in lengths},
        "train": {"video1", "video0"},
        "dev": {"video3"},
        "test": {"video2"},
    }
    read = read_annotations(dump(tmp_path, tuple_of("7-list with utterance ids", parts)))
    assert read.dataset == "mosi" and read.columns["score"][:3] == [-1.5, 0.0, 2.0]
    assert read.columns["label"][:3] == ["negative", "positive", "positive"] and set(read.speakers) == {"speaker"}
    assert read.splits == {"train": ["video0", "video1"], "dev": ["video3"], "test": ["video2"]}
    assert "89 of 93 dialogues are in no split" in read.notes
    parts = fields({"v": 2, "w": 1}) | {
        "labels": {"v": [0.5, float("nan")], "w": [np.float32(-3)]},
        "speakers": {"v": ["user", "x"], "w": ["x"]},
    }
    read = read_annotations(dump(tmp_path, tuple_of("9-tuple of features (MMGCN", parts)), dataset=None)
    assert read.dataset is None and read.columns == {"score": [0.5, None, -3.0]} and read.labels == []
    assert read_annotations(tmp_path / "file.bin", dataset="mosei").dataset == "mosei"
    parts["labels"]["w"] = [float("inf")]
    with pytest.raises(CorpusError, match="dialogue 'w', utterance 0: score inf is not finite"):
        read_annotations(dump(tmp_path, tuple_of("9-tuple of features (MMGCN", parts)))


def test_sentiments_outside_the_set(tmp_path: Path) -> None:
    parts = fields(MELD, meld=True) | {"sentiments": {0: [0, 3], 1039: [0], 1153: [0, 1, 2]}, "train": [0]}
    with pytest.raises(CorpusError, match="dialogue 'train_dia0', utterance 1: sentiment 3 is outside 0-2"):
        read_annotations(dump(tmp_path, tuple_of("MELD 7-list", parts)))


def test_extra_dialogues_and_missing_vectors_are_noted_not_refused(tmp_path: Path) -> None:
    content = changed(audio=lambda d: {**d, "Ses03": [], FIRST: [[], *d[FIRST][1:]]})
    read = read_annotations(dump(tmp_path, content))
    assert np.isnan(read.features["audio"][0]).all() and not np.isnan(read.features["audio"][1:]).any()
    assert "audio: 1 dialogues without labels are left out; the first is 'Ses03'" in read.notes


def test_shared_references_cannot_make_a_small_file_huge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader of pickles refuses these; so do the fields, whatever they come from."""
    monkeypatch.setattr(pickles, "_ITEMS", 10**12)
    labels, sentences = [0] * 20_000, ["x"] * 20_000
    many = [{f"d{i}": values for i in range(3000)} for values in (labels, labels, sentences)]
    with pytest.raises(CorpusError, match=r"60000000 utterances in .* bytes are too many"):
        read_annotations(dump(tmp_path, (*many, [], [], [])))
    vector = list(map(float, range(5000)))
    parts = fields({"a": 50_000}) | {"text": {"a": [vector] * 50_000}, "train": [], "test": []}
    small = (
        parts["ids"],
        parts["speakers"],
        parts["labels"],
        parts["text"],
        parts["text"],
        parts["text"],
        parts["sentences"],
        [],
        [],
    )
    with pytest.raises(CorpusError, match=r"50000 x 5000 numbers in .* bytes are too many"):
        read_annotations(dump(tmp_path, small))
