"""Every known layout from a tiny file made here, every way in which a file can be wrong, and the real files where they stand."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from erc_graph.data.annotations import Annotations
from erc_graph.data.files.formats import merge_annotations, read_annotations
from erc_graph.data.files.formats.tuples import LAYOUTS
from erc_graph.data.tasks import IEMOCAP6, MELD7
from erc_graph.errors import CorpusError

DATA = Path(os.environ.get("ERC_GRAPH_DATA", "no-corpora"))
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="no real corpora")

IEMOCAP = {"Ses05M_impro02": 3, "Ses01F_impro01": 2}
MELD = {0: 2, 1039: 1, 1153: 3}
WIDTHS = {"text": 5, "audio": 4, "visual": 6, "roberta1": 8, "roberta2": 8, "roberta3": 8, "roberta4": 8}


def vectors(lengths: dict[Any, int], name: str) -> dict[Any, list[np.ndarray]]:
    """Row `turn` of dialogue `i` is filled with 100 i + turn + width."""
    width = WIDTHS[name]
    return {key: [np.full(width, 100 * i + turn + width, np.float32) for turn in range(n)] for i, (key, n) in enumerate(lengths.items())}


def onehot(index: int) -> list[int]:
    return [int(i == index) for i in range(9)]


def fields(lengths: dict[Any, int], meld: bool = False) -> dict[str, Any]:
    """The fields of a small corpus, from which every layout is put together."""
    top = 7 if meld else 6
    parts: dict[str, Any] = {
        "ids": {key: [f"{key}_u{turn}" for turn in range(n)] for key, n in lengths.items()},
        "speakers": {key: [onehot(turn % 2) if meld else "MF"[turn % 2] for turn in range(n)] for key, n in lengths.items()},
        "labels": {key: [(turn + top - 2) % top for turn in range(n)] for key, n in lengths.items()},
        "sentiments": {key: [turn % 3 for turn in range(n)] for key, n in lengths.items()},
        "sentences": {key: [f"it\x92s {turn}" for turn in range(n)] for key, n in lengths.items()},
        "train": [next(iter(lengths))] if not meld else [1039, 0],
        "dev": [1039],
        "test": {list(lengths)[-1]},
    }
    for name in WIDTHS:
        parts[name] = vectors(lengths, name)
    parts["extra"] = parts["sentiments"]
    return parts


def dump(tmp_path: Path, content: Any, name: str = "file.bin", protocol: int = 4) -> Path:
    path = tmp_path / name
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


def layout_of(name: str) -> tuple[str, ...]:
    return next(layout.fields for layout in LAYOUTS if name in layout.name)


def tuple_of(name: str, parts: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(parts[field] for field in layout_of(name))


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    "name", ["9-tuple of features (MMGCN", "12-tuple", "6-list with utterance ids", "6-list without", "RoBERTa 10-list (COSMIC)"]
)
def test_iemocap_layouts(name: str, protocol: int, tmp_path: Path) -> None:
    layout = layout_of(name)
    parts = fields(IEMOCAP)
    parts["dev"] = []
    read = read_annotations(dump(tmp_path, tuple_of(name, parts), protocol=protocol))
    assert name in read.format and read.dataset == "iemocap6"
    assert read.dialogue_ids == ["Ses05M_impro02", "Ses01F_impro01"] and read.lengths == [3, 2]
    assert read.speakers == ["Ses05M", "Ses05F", "Ses05M", "Ses01M", "Ses01F"]
    assert read.texts == ["it’s 0", "it’s 1", "it’s 2", "it’s 0", "it’s 1"]
    expected = [IEMOCAP6[i] for i in (4, 5, 0, 4, 5)]
    assert read.columns == {"label": expected} and read.labels == []
    assert read.splits == {"train": ["Ses05M_impro02"], "test": ["Ses01F_impro01"]}
    mark = "u" if "ids" in layout else ""
    assert read.utterance_ids == [f"{key}_{mark}{turn}" for key, n in IEMOCAP.items() for turn in range(n)]
    assert list(read.features) == [field for field in layout if field in WIDTHS]
    for modality, value in read.features.items():
        width = WIDTHS[modality]
        assert value.dtype == np.float32 and value.shape == (5, width)
        assert value[:, 0].tolist() == [width, 1 + width, 2 + width, 100 + width, 101 + width]


MELD_LAYOUTS = [layout.name for layout in LAYOUTS if "MELD" in layout.name]


@pytest.mark.parametrize("name", MELD_LAYOUTS)
def test_meld_layouts(name: str, tmp_path: Path) -> None:
    layout = layout_of(name)
    parts = fields(MELD, meld=True)
    pooled = "dev" not in layout
    if not pooled:
        parts["train"] = [0]
    read = read_annotations(dump(tmp_path, list(tuple_of(name, parts))))
    assert read.format == name and read.dataset == "meld"
    assert read.dialogue_ids == ["train_dia0", "dev_dia0", "test_dia0"] and read.lengths == [2, 1, 3]
    assert read.splits == {"train": ["train_dia0"], "dev": ["dev_dia0"], "test": ["test_dia0"]}
    assert read.speakers == ["speaker0", "speaker1", "speaker0", "speaker0", "speaker1", "speaker0"]
    assert read.columns["label"] == [MELD7[i] for i in (5, 6, 5, 5, 6, 0)]
    assert read.columns["sentiment"] == ["neutral", "positive", "neutral", "neutral", "positive", "negative"]
    assert read.texts[0] == "it’s 0"
    assert any("recovered" in note for note in read.notes) == pooled
    assert any("MELD's ids" in note for note in read.notes) and any("not identities" in note for note in read.notes)
    assert list(read.features) == [field for field in layout if field in WIDTHS]
    assert any("skip numbers" in note for note in read.notes) == ("ids" not in layout)


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


def test_an_unnamed_last_field_that_is_no_sentiment_is_ignored(tmp_path: Path) -> None:
    parts = {**fields(MELD, meld=True), "extra": None}
    read = read_annotations(dump(tmp_path, tuple_of("MELD 13-tuple", parts)))
    assert set(read.columns) == {"label"}


def test_meld_with_other_keys_keeps_them(tmp_path: Path) -> None:
    lengths = {5000: 2, 1: 1, 2: 3}
    parts = {**fields(lengths, meld=True), "train": [5000], "dev": [1], "test": [2]}
    read = read_annotations(dump(tmp_path, tuple_of("MELD 7-list", parts)))
    assert read.dialogue_ids == ["5000", "1", "2"] and read.dataset == "meld" and "not MELD's" in read.notes[0]


def test_four_way_iemocap(tmp_path: Path) -> None:
    parts = fields(IEMOCAP)
    parts["labels"] = {key: [turn % 4 for turn in range(n)] for key, n in IEMOCAP.items()}
    read = read_annotations(dump(tmp_path, tuple_of("6-list with utterance ids", parts)))
    assert read.dataset == "iemocap4" and read.columns["label"] == ["happy", "sad", "neutral", "happy", "sad"]
    assert read_annotations(tmp_path / "file.bin", dataset="iemocap6").dataset == "iemocap6"
    with pytest.raises(CorpusError, match=r"dialogues are IEMOCAP's .* said to be 'meld'"):
        read_annotations(tmp_path / "file.bin", dataset="meld")


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
    with pytest.raises(CorpusError, match="dialogue 'w', turn 0: score inf is not finite"):
        read_annotations(dump(tmp_path, tuple_of("9-tuple of features (MMGCN", parts)))


def test_mosei_ten_tuple_with_frames_and_tokens(tmp_path: Path) -> None:
    lengths = {"v": 2, "w": 1, "x": 1}
    parts = fields(lengths)
    frames = np.arange(12.0).reshape(3, 4)
    parts |= {
        "labels": {"v": [0.5, -1.0], "w": [2.5], "x": [0.0]},
        "audio": {key: [frames + turn for turn in range(n)] for key, n in lengths.items()},
        "sentences": {key: [["so", "what"]] * n for key, n in lengths.items()},
        "train": ["v"],
        "dev": ["w"],
        "test": ["x"],
    }
    read = read_annotations(dump(tmp_path, tuple_of("MOSEI 10-tuple", parts)))
    assert read.format.startswith("MOSEI") and read.splits == {"train": ["v"], "dev": ["w"], "test": ["x"]}
    assert read.features["audio"][1].tolist() == [5.0, 6.0, 7.0, 8.0] and "averaged over time" in "".join(read.notes)
    assert read.texts == ["so what"] * 4


def test_unknown_data_set_keeps_indices_and_known_ones_are_told_by_the_caller(tmp_path: Path) -> None:
    lengths = {"d0": 2, "d1": 1, "d2": 1}
    parts = fields(lengths) | {
        "labels": {"d0": [2, -1], "d1": [np.int64(0)], "d2": [None]},
        "train": ["d0"],
        "dev": ["d1"],
        "test": np.array(["d2"]),
    }
    path = dump(tmp_path, tuple_of("RoBERTa 10-list (COSMIC)", parts))
    read = read_annotations(path)
    assert read.dataset is None and read.labels == ["0", "1", "2"] and read.columns["label"] == ["2", None, "0", None]
    assert read.splits["test"] == ["d2"]
    assert read_annotations(path, dataset="emorynlp").columns["label"] == ["Peaceful", None, "Joyful", None]
    assert read_annotations(path, dataset="dailydialog").columns["label"] == ["anger", None, "happiness", None]
    parts["labels"] = {"d0": ["b", "a"], "d1": ["b"], "d2": [""]}
    read = read_annotations(dump(tmp_path, tuple_of("RoBERTa 10-list (COSMIC)", parts)))
    assert read.labels == ["a", "b"] and read.columns["label"] == ["b", "a", "b", None]


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
        ({"train": [{"vid": "a", "labels": [1]}]}, "sample 0: no 'speaker'"),
        ({"train": [sample(1.5, 1)]}, "`vid` must be text"),
        ({"train": [sample("a", 1)], "test": [sample("a", 1)]}, "test, sample 0: duplicate dialogue id 'a'"),
        ({"train": [], "test": []}, "no dialogue in any of"),
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
    assert read.dataset == "emorynlp" and read.features == {} and read.splits == {} and "tells no split" in read.notes[-1]


def test_list_of_dialogues_with_indices_and_a_vocabulary(tmp_path: Path) -> None:
    path = tmp_path / "train_data.json"
    path.write_text(json.dumps(dialogues([1, 0], [0.5])))
    assert read_annotations(path).labels == ["0", "1"]
    dump(tmp_path, {"stoi": {"up": 0, "down": 1}, "itos": ["up", "down"]}, "label_vocab.pkl")
    read = read_annotations(path)
    assert read.labels == ["down", "up"] and read.columns["label"] == ["down", "up", None]
    dump(tmp_path, {"stoi": {"fear": 0}, "itos": {0: "fear", 1: "happiness"}}, "label_vocab.pkl")
    assert read_annotations(path).dataset == "dailydialog"
    dump(tmp_path, [1], "label_vocab.pkl")
    with pytest.raises(CorpusError, match="expected a dict with `itos`"):
        read_annotations(path)
    (tmp_path / "label_vocab.pkl").rename(tmp_path.parent / f"{tmp_path.name}.pkl")
    (tmp_path / "label_vocab.pkl").symlink_to(tmp_path.parent / f"{tmp_path.name}.pkl")
    with pytest.raises(CorpusError, match=r"label_vocab\.pkl: a link that leads out of its folder"):
        read_annotations(path)
    (tmp_path / "label_vocab.pkl").unlink()
    path.write_text('[[{"text": "x"}]]')
    with pytest.raises(CorpusError, match="dialogue 0, turn 0: expected a dict with `text` and `speaker`"):
        read_annotations(path)


def changed(name: str = "12-tuple", lengths: dict[Any, int] = IEMOCAP, **changes: Any) -> tuple[Any, ...]:
    parts = fields(lengths)
    for key, value in changes.items():
        parts[key] = value(parts[key]) if callable(value) else value
    return tuple_of(name, parts)


FIRST = "Ses05M_impro02"


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (changed(speakers=lambda d: {**d, FIRST: ["M"]}), f"dialogue '{FIRST}': 1 speakers but 3 labels"),
        (changed(sentences=lambda d: {**d, FIRST: ["a"] * 4}), f"dialogue '{FIRST}': 4 sentences but 3 labels"),
        (changed(audio=lambda d: {**d, FIRST: d[FIRST][:2]}), f"dialogue '{FIRST}': 2 audio but 3 labels"),
        (
            changed(audio=lambda d: {**d, FIRST: [*d[FIRST][:2], np.ones(9)]}),
            f"dialogue '{FIRST}', turn 2: audio vector has 9 numbers, .* 4",
        ),
        (
            changed(audio=lambda d: {**d, FIRST: [*d[FIRST][:2], "x"]}),
            f"dialogue '{FIRST}', turn 2: audio: expected numbers, found 'x'",
        ),
        (changed(audio=lambda d: {**d, FIRST: [*d[FIRST][:2], ["x"]]}), "audio: expected numbers, found list of 1"),
        (changed(visual=lambda d: {FIRST: d[FIRST]}), r"visual: dialogue 'Ses01F_impro01' is missing \(1 of 2 there\)"),
        (
            changed(visual=lambda d: {**d, "Ses01F_impro01": 7}),
            "visual: dialogue 'Ses01F_impro01': expected one value per utterance, found 7",
        ),
        (changed(labels=lambda d: {**d, FIRST: [0, 6, 1]}), f"dialogue '{FIRST}', turn 1: label 6 is outside 0-5"),
        (changed(labels=lambda d: {**d, FIRST: [0, -2, 1]}), "turn 1: label -2 is outside"),
        (changed(labels=lambda d: {**d, FIRST: [0, 1.5, 1]}), "turn 1: label must be a whole number, found 1.5"),
        (changed(labels=lambda d: {**d, FIRST: [0, float("nan"), 1]}), "turn 1: label must be a whole number, found nan"),
        (changed(labels=lambda d: {**d, FIRST: [0, float("inf"), 1]}), "turn 1: label must be a whole number, found inf"),
        (changed(labels=lambda d: {**d, FIRST: [0, {}, 1]}), "turn 1: label must be a number or a name, found dict of 0"),
        (changed(labels=lambda d: {**d, FIRST: [0, "sad", 1]}), "partly names and partly numbers"),
        (changed(labels=lambda d: {**d, FIRST: []}), f"dialogue '{FIRST}' is empty"),
        (changed(labels={}), "expected a dict dialogue → labels"),
        (changed(speakers=lambda d: {**d, FIRST: ["M", "F", [1, 1]]}), f"dialogue '{FIRST}', turn 2: speaker must be a name"),
        (changed(sentences=lambda d: {**d, FIRST: ["a", 7, "b"]}), f"dialogue '{FIRST}', turn 1: expected a sentence, found 7"),
        (
            changed(ids=lambda d: {**d, FIRST: ["a", "b", "a"]}),
            "dialogue 'Ses05M_impro02', turn 0: utterance id 'a' is used 2 times",
        ),
        (changed(ids=lambda d: {**d, FIRST: ["a", "b", ""]}), "turn 2: utterance id must be text"),
        (changed(train=[FIRST, "Ses09"]), "split 'train' names dialogue 'Ses09', which the file does not have"),
        (changed(train=[FIRST, 1.5]), "split 'train' names dialogue 1.5"),
        (changed(train=[FIRST, "Ses01F_impro01"]), "dialogue 'Ses01F_impro01' is in the splits 'train' and 'test'"),
        (changed(train=[FIRST, FIRST]), "in the splits 'train' and 'train'"),
        (changed(lengths={"1": 1, 1: 2}), "duplicate dialogue id '1'"),
        (changed(lengths={1.5: 1, "b": 1}), "dialogue ids must be text or whole numbers, found 1.5"),
        (
            changed("9-tuple of features (MMGCN", lengths={"a": 2}, labels={"a": [0, 5000]}, train=[], test=[]),
            "label 5000 is no index",
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


@pytest.mark.parametrize("odd", [frozenset([1]), "\0", 10**400, None])
def test_an_unnamed_last_field_with_something_else_in_it_is_ignored(odd: Any, tmp_path: Path) -> None:
    parts = fields(MELD, meld=True)
    parts["extra"] = {**parts["extra"], 0: [0, odd]}
    read = read_annotations(dump(tmp_path, tuple_of("MELD 10-tuple", parts)))
    assert set(read.columns) == {"label"} and len(read.utterance_ids) == sum(MELD.values())


def test_a_vector_of_numbers_that_no_float_holds(tmp_path: Path) -> None:
    parts = fields(IEMOCAP)
    first = next(iter(IEMOCAP))
    parts["speakers"] = {**parts["speakers"], first: [[10**400, 1, 0]] * 3}
    with pytest.raises(CorpusError, match=r"element 1 \(speakers\) should be"):
        read_annotations(dump(tmp_path, tuple_of("9-tuple of features (MMGCN", parts)))


def test_sentiments_outside_the_set(tmp_path: Path) -> None:
    parts = fields(MELD, meld=True) | {"sentiments": {0: [0, 3], 1039: [0], 1153: [0, 1, 2]}, "train": [0]}
    with pytest.raises(CorpusError, match="dialogue 'train_dia0', turn 1: sentiment 3 is outside 0-2"):
        read_annotations(dump(tmp_path, tuple_of("MELD 7-list", parts)))


def test_extra_dialogues_and_missing_vectors_are_noted_not_refused(tmp_path: Path) -> None:
    content = changed(audio=lambda d: {**d, "Ses03": [], FIRST: [[], *d[FIRST][1:]]})
    read = read_annotations(dump(tmp_path, content))
    assert np.isnan(read.features["audio"][0]).all() and not np.isnan(read.features["audio"][1:]).any()
    assert "audio: 1 dialogues without labels left out, the first is 'Ses03'" in read.notes


def test_shared_references_cannot_make_a_small_file_huge(tmp_path: Path) -> None:
    labels, sentences = [0] * 20_000, ["x"] * 20_000
    many = [{f"d{i}": values for i in range(3000)} for values in (labels, labels, sentences)]
    with pytest.raises(CorpusError, match=r"60000000 utterances in .* bytes; refused"):
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
    with pytest.raises(CorpusError, match=r"50000 x 5000 numbers in .* bytes; refused"):
        read_annotations(dump(tmp_path, small))


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (({"a": [1]},) * 2, "tuple of 2: 0 number, 1 number; known lengths are 6, 7, 9, 10, 11, 12, 13, 14"),
        (({"a": [1]},) * 5 + ([], [], 3), "found a tuple of 8"),
        (({"a": [np.arange(9)]},) * 4 + ([], [], [], []), "DailyDialog tuple of word indices is not read"),
        (
            (*changed()[:9], [], 1, "x"),
            r"nearest known layout is the 12-tuple.*element 9 \(sentences\) should be text or tokens, is 'keys'",
        ),
        (({"a": 1}, *changed()[1:]), r"element 0 \(ids\) should be number or text, is 'dict of int'"),
        (({"a": [np.ones(5)]},) * 9, "COMET"),
        ([{"0_0": np.ones(3)}] * 3, "MELD's official feature file"),
        ({"a": [np.ones(3)], "b": [np.ones(3)]}, "features alone"),
        ({"x": 1}, "a dict of 1 with the keys x, none of the known layouts"),
        ([], "a list of 0, none of the known layouts"),
        (7, "a int, none of the known layouts"),
    ],
)
def test_unknown_and_refused_layouts(content: Any, match: str, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=match):
        read_annotations(dump(tmp_path, content))


def test_archives_and_other_containers(tmp_path: Path) -> None:
    for names, match in (
        (["train_corpus.npy"], "MERBench"),
        (["archive/data.pkl"], "a PyTorch file"),
        (["utterance.npy", "features.npy"], r"under `\[features\]`"),
        (["x.txt"], "a zip archive of 1 files"),
    ):
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
            for name in names:
                archive.writestr(name, b"")
        with pytest.raises(CorpusError, match=match):
            read_annotations(tmp_path / "a.npz")
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(CorpusError, match="a zip archive"):
        read_annotations(tmp_path / "a.npz")
    (tmp_path / "a.gz").write_bytes(b"\x1f\x8b\x08\x00")
    with pytest.raises(CorpusError, match="compressed, HDF5"):
        read_annotations(tmp_path / "a.gz")
    (tmp_path / "a.json").write_text("[[{")
    with pytest.raises(CorpusError, match="truncated or corrupt JSON"):
        read_annotations(tmp_path / "a.json")
    (tmp_path / "a.json").write_text("[" * 200_000)
    with pytest.raises(CorpusError, match="truncated or corrupt JSON"):
        read_annotations(tmp_path / "a.json")


def test_missing_and_folder(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="cannot be read"):
        read_annotations(tmp_path / "none.pkl")
    with pytest.raises(CorpusError, match="is a folder"):
        read_annotations(tmp_path)


def test_hostile_pickle_of_every_age(tmp_path: Path) -> None:
    class Runs:
        def __reduce__(self) -> tuple[Any, Any]:
            return os.system, (f"touch {tmp_path / 'ran'}",)

    for protocol in range(6):
        for content in (Runs(), [Runs()], {"a": Runs()}, (Runs(), 1)):
            with pytest.raises(CorpusError, match=r"names '.*system'"):
                read_annotations(dump(tmp_path, content, protocol=protocol))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("protocol", [0, 1, 2, 4])
def test_truncated_anywhere(protocol: int, tmp_path: Path) -> None:
    whole = pickle.dumps(changed("6-list with utterance ids"), protocol=protocol)
    path = tmp_path / "cut.pkl"
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        with pytest.raises(CorpusError, match=r"cut\.pkl"):
            read_annotations(path)


def test_damaged_anywhere(tmp_path: Path) -> None:
    whole = pickle.dumps(changed("9-tuple of features (MMGCN"), protocol=2)
    rng = np.random.default_rng(0)
    path = tmp_path / "damaged.pkl"
    outcomes = Counter()
    for _ in range(400):
        damaged = bytearray(whole)
        damaged[rng.integers(len(whole))] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            outcomes[type(read_annotations(path))] += 1
        except CorpusError as error:
            assert "damaged.pkl" in str(error)
            outcomes[CorpusError] += 1
    assert outcomes[CorpusError] > 50 and set(outcomes) <= {CorpusError, Annotations}


def small(ids: list[str], **other: Any) -> Annotations:
    base: dict[str, Any] = {
        "format": "x", "dataset": "meld", "dialogue_ids": ids, "lengths": [1] * len(ids),
        "utterance_ids": [f"{id}_0" for id in ids],
        "speakers": ["A"] * len(ids), "columns": {"label": ["joy"] * len(ids)}, "splits": {"train": ids},
    }  # fmt: skip
    return Annotations(**(base | other))


def test_merge_side_by_side() -> None:
    first = small(["a", "b"], texts=["x", "y"], features={"text": np.ones((2, 3), np.float32)}, columns={"label": ["joy", "fear"]})
    read = merge_annotations([first, small(["c"], columns={"score": [1.0]}, splits={"test": ["c"]}, notes=["n"])])
    assert read.dialogue_ids == ["a", "b", "c"] and read.texts == ["x", "y", ""] and read.notes == ["n"]
    assert read.columns == {"label": ["joy", "fear", None], "score": [None, None, 1.0]}
    assert read.splits == {"train": ["a", "b"], "test": ["c"]} and np.isnan(read.features["text"]).tolist() == [[False] * 3] * 2 + [
        [True] * 3
    ]
    labels = merge_annotations([small(["a"], dataset=None, labels=["0"]), small(["b"], dataset=None, labels=["0", "1"])]).labels
    assert labels == ["0", "1"]
    assert merge_annotations([small(["a"], labels=["u", "x"]), small(["b"], labels=["v"])]).labels == ["u", "v", "x"]


def test_merge_joins_the_same_dialogues_turn_by_turn() -> None:
    csvs = [
        small(
            ["a"],
            lengths=[2],
            utterance_ids=["a_u0", "a_u5"],
            speakers=["A", "B"],
            texts=["x", "y"],
            columns={"label": ["joy", "fear"]},
        ),
        small(["b"]),
    ]
    values = np.arange(6, dtype=np.float32).reshape(3, 2)
    other = small(
        ["b", "a"],
        lengths=[1, 2],
        utterance_ids=["b_0", "a_0", "a_1"],
        speakers=["s"] * 3,
        columns={"label": ["joy", "joy", None]},
        features={"roberta1": values},
    )
    read = merge_annotations([*csvs, other])
    assert read.utterance_ids == ["a_u0", "a_u5", "b_0"] and read.speakers == ["A", "B", "A"] and read.texts == ["x", "y", ""]
    assert read.features["roberta1"].tolist() == [[2, 3], [4, 5], [0, 1]] and "joined" in read.format


@pytest.mark.parametrize(
    ("parts", "match"),
    [
        ([], "no file named"),
        ([small(["a"]), small(["b"], dataset="mosi")], "different data sets: meld, mosi"),
        ([small(["a", "b"]), small(["b", "c"])], r"duplicate dialogue id 'b' \(1 dialogues are in two files\)"),
        ([small(["a"]), small(["a"])], "duplicate dialogue id 'a': all .* adds neither"),
        ([small(["a"]), small(["b"], utterance_ids=["a_0"])], "utterance id 'a_0' is in two files"),
        (
            [small(["a"], features={"text": np.ones((1, 2))}), small(["b"], features={"text": np.ones((1, 3))})],
            "2 numbers in one file and 3",
        ),
        ([small(["a"]), small(["a"], lengths=[2], features={"x": np.ones((2, 1))})], "'a' has 1 utterances in one file and 2"),
        (
            [small(["a"]), small(["a"], columns={"label": ["fear"]}, features={"x": np.ones((1, 1))})],
            "utterance 'a_0' is 'joy' in one file, 'fear' in another",
        ),
    ],
)
def test_merge_refuses(parts: list[Annotations], match: str) -> None:
    with pytest.raises(CorpusError, match=match):
        merge_annotations(parts)


def split_sizes(read: Annotations) -> dict[str, tuple[int, int]]:
    length = dict(zip(read.dialogue_ids, read.lengths, strict=True))
    return {split: (len(ids), sum(length[id] for id in ids)) for split, ids in read.splits.items()}


@pytest.mark.corpus
@needs_data
def test_real_iemocap_counts() -> None:
    gcnet = read_annotations(DATA / "iemocap" / "IEMOCAP_features_raw_6way.pkl")
    cosmic = read_annotations(DATA / "iemocap" / "cosmic_iemocap.pkl")
    assert gcnet.dataset == cosmic.dataset == "iemocap6"
    assert split_sizes(gcnet) == {"train": (120, 5810), "test": (31, 1623)}
    assert split_sizes(cosmic) == {"train": (108, 5163), "dev": (12, 647), "test": (31, 1623)}
    for read in (gcnet, cosmic):
        assert len(read.dialogue_ids) == 151 and (min(read.lengths), max(read.lengths)) == (8, 110) and len(set(read.speakers)) == 10
        assert Counter(read.columns["label"]) == {
            "frustrated": 1849, "neutral": 1708, "angry": 1103, "sad": 1084, "excited": 1041, "happy": 648,
        }  # fmt: skip
    for id, speaker in zip(gcnet.utterance_ids, gcnet.speakers, strict=True):
        assert speaker == id[:5] + id.rsplit("_", 1)[1][0]  # Ses03M_impro08b_F001 is spoken by Ses03F
    joined = merge_annotations([gcnet, Annotations(**{**vars(cosmic), "features": {"x": np.ones((7433, 1), np.float32)}})])
    assert joined.columns["label"] == gcnet.columns["label"] and joined.utterance_ids == gcnet.utterance_ids


@pytest.mark.corpus
@needs_data
def test_real_meld_pickle_and_csvs_say_the_same() -> None:
    csv = merge_annotations([read_annotations(DATA / "meld" / f"{split}_sent_emo.csv") for split in ("train", "dev", "test")])
    pkl = read_annotations(DATA / "meld" / "cosmic_meld.pkl")
    for read in (csv, pkl):
        assert split_sizes(read) == {"train": (1038, 9989), "dev": (114, 1109), "test": (280, 2610)} and max(read.lengths) == 33
        assert read.lengths.count(1) == 88 and read.dataset == "meld" and len(set(read.utterance_ids)) == 13708

    def by_dialogue(read: Annotations, values: list[Any]) -> dict[str, list[Any]]:
        result, start = {}, 0
        for id, length in zip(read.dialogue_ids, read.lengths, strict=True):
            result[id] = values[start : start + length]
            start += length
        return result

    for column in ("label", "sentiment"):
        assert by_dialogue(csv, csv.columns[column]) == by_dialogue(pkl, pkl.columns[column])
    assert by_dialogue(csv, csv.texts).keys() == by_dialogue(pkl, pkl.texts).keys()
    texts = by_dialogue(pkl, pkl.texts)
    same = sum(mine == theirs for id, own in by_dialogue(csv, csv.texts).items() for mine, theirs in zip(own, texts[id], strict=True))
    assert same > 13_690 and not any(0x80 <= ord(char) < 0xA0 for text in pkl.texts for char in text)


@pytest.mark.corpus
@needs_data
def test_real_mosi_table() -> None:
    read = read_annotations(DATA / "mosi" / "utterances.csv", dataset="mosi")
    assert len(read.dialogue_ids) == 93 and len(read.utterance_ids) == 2199 and read.labels == []
    assert Counter(read.columns["label"]) == {"positive": 1176, "negative": 1023}
    for label, score in zip(read.columns["label"], read.columns["score"], strict=True):
        assert label == ("positive" if score >= 0 else "negative")
