from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from erc_graph.data.files.notes import note, noting
from erc_graph.data.files.sound import read_sound
from erc_graph.data.files.transcripts import find_recordings, load_transcript
from erc_graph.data.sample.vectors import sample_corpus
from erc_graph.data.tasks import TASKS
from erc_graph.errors import CheckpointError, ConfigError, CorpusError
from erc_graph.features.mfcc import mfcc
from erc_graph.features.text import TextEncoder
from erc_graph.inference.pipeline import Pipeline
from erc_graph.inference.prepare import LONGEST, prepare
from erc_graph.methods.bigru import BiGRU, BiGRUConfig
from erc_graph.methods.schema import Schema

TALK = load_transcript(b"Ann: We won!\nBob: really?\nAnn:\nBob: you are joking")


def model(widths: dict[str, int], **extractors: str) -> Pipeline:
    schema = Schema(widths=widths, task=TASKS["meld7"], provenance={"extractors": extractors})
    return Pipeline(BiGRU(schema, BiGRUConfig(width=8)).eval())


def test_text_goes_through_the_encoder_that_the_model_names(tiny_encoder: Path) -> None:
    notes: list[str] = []
    ready = prepare(TALK, model({"text": 24}, text=str(tiny_encoder)), say=notes.append)
    expected = TextEncoder(str(tiny_encoder))(TALK.texts)
    torch.testing.assert_close(ready.features["text"], expected)
    assert ready.present["text"].tolist() == [True, True, False, True]  # silence is missing
    assert ready.task == TASKS["meld7"] and not ready.labelled.any()
    assert notes == ["text: 1 of 4 utterances have no words and count as missing"]


def test_notes_about_words_say_text_once(tiny_encoder: Path) -> None:
    notes: list[str] = []
    prepare(TALK, model({"text": 24, "text_chances": 24}, text=str(tiny_encoder), text_chances=str(tiny_encoder)), say=notes.append)
    assert notes == ["text: 1 of 4 utterances have no words and count as missing"]


def test_sounds_in_brackets_are_named(tiny_encoder: Path) -> None:
    texts = ["[door slams]", " (laughs) ", "♪ la la ♪", "(sighs) I know.", "We [all] won", "[a] or [b]"]
    notes: list[str] = []
    prepare(
        load_transcript("\n".join(f"Ann: {text}" for text in texts).encode()), model({"text": 24}, text=str(tiny_encoder)), say=notes.append
    )
    assert notes[1:] == ["text: 3 of 6 utterances contain only music or a sound in brackets, which the model treats as words"]


def test_what_is_missing_is_said_once_and_handled(tiny_encoder: Path) -> None:
    notes: list[str] = []
    pipeline = model({"audio": 3, "text": 24, "visual": 2}, text=str(tiny_encoder), audio="Praat")
    ready = prepare(TALK, pipeline, say=notes.append)
    assert notes == [
        "text: 1 of 4 utterances have no words and count as missing",
        "audio (Praat), visual: not in the input, and cannot be computed here; counted as missing in every utterance",
    ]
    assert len(pipeline.predict(ready)) == 4


def sine(path: Path, hertz: float, seconds: float = 0.5, rate: int = 16_000) -> Tensor:
    """A tone in a file; what is read of it."""
    soundfile = pytest.importorskip("soundfile")
    soundfile.write(path, 0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate), rate, subtype="FLOAT")
    return read_sound(path)


def test_sound_files_beside_the_transcript_are_heard(tiny_encoder: Path, tmp_path: Path) -> None:
    (tmp_path / "talk.txt").write_text("Ann: We won!\nBob: really?\nAnn: you are joking\n")
    waves = {0: sine(tmp_path / "talk_0.wav", 300), 2: sine(tmp_path / "talk_02.wav", 900)}
    sine(tmp_path / "other_1.wav", 100)
    talk = load_transcript(tmp_path / "talk.txt")
    found = find_recordings(talk, tmp_path)
    assert found == {"talk_0": tmp_path / "talk_0.wav"}  # of three turns no number has zeros in front
    (tmp_path / "talk_02.wav").rename(tmp_path / "talk_2.wav")
    notes: list[str] = []
    pipeline = model({"audio": 40, "text": 24}, text=str(tiny_encoder), audio="mfcc")
    ready = prepare(talk, pipeline, recordings=find_recordings(talk, tmp_path), say=notes.append)
    assert notes == [] and ready.present["audio"].tolist() == [True, False, True]
    for row, wave in waves.items():
        frames = mfcc(wave[None], torch.ones(1, len(wave), dtype=torch.bool))[0][0]
        torch.testing.assert_close(ready.features["audio"][row], frames.mean(0))
    assert len(pipeline.predict(ready)) == 3


