"""Every known tuple and list of fields, from a tiny file made here."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from erc_graph.data.files.formats import read_annotations
from erc_graph.data.files.formats.tuples import LAYOUTS
from erc_graph.data.tasks import IEMOCAP6, MELD7
from erc_graph.errors import CorpusError

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


def changed(name: str = "12-tuple", lengths: dict[Any, int] = IEMOCAP, **changes: Any) -> tuple[Any, ...]:
    parts = fields(lengths)
    for key, value in changes.items():
        parts[key] = value(parts[key]) if callable(value) else value
    return tuple_of(name, parts)


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
    assert any("are recognised by their keys" in note for note in read.notes) == pooled
    assert any("ids of MELD" in note for note in read.notes) and any("only numbered within" in note for note in read.notes)
    assert list(read.features) == [field for field in layout if field in WIDTHS]
    assert any("skip numbers" in note for note in read.notes) == ("ids" not in layout)


def test_an_unnamed_last_field_that_is_no_sentiment_is_ignored(tmp_path: Path) -> None:
    parts = {**fields(MELD, meld=True), "extra": None}
    read = read_annotations(dump(tmp_path, tuple_of("MELD 13-tuple", parts)))
    assert set(read.columns) == {"label"}


@pytest.mark.parametrize("odd", [frozenset([1]), "\0", 10**400, None])
def test_an_unnamed_last_field_with_something_else_in_it_is_ignored(odd: Any, tmp_path: Path) -> None:
    parts = fields(MELD, meld=True)
    parts["extra"] = {**parts["extra"], 0: [0, odd]}
    read = read_annotations(dump(tmp_path, tuple_of("MELD 10-tuple", parts)))
    assert set(read.columns) == {"label"} and len(read.utterance_ids) == sum(MELD.values())


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


def test_a_vector_of_numbers_that_no_float_holds(tmp_path: Path) -> None:
    parts = fields(IEMOCAP)
    first = next(iter(IEMOCAP))
    parts["speakers"] = {**parts["speakers"], first: [[10**400, 1, 0]] * 3}
    with pytest.raises(CorpusError, match=r"element 1 \(speakers\) should be"):
        read_annotations(dump(tmp_path, tuple_of("9-tuple of features (MMGCN", parts)))
