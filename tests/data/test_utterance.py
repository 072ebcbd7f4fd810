"""A dialogue is a sequence of its utterances, as plain values."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest
import torch

from erc_graph.data.corpus import Corpus
from erc_graph.data.tasks import Task
from erc_graph.data.utterance import Utterance


def two() -> Corpus:
    """Two dialogues of two and one utterances; the second utterance is unlabelled."""
    return Corpus(
        name="two", task=Task(name="mood", labels=("calm", "glad")), dialogue_ids=("a", "b"), ptr=torch.tensor([0, 2, 3]),
        utterance_ids=("a_0", "a_1", "b_0"), speakers=("Ann", "Bob", "Ann"), texts=("We won!", "Really?", "Hi."),
        target=torch.tensor([1, -1, 0]), splits={"train": ("b",)},
        annotations={"label": ("glad", None, "calm"), "start": (0.5, None, 2.0)},
    )  # fmt: skip


def test_a_dialogue_is_a_sequence_of_utterances() -> None:
    corpus = two()
    first, second = corpus["a"]
    assert first == Utterance(id="a_0", dialogue="a", turn=0, speaker="Ann", text="We won!", label="glad", start=0.5)
    assert second == Utterance(id="a_1", dialogue="a", turn=1, speaker="Bob", text="Really?")
    assert corpus["b"][0] == corpus[1][-1] == Utterance(id="b_0", dialogue="b", turn=0, speaker="Ann", text="Hi.", label="calm", start=2.0)
    assert [utterance.id for dialogue in corpus for utterance in dialogue] == list(corpus.utterance_ids)
    with pytest.raises(IndexError):
        corpus["a"][2]
    with pytest.raises(FrozenInstanceError):
        first.text = ""  # type: ignore[misc]


def test_scores_and_no_texts() -> None:
    scored = replace(two(), task=Task(name="score", kind="score"), target=torch.tensor([0.5, float("nan"), -1.0]), texts=(), annotations={})
    assert [(one.label, one.score, one.text, one.start) for one in scored["a"]] == [(None, 0.5, "", None), (None, None, "", None)]


def test_a_slice_is_a_corpus() -> None:
    corpus = two()
    part = corpus[1:]
    assert isinstance(part, Corpus) and part.dialogue_ids == ("b",) and part.texts == ("Hi.",) and part.splits == {"train": ("b",)}
    assert corpus[::-1].utterance_ids == ("b_0", "a_0", "a_1") and len(corpus[:0]) == 0 and corpus[:9].dialogue_ids == corpus.dialogue_ids
    assert corpus[torch.tensor(1)].id == "b"  # type: ignore[call-overload]


def test_a_dialogue_is_in_its_corpus_by_its_id() -> None:
    corpus = two()
    assert "a" in corpus and corpus["a"] in corpus and corpus["b"] not in corpus[:1] and "c" not in corpus and 0 not in corpus
