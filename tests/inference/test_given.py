"""What `Pipeline.predict` takes: strings, files, transcripts; the same as through `prepare`, and nothing is guessed in silence."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from erc_graph.data.corpus import Corpus
from erc_graph.data.files.transcripts import find_recordings, load_transcript
from erc_graph.data.sample.vectors import sample_corpus
from erc_graph.data.tasks import TASKS
from erc_graph.errors import CheckpointError, CorpusError
from erc_graph.features import encoder_names
from erc_graph.features.text import TextEncoder
from erc_graph.inference.answer import Answers, answers
from erc_graph.inference.given import corpora_of
from erc_graph.inference.pipeline import Pipeline
from erc_graph.inference.prepare import LONGEST, prepare
from erc_graph.methods.bigru import BiGRU, BiGRUConfig
from erc_graph.methods.schema import Schema

TALK = b"Ann: We won!\nBob: really?\nAnn: you are joking"


def model(widths: dict[str, int], **extractors: str) -> Pipeline:
    torch.manual_seed(0)
    schema = Schema(widths=widths, task=TASKS["meld7"], provenance={"extractors": extractors})
    return Pipeline(BiGRU(schema, BiGRUConfig(width=8)).eval())


@pytest.fixture
def pipeline(tiny_encoder: Path) -> Pipeline:
    return model({"text": 24}, text=str(tiny_encoder))


@pytest.fixture
def notes(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """The notes since the last call."""

    def said() -> list[str]:
        found = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        caplog.clear()
        return found

    return said


def test_a_transcript_needs_no_helper(pipeline: Pipeline, notes: Callable[[], list[str]], tmp_path: Path) -> None:
    talk = load_transcript(TALK, name="talk")
    expected = answers(pipeline.method, prepare(talk, pipeline))
    assert pipeline.predict(talk) == pipeline.predict(talk[0]) == pipeline.predict([talk[0]]) == expected  # bit for bit
    (tmp_path / "talk.txt").write_bytes(TALK)
    assert pipeline.predict(tmp_path / "talk.txt") == expected and notes() == []
    assert pipeline.predict([tmp_path / "talk.txt", talk]) == expected + expected
    assert [row.speaker for row in expected] == ["Ann", "Bob", "Ann"] and len(expected.to_frame()) == 3


def test_strings_are_one_conversation_of_one_speaker(pipeline: Pipeline, notes: Callable[[], list[str]]) -> None:
    said = pipeline.predict(["We won!", "really?", " "])
    assert notes() == [
        "note: no speakers are named (strings), so all utterances belong to one speaker",
        "note: text: 1 of 3 utterances have no words and count as missing",
    ]
    assert isinstance(said, Answers) and [(row.dialogue, row.turn, row.text) for row in said] == [
        ("conversation", 0, "We won!"), ("conversation", 1, "really?"), ("conversation", 2, " "),
    ]  # fmt: skip
    alike = pipeline.predict(load_transcript(b'[{"text": "We won!"}, {"text": "really?"}, {"text": " "}]', name="conversation"))
    assert said == alike == pipeline.predict(iter(np.array(["We won!", "really?", " "])))
    notes()
    several = pipeline.predict([["We won!", "really?", " "], ("hello",)])
    assert [row.dialogue for row in several] == ["conversation_0"] * 3 + ["conversation_1"]
    assert [row.probabilities for row in several[:3]] == [row.probabilities for row in said]


def test_a_string_is_a_turn_and_a_file_a_path(
    pipeline: Pipeline, notes: Callable[[], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (alone,) = pipeline.predict("We won!")
    assert notes() == [] and alone.text == "We won!" and [alone] == pipeline.predict(["We won!"])
    monkeypatch.chdir(tmp_path)
    Path("talk.txt").write_bytes(TALK)
    assert [row.text for row in pipeline.predict("talk.txt")] == ["talk.txt"]
    assert notes()[0] == "note: 'talk.txt' is read as the text of an utterance; to read the file, give pathlib.Path('talk.txt')"
    assert len(pipeline.predict(TALK.decode())) == 1
    assert notes()[0].startswith("note: the lines of a string are read as one utterance; load_transcript(text.encode()) reads")


def test_an_encoder_is_loaded_once(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []
    load = encoder_names.load_text_encoder
    monkeypatch.setattr(encoder_names, "load_text_encoder", lambda name: loaded.append(name) or load(name))
    assert pipeline.predict("We won!") == pipeline.predict("We won!") and len(loaded) == 1
    assert pickle.loads(pickle.dumps(pipeline)).predict("We won!") == pipeline.predict("We won!") and len(loaded) == 2
    again = model({"text": 24}, text=str(Path("no") / "encoder"))
    with pytest.raises(CheckpointError, match="text encoder"):
        again.predict("We won!")


def test_what_is_given_is_not_computed_again(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TextEncoder, "__call__", lambda *_: pytest.fail("the vectors are there"))
    corpus = sample_corpus(dialogues=3, seed=1)
    vectors = torch.randn(corpus.utterances, 24)
    present = torch.arange(corpus.utterances) % 3 > 0
    there = replace(corpus, features={"text": vectors, "audio": vectors}, present={"text": present, "audio": present})
    assert len(pipeline.predict(there)) == corpus.utterances and pipeline.predict(there[:0]) == []


def test_what_is_missing_is_noted_once(tiny_encoder: Path, notes: Callable[[], list[str]]) -> None:
    pipeline = model({"audio": 3, "text": 24}, text=str(tiny_encoder), audio="Praat")
    talk = load_transcript(b'[[{"text": "hello"}], [{"text": "we won"}]]')
    notes()
    assert len(pipeline.predict(list(talk))) == 2
    assert notes() == ["note: audio (Praat): not in the input, and cannot be computed here; counted as missing in every utterance"]


def test_recordings_beside_a_file_are_heard(tiny_encoder: Path, tmp_path: Path, notes: Callable[[], list[str]]) -> None:
    soundfile = pytest.importorskip("soundfile")
    (tmp_path / "talk.txt").write_bytes(TALK)
    soundfile.write(tmp_path / "talk_1.wav", 0.5 * np.sin(np.arange(8000) / 9), 16_000, subtype="FLOAT")
    pipeline = model({"audio": 40, "text": 24}, text=str(tiny_encoder), audio="mfcc")
    talk = load_transcript(tmp_path / "talk.txt")
    expected = answers(pipeline.method, prepare(talk, pipeline, recordings=find_recordings(talk, tmp_path)))
    assert pipeline.predict(tmp_path / "talk.txt") == expected and notes() == []
    assert pipeline.predict(talk) != expected and len(notes()) == 1


def test_long_conversations_are_read_in_windows(pipeline: Pipeline, notes: Callable[[], list[str]]) -> None:
    said = pipeline.predict(["hello"] * (LONGEST + 5))
    assert [row.turn for row in said] == list(range(LONGEST + 5))
    assert (
        notes()[-1]
        == f"note: 1 of 1 conversations have more than {LONGEST} utterances; each is divided into windows that overlap by 200 utterances"
    )


def test_a_model_that_names_no_encoder_is_refused_with_the_way_out() -> None:
    with pytest.raises(CorpusError, match=r"names no text encoder .*; give vectors per utterance in JSON, .*`extractors` of `prepare`\)"):
        model({"text": 24}).predict(["Hi", "I hate you"])


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (3, "found int"),
        (b"Ann: hi", "found bytes"),
        ({"text": "hi"}, "found dict"),
        ({"hi", "there"}, "found set"),
        (["hi", 3.5], "found strings mixed with float; predict strings separately"),
        ([3.5], "found float"),
        (torch.zeros(2, 24), "found Tensor"),
        ([sample_corpus(dialogues=3)[0][0]], "found Utterance"),
        ([("Ann", "Hi"), ("Bob", "Oh")], "found tuples of two values; write an utterance"),
    ],
)
def test_anything_else_is_refused(given: Any, found: str, pipeline: Pipeline) -> None:
    with pytest.raises(CorpusError, match=rf"predict: expected a corpus, dialogues, a string .*, or files as pathlib.Path; {found}"):
        pipeline.predict(given)


def test_rows_are_those_of_a_file(pipeline: Pipeline) -> None:
    pandas = pytest.importorskip("pandas")
    rows: list[dict[str, Any]] = [{"speaker": "Ann", "text": "We won!"}, {"speaker": "Bob", "text": "really?", "turn": float("nan")}]
    for given in (rows, pandas.DataFrame(rows)):
        ((corpus, folder),) = corpora_of(given)
        assert corpus.speakers == ("Ann", "Bob") and corpus.texts == ("We won!", "really?") and folder is None
        assert [answer.speaker for answer in pipeline.predict(given)] == ["Ann", "Bob"]


def test_files_of_one_name_stay_apart(pipeline: Pipeline, tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "talk.txt").write_bytes(TALK)
    found = pipeline.predict([tmp_path / "a" / "talk.txt", tmp_path / "b" / "talk.txt"])
    assert len({answer.dialogue for answer in found}) == 2 and len(found) == 6


def test_nothing_is_nothing(pipeline: Pipeline) -> None:
    assert pipeline.predict([]) == [] == pipeline.predict(iter(())) and isinstance(pipeline.predict([]), Answers)
    with pytest.raises(CorpusError, match='expected text, or "features"'):
        pipeline.predict("")


def test_corpora_are_taken_as_they_are() -> None:
    corpus: Corpus = sample_corpus(dialogues=3)
    assert next(corpora_of([corpus, corpus[1]])) == (corpus, None)
