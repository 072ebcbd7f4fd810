from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from erc_graph.data.sample import sample_corpus
from erc_graph.data.tasks import TASKS
from erc_graph.data.transcripts import load_transcript
from erc_graph.errors import CheckpointError, CorpusError
from erc_graph.features.text import TextEncoder
from erc_graph.inference.predict import LONGEST, prepare
from erc_graph.pipelines.base import Pipeline, Schema
from erc_graph.pipelines.bigru import BiGRU, BiGRUConfig

TALK = load_transcript(b"Ann: We won!\nBob: really?\nAnn:\nBob: you are joking")


def model(widths: dict[str, int], **extractors: str) -> Pipeline:
    return BiGRU(Schema(widths=widths, task=TASKS["meld7"], provenance={"extractors": extractors}), BiGRUConfig(width=8)).eval()


def test_text_goes_through_the_encoder_that_the_model_names(tiny_encoder: Path) -> None:
    notes: list[str] = []
    ready = prepare(TALK, model({"text": 24}, text=str(tiny_encoder)), say=notes.append)
    expected = TextEncoder(str(tiny_encoder))(TALK.texts)
    torch.testing.assert_close(ready.features["text"], expected)
    assert ready.present["text"].tolist() == [True, True, False, True]  # silence is missing
    assert ready.task == TASKS["meld7"] and not ready.labelled.any() and notes == []


def test_what_is_missing_is_said_once_and_handled(tiny_encoder: Path) -> None:
    notes: list[str] = []
    pipeline = model({"audio": 3, "text": 24, "visual": 2}, text=str(tiny_encoder), audio="Praat")
    ready = prepare(TALK, pipeline, say=notes.append)
    assert notes == ["audio (Praat), visual: no vectors given and none that can be computed here; counts as missing in every turn"]
    assert len(pipeline.predict(ready)) == 4


def test_given_vectors_are_taken_as_they_are(tiny_encoder: Path) -> None:
    turns = [{"text": "we won", "features": {"text": [1.0] * 24}}, {"text": "really"}]
    ready = prepare(load_transcript(json.dumps(turns).encode()), model({"text": 24}, text=str(tiny_encoder)))
    assert ready.features["text"][0].tolist() == [1.0] * 24
    assert ready.present["text"].tolist() == [True, False]


def test_a_model_of_vectors_takes_vectors() -> None:
    corpus = sample_corpus(dialogues=3, seed=1)
    pipeline = BiGRU(Schema.of(corpus), BiGRUConfig(width=8)).eval()
    turns = [
        {"speaker": speaker, "text": text, "features": {name: corpus.features[name][row].tolist() for name in corpus.modalities}}
        for row, (speaker, text) in enumerate(zip(corpus[0].speakers, corpus[0].texts, strict=True))
    ]
    everything = replace(corpus, present={name: torch.ones(corpus.utterances, dtype=torch.bool) for name in corpus.modalities})
    rows = pipeline.predict(prepare(load_transcript(json.dumps(turns).encode()), pipeline))
    expected = pipeline.predict(everything[0])
    torch.testing.assert_close([list(row.probabilities.values()) for row in rows], [list(row.probabilities.values()) for row in expected])
    own = prepare(corpus, pipeline)
    assert own.task is corpus.task and torch.equal(own.target, corpus.target)
    with pytest.raises(CorpusError, match=r"names no text encoder; give them per turn in JSON, \"features\": \{\"audio\": \[\d+ numbers\]"):
        prepare(TALK, pipeline)


def test_a_score_task_has_no_labels_either(tiny_encoder: Path) -> None:
    schema = Schema(widths={"text": 24}, task=TASKS["sentiment"], provenance={"extractors": {"text": str(tiny_encoder)}})
    ready = prepare(TALK, BiGRU(schema, BiGRUConfig(width=8)))
    assert ready.target.isnan().all()


def test_another_encoder(tiny_encoder: Path) -> None:
    assert prepare(TALK, model({"text": 24}), extractors={"text": str(tiny_encoder)}).features["text"].shape == (4, 24)
    assert prepare(TALK, model({"words": 24}), extractors={"words": str(tiny_encoder)}).features["words"].shape == (4, 24)
    assert prepare(TALK, model({"text": 5}, text="it"), encode=lambda texts: torch.ones(len(texts), 5)).features["text"].sum() == 20


def test_what_is_refused(tiny_encoder: Path) -> None:
    with pytest.raises(CheckpointError, match=r"text: the model reads vectors of 25 numbers, the encoder .* gives 24"):
        prepare(TALK, model({"text": 25}, text=str(tiny_encoder)))
    with pytest.raises(CorpusError, match="nothing is said in it, and no vectors are given; expected text, or in JSON"):
        prepare(load_transcript(b"Ann:\nBob:"), model({"text": 24}, text=str(tiny_encoder)))
    long = "\n".join(["Ann: hello"] * (LONGEST + 1)).encode()
    with pytest.raises(CorpusError, match=f"a conversation of {LONGEST + 1} turns; expected up to {LONGEST}: divide it"):
        prepare(load_transcript(long), model({"text": 24}, text=str(tiny_encoder)))
    with pytest.raises(CheckpointError, match="text encoder 'no such thing!'"):
        prepare(TALK, model({"text": 24}, text="no such thing!"))
