"""Tables of pandas: one row per utterance, nothing invented; and the way out where pandas is not installed."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import torch

from erc_graph.data.dataframe import make_frame
from erc_graph.data.sample.vectors import sample_corpus
from erc_graph.data.tasks import get_task
from erc_graph.errors import ConfigError


def test_a_corpus_is_a_table_of_its_utterances() -> None:
    pytest.importorskip("pandas")
    corpus = sample_corpus(dialogues=6, seed=3)
    start = tuple(None if row % 2 else row / 2 for row in range(corpus.utterances))
    corpus = replace(corpus, annotations={**corpus.annotations, "start": start}, target=corpus.target.index_fill(0, torch.tensor([1]), -1))
    frame = corpus.to_frame()
    assert list(frame) == ["dialogue", "turn", "utterance", "start", "speaker", "text", "label", "split"]
    assert frame["utterance"].tolist() == list(corpus.utterance_ids) and frame["text"].tolist() == list(corpus.texts)
    expected = [(said.dialogue, said.turn, said.speaker) for dialogue in corpus for said in dialogue]
    assert list(frame[["dialogue", "turn", "speaker"]].itertuples(index=False, name=None)) == expected
    assert frame["label"].isna().tolist() == [row == 1 for row in range(len(frame))]
    assert frame["start"].dtype == float and frame["start"].isna().tolist() == [bool(row % 2) for row in range(len(frame))]
    assert frame[frame["split"] == "test"]["dialogue"].unique().tolist() == list(corpus.splits["test"])


def test_scores_are_numbers() -> None:
    pytest.importorskip("pandas")
    corpus = sample_corpus(dialogues=3, seed=3)
    target = torch.linspace(-1, 1, corpus.utterances).index_fill(0, torch.tensor([0]), float("nan"))
    frame = replace(corpus, task=get_task("sentiment"), target=target, splits={}).to_frame()
    assert list(frame) == ["dialogue", "turn", "utterance", "speaker", "text", "score"]
    assert frame["score"].isna().sum() == 1 and frame["score"].tolist()[1:] == target.tolist()[1:]


def test_without_pandas_the_way_out_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ConfigError, match=r'to_frame: pandas cannot be imported \(.*\); install it with pip install "erc_graph\[pandas\]"'):
        make_frame({"a": [1]})
