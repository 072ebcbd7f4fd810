"""The data set is told by the keys of the dialogues, and by what the caller says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from erc_graph.data.files.formats import read_annotations
from erc_graph.errors import CorpusError
from tests.data.files.formats.test_tuples import IEMOCAP, dump, fields, tuple_of


def test_meld_with_other_keys_keeps_them(tmp_path: Path) -> None:
    lengths = {5000: 2, 1: 1, 2: 3}
    parts = {**fields(lengths, meld=True), "train": [5000], "dev": [1], "test": [2]}
    read = read_annotations(dump(tmp_path, tuple_of("MELD 7-list", parts)))
    assert read.dialogue_ids == ["5000", "1", "2"] and read.dataset == "meld" and "not 0-1432 as in MELD" in read.notes[0]


def test_four_way_iemocap(tmp_path: Path) -> None:
    parts = fields(IEMOCAP)
    parts["labels"] = {key: [turn % 4 for turn in range(n)] for key, n in IEMOCAP.items()}
    read = read_annotations(dump(tmp_path, tuple_of("6-list with utterance ids", parts)))
    assert read.dataset == "iemocap4" and read.columns["label"] == ["happy", "sad", "neutral", "happy", "sad"]
    assert read_annotations(tmp_path / "file.bin", dataset="iemocap6").dataset == "iemocap6"
    with pytest.raises(CorpusError, match=r"dialogues are those of IEMOCAP .* the given data set is 'meld'"):
        read_annotations(tmp_path / "file.bin", dataset="meld")


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
    assert not read.labels and read.columns["label"] == ["b", "a", "b", ""]  # translated when the corpus is assembled
