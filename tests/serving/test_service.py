"""What is between HTTP and the model: encoders that are loaded once, and a live conversation that reads as a whole one does."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from erc_graph.data.corpus import Corpus
from erc_graph.data.files.transcripts import load_transcript
from erc_graph.data.tasks import TASKS
from erc_graph.errors import CheckpointError, ConfigError, CorpusError, ErcGraphError
from erc_graph.features.text import TextEncoder
from erc_graph.inference.pipeline import Pipeline
from erc_graph.inference.prepare import prepare
from erc_graph.methods.bigru import BiGRU, BiGRUConfig
from erc_graph.methods.schema import Schema
from erc_graph.serving import service as module
from erc_graph.serving.limits import Limits
from erc_graph.serving.refusal import Refusal
from erc_graph.serving.service import Service
from erc_graph.serving.sessions import Session

TALK = b"Ann: We won!\nBob: really?\nAnn:\nAnn: you are joking hello there we won really you are joking hello\n"


def of_text(encoder: object, task: str = "meld7", name: str = "text", **schema: Any) -> Pipeline:
    torch.manual_seed(0)
    about = Schema(widths={name: 24}, task=TASKS[task], provenance={"extractors": {name: str(encoder)}}, **schema)
    return Pipeline(BiGRU(about, BiGRUConfig(width=8, causal=True)))


@pytest.fixture(scope="session")
def shared(tiny_encoder: Path) -> Service:
    return Service(of_text(tiny_encoder), Limits())


def test_encoders_are_loaded_once_and_shared(tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = of_text(tiny_encoder)
    expected = pipeline.predict(prepare(load_transcript(TALK), pipeline))
    loaded: list[str] = []
    monkeypatch.setattr(module, "load_text_encoder", lambda name: loaded.append(name) or TextEncoder(name))
    service = Service(pipeline, Limits())
    service.warm()
    assert loaded == [str(tiny_encoder)] and service.about()["encodes"] == ["text"]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(service.predict, [TALK] * 24))
    assert loaded == [str(tiny_encoder)]
    notes = ["text: 1 of 4 utterances have no words and count as missing"]
    assert all(answer == {"turns": [row.as_dict() for row in expected], "notes": notes} for answer in answers)


def test_long_and_short_sentences_are_cut_right_by_many_threads(tiny_encoder: Path) -> None:
    encoder = TextEncoder(str(tiny_encoder))
    short, long = ["we won", "really"], ["hello there " * 40, "we won"]
    expected = [encoder.tokens(texts) for texts in (short, long)]
    start = threading.Barrier(4)

    def ask(which: int) -> bool:
        start.wait(10)
        return all(encoder.tokens((short, long)[which % 2]) == expected[which % 2] for _ in range(100))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(ask, range(4)))


def test_a_live_conversation_is_encoded_as_a_whole_one(tiny_encoder: Path) -> None:
    pipeline = of_text(tiny_encoder)
    service = Service(pipeline, Limits())
    session = Session(service.stream(), 0.0)
    live = [service.turn(session, line + b"\n") for line in TALK.splitlines()]
    for heard, said in zip(live, service.predict(TALK)["turns"], strict=True):
        assert heard["turn"] == said["turn"] and heard["text"] == said["text"] and heard["notes"] == []
        assert heard["probabilities"] == pytest.approx(said["probabilities"], abs=1e-5)
    assert list(session.said) == [("Ann", "We won!"), ("Bob", "really?"), ("Ann", live[3]["text"])]


def test_an_encoder_that_reads_what_was_said_before_does_so_live(tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Reading(TextEncoder):
        context = 2

    monkeypatch.setattr(module, "load_text_encoder", Reading)
    service = Service(of_text(tiny_encoder), Limits())
    session = Session(service.stream(), 0.0)
    live = [service.turn(session, line + b"\n") for line in TALK.splitlines()]
    whole = service.predict(TALK)["turns"]
    alone = Service(of_text(tiny_encoder), Limits())
    for heard, said in zip(live, whole, strict=True):
        assert heard["probabilities"] == pytest.approx(said["probabilities"], abs=1e-5)
    monkeypatch.setattr(Reading, "context", 0)
    assert alone.predict(TALK)["turns"][1]["probabilities"] != pytest.approx(whole[1]["probabilities"], abs=1e-5)
    monkeypatch.setattr(Reading, "context", 65)
    with pytest.raises(
        CheckpointError, match="the text encoder needs 65 preceding utterances, but the service stores only 64; send `features`"
    ):
        service.turn(session, b"Ann: hi")


def test_an_encoder_that_is_not_there_is_said_once_and_never_looked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    notes: list[str] = []
    service = Service(of_text("./nothing"), Limits(), say=notes.append)
    monkeypatch.setattr(module, "load_text_encoder", lambda name: pytest.fail("looked for again"))
    assert len(notes) == 1 and notes[0].startswith(
        "text: requests must contain vectors of this modality, because its encoder cannot be loaded: text encoder './nothing'"
    )
    with pytest.raises(CheckpointError, match="was not found when the service was started; send `features` with every utterance"):
        service.predict(b"Ann: hi")
    assert service.predict(json.dumps([{"speaker": "Ann", "text": "hi", "features": {"text": [0.5] * 24}}]).encode())["notes"] == []
    assert service.about()["encodes"] == []


def test_a_named_encoder_must_be_there_and_be_read(tiny_encoder: Path) -> None:
    with pytest.raises(CheckpointError, match=r"text encoder '\./nothing'"):
        Service(of_text(tiny_encoder), Limits(), extractors={"text": "./nothing"})
    with pytest.raises(ConfigError, match=r"extractor: expected a modality of the model \(text\), found 'face'"):
        Service(of_text(tiny_encoder), Limits(), extractors={"face": "x"})
    service = Service(of_text("./nothing"), Limits(), extractors={"text": str(tiny_encoder)})
    assert service.predict(TALK) == Service(of_text(tiny_encoder), Limits()).predict(TALK)


def test_a_score_is_told_as_predict_tells_it(tiny_encoder: Path) -> None:
    service = Service(of_text(tiny_encoder, task="sentiment"), Limits())
    heard = service.turn(Session(service.stream(), 0.0), b"Ann: We won!\n")
    said = service.predict(b"Ann: We won!\n")["turns"][0]
    assert heard.pop("notes") == [] and heard.pop("score") == pytest.approx(said.pop("score"), abs=1e-5) and heard == said
    assert service.about()["labels"] == []


JSON = [b'{"speaker": "a", ', b'"text": ', b'"hi"', b'"features": {"text": [', b"1, " * 23, b"1]", b"}", b"[", b"]", b", ", b'"dialogue": ']
ODD = [b'"turn": ', b"NaN", b"1e999", b"-1", b"9" * 5000, b"null", b"true", b'"\\ud800"', b"\xff", b"\0", b'"turns": [', b'"id"']
PIECES = st.sampled_from([*JSON, *ODD, b"\n", b"Ann: hi", b"speaker,text\n", b"a,b\n"])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(PIECES, max_size=16).map(b"".join))
def test_whatever_is_sent_is_answered_or_refused(shared: Service, body: bytes) -> None:
    for ask in (shared.predict, lambda body: shared.turn(Session(shared.stream(), 0.0), body)):
        try:
            json.dumps(ask(body), allow_nan=False)
        except ErcGraphError as error:
            assert "Traceback" not in str(error)


def test_bounds(tiny_encoder: Path, corpus: Corpus) -> None:
    service = Service(of_text(tiny_encoder), replace(Limits(), queue=0))
    for many, words in (
        (b'{"text": "a"}\n' * 2001, "2001 utterances"),
        (b"[[" + b'{"text": "a"},' * 2000 + b'{"text": "a"}]]', "2001 utterances"),
    ):
        with pytest.raises(CorpusError, match=f"request: {words}; expected at most 2000; divide the file"):
            service.predict(many)
    with pytest.raises(Refusal, match="expected one utterance per request, found 2"):
        service.turn(Session(service.stream(), 0.0), b"a: b\nc: d")
    with pytest.raises(ConfigError) as error:
        Limits(workers=-1, queue=-1, body=0, timeout=float("nan"), sessions=-1, idle=0)
    assert [line.split(":")[0] for line in str(error.value).splitlines()] == [
        f"serve.{name}" for name in ("workers", "queue", "body", "timeout", "sessions", "idle")
    ]
    assert "serve.body: expected 1 to 1024 MiB, found 0" in str(error.value) and 1 <= Limits().at_once <= 4