def test_many_turns_have_zeros_in_front_or_not(tmp_path: Path) -> None:
    talk = load_transcript("\n".join(f"Ann: {i}" for i in range(12)).encode(), name="talk")
    for name in ("talk_3.wav", "talk_04.mp3", "talk_11.flac", "talk_12.wav", "talk_5.txt", ".talk_6.wav", "talk_x.wav"):
        (tmp_path / name).touch()
    assert {name: path.name for name, path in find_recordings(talk, tmp_path).items()} == {
        "talk_03": "talk_3.wav", "talk_04": "talk_04.mp3", "talk_11": "talk_11.flac",
    }  # fmt: skip
    assert find_recordings(talk, tmp_path / "nowhere") == {}
    (tmp_path / "talk_7.wav").mkdir()
    os.mkfifo(tmp_path / "talk_8.wav")
    (tmp_path / "talk_9.wav").symlink_to(Path(__file__))
    with pytest.raises(CorpusError, match=r"talk_9\.wav"):
        find_recordings(talk, tmp_path)
    (tmp_path / "talk_9.wav").unlink()
    assert len(find_recordings(talk, tmp_path)) == 3


def test_sound_that_cannot_be_heard_is_missing_and_said(tiny_encoder: Path, tmp_path: Path) -> None:
    pytest.importorskip("soundfile")
    (tmp_path / "a.wav").write_bytes(b"no sound")
    sine(tmp_path / "b.wav", 300)
    ids = TALK.utterance_ids
    notes: list[str] = []
    for made in ("mfcc", "Praat, eight scalars", "opensmile:none"):
        pipeline = model({"audio": 40, "text": 24}, text=str(tiny_encoder), audio=made)
        recordings = {ids[0]: tmp_path / "a.wav", **({ids[1]: tmp_path / "b.wav"} if made != "mfcc" else {})}
        ready = prepare(TALK, pipeline, recordings=recordings, say=notes.append)
        assert not ready.present["audio"].any() and "a.wav: not a readable audio file" in "".join(notes)
        assert notes[-1] == f"audio ({made}): not in the input, and cannot be computed here; counted as missing in every utterance"
        notes.clear()
    with pytest.raises(CheckpointError, match=r"speech model '\./nowhere'"):
        prepare(TALK, pipeline, recordings=recordings, extractors={"audio": "./nowhere"})
    narrow = model({"audio": 3}, audio="mfcc")
    with pytest.raises(CheckpointError, match="audio: expected vectors of 3 numbers, as in training, found 40 from 'mfcc'"):
        prepare(TALK, narrow, recordings={ids[1]: tmp_path / "b.wav"}, extractors={"audio": "mfcc"})


def test_a_model_of_waveforms_gets_them(tmp_path: Path) -> None:
    wave = sine(tmp_path / "b.wav", 300)
    read = Schema(widths={}, task=TASKS["meld7"], sequences={"audio": ()})
    pipeline = model({"text": 2})
    pipeline.method.schema = read
    ready = prepare(TALK, pipeline, recordings={TALK.utterance_ids[1]: tmp_path / "b.wav"})
    assert ready.sequences["audio"].sizes == (0, len(wave), 0, 0) and (ready.sequences["audio"][1] == wave).all()
    assert prepare(ready, pipeline).sequences["audio"] is ready.sequences["audio"]
    with pytest.raises(CorpusError, match=r"this model uses sequences: audio \(samples\); expected a corpus with these sequences"):
        prepare(TALK, pipeline)


