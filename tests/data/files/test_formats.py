"""An annotation file is recognised by its content: unknown, damaged and hostile ones, and the real files where they stand."""

from __future__ import annotations

import importlib
import os
import pickle
import pkgutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from erc_graph.data.annotations import Annotations
from erc_graph.data.files import formats
from erc_graph.data.files.formats import READERS, merge_annotations, read_annotations
from erc_graph.data.files.utterance_tables import read_table
from erc_graph.errors import CorpusError
from tests.data.files.formats.test_tuples import changed, dump

DATA = Path(os.environ.get("ERC_GRAPH_DATA", "no-corpora"))
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="no real corpora")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (({"a": [1]},) * 2, "tuple of 2: 0 number, 1 number; known lengths are 6, 7, 9, 10, 11, 12, 13, 14"),
        (({"a": [1]},) * 5 + ([], [], 3), "found a tuple of 8"),
        (({"a": [np.arange(9)]},) * 4 + ([], [], [], []), "DailyDialog tuple of word indices is not read"),
        (
            (*changed()[:9], [], 1, "x"),
            r"most similar known format is the 12-tuple.*element 9 \(sentences\) should be text or tokens, is 'keys'",
        ),
        (({"a": 1}, *changed()[1:]), r"element 0 \(ids\) should be number or text, is 'dict of int'"),
        (({"a": [np.ones(5)]},) * 9, "COMET"),
        ([{"0_0": np.ones(3)}] * 3, "MELD's official feature file"),
        ({"a": [np.ones(3)], "b": [np.ones(3)]}, "the file has only features"),
        ({"x": 1}, "the content, a dict of 1 with the keys x, has none of the known formats"),
        ([], "the content, a list of 0, has none of the known formats"),
        (7, "the content, a int, has none of the known formats"),
    ],
)
def test_unknown_and_refused_layouts(content: Any, match: str, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=match):
        read_annotations(dump(tmp_path, content))


def test_readers_are_those_of_the_tree() -> None:
    found = set()
    for module in pkgutil.iter_modules(formats.__path__):
        names = vars(importlib.import_module(f"{formats.__name__}.{module.name}"))
        found |= {value for name, value in names.items() if name.startswith("read_") and value.__module__.startswith(formats.__name__)}
    assert set(READERS.values()) == {*found, read_table} and len(found) + 1 == len(READERS)


def test_a_layout_of_ones_own_is_one_function_and_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_pairs(content: Any, path: Path, size: int, dataset: str | None = None) -> Annotations | None:
        if not isinstance(content, dict) or "pairs" not in content:
            return None
        speakers, texts = zip(*content["pairs"], strict=True)
        ids = [f"a_{turn}" for turn in range(len(texts))]
        return Annotations(
            format="pairs", dialogue_ids=["a"], lengths=[len(ids)], utterance_ids=ids, speakers=list(speakers), texts=list(texts)
        )

    path = dump(tmp_path, {"pairs": [("Ann", "hi"), ("Bob", "ho")]})
    with pytest.raises(CorpusError, match="the file has only features"):
        read_annotations(path)
    monkeypatch.setitem(READERS, "pairs", read_pairs)
    assert read_annotations(path).speakers == ["Ann", "Bob"]


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
            with pytest.raises(CorpusError, match=r"type '.*system'"):
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
