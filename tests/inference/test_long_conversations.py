"""Conversations above the limit are read in windows: every turn once, in order, each as its window says it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from erc_graph.data.corpus import Corpus
from erc_graph.data.sample.vectors import sample_corpus
from erc_graph.inference.long_conversations import predict_long, windows
from erc_graph.inference.pipeline import Pipeline
from erc_graph.methods.bigru import BiGRU, BiGRUConfig
from erc_graph.methods.schema import Schema


@settings(max_examples=200)
@given(length=st.integers(1, 60), longest=st.integers(2, 20), data=st.data())
def test_windows_cover_every_turn_once(length: int, longest: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, longest - 1))
    found = windows(length, longest, overlap)
    assert [turn for _, _, own, end in found for turn in range(own, end)] == list(range(length))
    for first, last, own, end in found:
        assert 0 <= first <= own < end <= last <= length and last - first == min(longest, length)
        assert own == 0 or own - first >= overlap // 2  # turns of context before
        assert end == length or last - end >= overlap // 2


def test_answers_are_those_of_the_windows() -> None:
    torch.manual_seed(0)
    corpus = sample_corpus(dialogues=6, seed=1)
    pipeline = Pipeline(BiGRU(Schema.of(corpus), BiGRUConfig(width=8)))
    notes: list[str] = []
    assert predict_long(pipeline, corpus, say=notes.append) == pipeline.predict(corpus) and notes == []
    longest, overlap = int(corpus.lengths.max()) - 3, 4
    found = predict_long(pipeline, corpus, longest=longest, overlap=overlap, say=notes.append)
    many = int((corpus.lengths > longest).sum())
    assert notes == [
        f"{many} of 6 conversations have more than {longest} utterances; each is divided into windows that overlap by {overlap} utterances"
    ]
    places = [(row.dialogue, row.turn, row.speaker, row.text) for row in found]
    assert places == [(row.dialogue, row.turn, row.speaker, row.text) for row in pipeline.predict(corpus)]
    for dialogue in corpus:
        own = [row for row in found if row.dialogue == dialogue.id]
        for first, last, start, stop in windows(len(dialogue), longest, overlap):
            alone = pipeline.predict(piece(dialogue.corpus, first, last))
            for turn in range(start, stop):
                assert own[turn].probabilities == pytest.approx(alone[turn - first].probabilities, abs=1e-6)


def piece(corpus: Corpus, first: int, last: int) -> Corpus:
    """The turns of a conversation from `first` on, before `last`, as a corpus made again."""
    return Corpus(
        name="piece",
        task=corpus.task,
        dialogue_ids=("piece",),
        ptr=torch.tensor([0, last - first]),
        utterance_ids=corpus.utterance_ids[first:last],
        speakers=corpus.speakers[first:last],
        target=corpus.target[first:last],
        features={name: value[first:last] for name, value in corpus.features.items()},
        present={name: value[first:last] for name, value in corpus.present.items()},
    )