def test_given_vectors_are_taken_as_they_are(tiny_encoder: Path) -> None:
    turns = [{"text": "we won", "features": {"text": [1.0] * 24}}, {"text": "really"}]
    ready = prepare(load_transcript(json.dumps(turns).encode()), model({"text": 24}, text=str(tiny_encoder)))
    assert ready.features["text"][0].tolist() == [1.0] * 24
    assert ready.present["text"].tolist() == [True, False]


def test_features_that_are_not_read_or_no_numbers_are_said() -> None:
    features = {"text": [1.0, float("nan")], "Audio": [1.0], "visal": [2.0]}
    turns: list[dict[str, Any]] = [{"text": "we won", "features": features}, {"text": "really", "features": {"text": [1, 2]}}]
    with noting() as notes:
        prepare(load_transcript(json.dumps(turns).encode()), model({"audio": 1, "text": 2}), say=note)
    assert notes[2:] == [
        "features.text: 1 utterance with NaN, inf or numbers beyond 1e15 counts as missing (first: utterance 0)",
        "features of Audio, visal are not used: the model uses audio, text",
        "audio: not in the input, and cannot be computed here; counted as missing in every utterance",
    ]
    del turns[0]["features"], turns[1]["features"]["text"]
    turns[1]["features"]["Audio"] = [1.0]
    with pytest.raises(CorpusError, match=r'expected "features": {"audio": \[1 numbers\], .*}, found only Audio'):
        prepare(load_transcript(json.dumps(turns).encode()), model({"audio": 1, "text": 2}))


def test_an_extractor_of_what_is_not_read_is_refused(tiny_encoder: Path) -> None:
    with pytest.raises(ConfigError, match=r"extractor: expected a modality that the model uses \(text\), found 'smell'"):
        prepare(TALK, model({"text": 24}, text=str(tiny_encoder)), extractors={"smell": "mfcc"})


def test_a_model_of_vectors_takes_vectors() -> None:
    corpus = sample_corpus(dialogues=3, seed=1)
    pipeline = Pipeline(BiGRU(Schema.of(corpus), BiGRUConfig(width=8)).eval())
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
    with pytest.raises(
        CorpusError, match=r"text encoder .*; give vectors per utterance in JSON, \"features\": \{\"audio\": \[\d+ numbers\]"
    ):
        prepare(TALK, pipeline)


def test_a_score_task_has_no_labels_either(tiny_encoder: Path) -> None:
    schema = Schema(widths={"text": 24}, task=TASKS["sentiment"], provenance={"extractors": {"text": str(tiny_encoder)}})
    ready = prepare(TALK, Pipeline(BiGRU(schema, BiGRUConfig(width=8))))
    assert ready.target.isnan().all()


def test_another_encoder(tiny_encoder: Path) -> None:
    assert prepare(TALK, model({"text": 24}), extractors={"text": str(tiny_encoder)}).features["text"].shape == (4, 24)
    assert prepare(TALK, model({"words": 24}), extractors={"words": str(tiny_encoder)}).features["words"].shape == (4, 24)
    assert prepare(TALK, model({"text": 5}, text="it"), encode=lambda texts: torch.ones(len(texts), 5)).features["text"].sum() == 20


def test_what_is_refused(tiny_encoder: Path) -> None:
    with pytest.raises(CheckpointError, match=r"text: expected vectors of 25 numbers, as in training, found 24 from .*"):
        prepare(TALK, model({"text": 25}, text=str(tiny_encoder)))
    with pytest.raises(CorpusError, match=r'expected text, or "features": .* in JSON, found neither'):
        prepare(load_transcript(b"Ann:\nBob:"), model({"text": 24}, text=str(tiny_encoder)))
    long = "\n".join(["Ann: hello"] * (LONGEST + 1)).encode()
    message = f"expected up to {LONGEST} utterances per conversation, found a conversation of {LONGEST + 1}; divide this conversation"
    with pytest.raises(CorpusError, match=message):
        prepare(load_transcript(long), model({"text": 24}, text=str(tiny_encoder)))
    with pytest.raises(CheckpointError, match="text encoder 'no such thing!'"):
        prepare(TALK, model({"text": 24}, text="no such thing!"))
