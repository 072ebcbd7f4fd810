"""Several files as one corpus."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from erc_graph.data.annotations import Annotations
from erc_graph.data.files.formats import merge_annotations
from erc_graph.errors import CorpusError


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
        ([], "no file given"),
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
            "utterance 'a_0': label is 'joy' in one file and 'fear' in another",
        ),
    ],
)
def test_merge_refuses(parts: list[Annotations], match: str) -> None:
    with pytest.raises(CorpusError, match=match):
        merge_annotations(parts)
