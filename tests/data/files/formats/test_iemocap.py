"""IEMOCAP's own release, made up small: dialogues, turns and labels of every task as counted by hand."""

from __future__ import annotations

import shutil
import wave
from pathlib import Path

import numpy as np
import pytest

from erc_graph.data.corpus import Corpus
from erc_graph.data.files.formats import merge_annotations, read_annotations
from erc_graph.data.files.load import load_corpus
from erc_graph.errors import CorpusError

CASES = Path(__file__).parents[1] / "cases"

# Dialogue → turns: who and number, seconds, label (None: not in EmoEvaluation), text.
RELEASE: dict[str, list[tuple[str, float, float, str | None, str]]] = {
    "Ses01F_impro01": [
        ("F000", 6.2901, 8.2357, "neu", "Excuse me."),
        ("M000", 7.5712, 10.475, "ang", "Do you have your forms?"),
        ("F001", 10.01, 11.3934, "hap", "Yeah."),
        ("MXX0", 17.9, 18.5, None, "Um."),
        ("M001", 19.29, 20.7875, "xxx", "Let me see them."),
    ],
    "Ses01M_script01_1": [("M000", 1.0, 2.0, "exc", "Great: news!"), ("F000", 2.5, 3.0, "sad", "Oh [BREATHING] no.")],
    "Ses02F_script02_2": [("F000", 0.5, 1.5, "sur", "What?"), ("M000", 1.5, 2.5, "fru", "Not again.")],
    "Ses05M_impro03": [("F000", 1.0, 2.25, "oth", "Hm."), ("M000", 2.25, 3.5, "hap", "We won!"), ("M001", 4.0, 5.0, "dis", "Yuck.")],
}


def release(folder: Path, *, sound: bool = True) -> Path:
    for name, turns in RELEASE.items():
        session = folder / f"Session{name[4]}"
        for part in ("dialog/transcriptions", "dialog/EmoEvaluation/Categorical", f"sentences/wav/{name}"):
            (session / part).mkdir(parents=True, exist_ok=True)
        lines = [f"{name}_{who} [{start:08.4f}-{end:08.4f}]: {text}" for who, start, end, _, text in turns]
        (session / "dialog/transcriptions" / f"{name}.txt").write_text("\n".join([*lines[:2], "M: [LAUGHTER]", *lines[2:]]) + "\n")
        (session / "dialog/transcriptions" / f"._{name}.txt").write_bytes(b"\0\5\26\7")  # what macOS leaves
        blocks = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n"]
        for who, start, end, label, _ in sorted(turns):
            if label is not None:
                head = f"[{start} - {end}]\t{name}_{who}\t{label}\t[2.5000, 2.5000, 2.5000]"
                blocks.append(f"{head}\nC-E2:\tNeutral;\t()\nC-F1:\tHappiness; Excited;\t(a bit)\nA-E3:\tval 3; act 2; dom  2;\t()\n")
        (session / "dialog/EmoEvaluation" / f"{name}.txt").write_text("\n".join(blocks))
        for i, (who, *_) in enumerate(turns if sound else []):
            with wave.open(str(session / "sentences/wav" / name / f"{name}_{who}.wav"), "wb") as file:
                file.setparams((1, 2, 16000, 0, "NONE", ""))
                file.writeframes((1000 * np.sin(np.arange(800 + 100 * i) / 9)).astype("<i2").tobytes())
    return folder


def labels(corpus: Corpus) -> list[str | None]:
    return [corpus.task.labels[index] if index >= 0 else None for index in corpus.target.tolist()]


def test_dialogues_turns_speakers_times_and_sound(tmp_path: Path) -> None:
    pytest.importorskip("soundfile")
    pytest.importorskip("soxr")
    corpus = load_corpus(release(tmp_path / "IEMOCAP_full_release"))
    assert corpus.name == "iemocap" and corpus.dialogue_ids == tuple(RELEASE) and corpus.lengths.tolist() == [5, 2, 2, 3]
    assert corpus.utterance_ids == tuple(f"{name}_{turn[0]}" for name, turns in RELEASE.items() for turn in turns)
    assert corpus.speakers == (
        *("Ses01F", "Ses01M", "Ses01F", "Ses01M", "Ses01M"), *("Ses01M", "Ses01F"), *("Ses02F", "Ses02M"), *("Ses05F", "Ses05M", "Ses05M"),
    )  # fmt: skip
    assert corpus.texts[1] == "Do you have your forms?" and corpus.texts[5:7] == ("Great: news!", "Oh [BREATHING] no.")
    assert corpus.annotations["start"] == tuple(turn[1] for turns in RELEASE.values() for turn in turns)
    assert corpus.annotations["end"] == tuple(turn[2] for turns in RELEASE.values() for turn in turns)
    assert corpus.splits == {"train": tuple(RELEASE)[:3], "test": ("Ses05M_impro03",)}
    assert corpus.sequences["audio"].sizes == (800, 900, 1000, 1100, 1200, 800, 900, 800, 900, 800, 900, 1000)
    said = "\n".join(corpus.provenance["notes"])
    assert "session 5 is the test split" in said and "1 lines without an utterance id" in said


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("iemocap6", ["neutral", "angry", "happy", None, None, "excited", "sad", None, "frustrated", None, "happy", None]),
        ("iemocap4", ["neutral", "angry", "happy", None, None, "happy", "sad", None, None, None, "happy", None]),
        ("iemocap4-noexc", ["neutral", "angry", "happy", None, None, None, "sad", None, None, None, "happy", None]),
        ("iemocap4-merged", ["neutral", "angry", "happy", None, None, "happy", "sad", None, "sad", None, "happy", None]),
    ],
)
def test_labels_of_every_task(tmp_path: Path, task: str, expected: list[str | None]) -> None:
    corpus = load_corpus(release(tmp_path, sound=False), task=task)
    assert labels(corpus) == expected and corpus.task.name == task
    assert corpus.annotations["label"][7] == "surprised" and not corpus.sequences


def test_one_session_and_a_release_with_parts_missing(tmp_path: Path) -> None:
    folder = release(tmp_path / "r", sound=False)
    assert load_corpus(folder / "Session5").dialogue_ids == ("Ses05M_impro03",)
    shutil.rmtree(folder / "Session2" / "sentences")
    (folder / "Session2/dialog/EmoEvaluation/Ses02F_script02_2.txt").unlink()
    shutil.rmtree(folder / "Session5")
    corpus = load_corpus(folder)
    said = "\n".join(corpus.provenance["notes"])
    assert labels(corpus)[7:] == [None, None] and corpus.splits == {}
    assert "1 dialogues have no file in dialog/EmoEvaluation" in said and "9 of 9 utterances have no file in sentences/wav" in said


def test_sound_that_is_missing_or_damaged_costs_that_turn(tmp_path: Path) -> None:
    pytest.importorskip("soundfile")
    pytest.importorskip("soxr")
    folder = release(tmp_path)
    (folder / "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F001.wav").unlink()
    (folder / "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_M001.wav").write_bytes(b"RIFF")
    corpus = load_corpus(folder)
    assert corpus.sequences["audio"].present.tolist()[:5] == [True, True, False, True, False]
    assert labels(corpus)[2] == "happy"


def test_single_files_with_and_without_their_partner(tmp_path: Path) -> None:
    folder = release(tmp_path / "r", sound=False)
    corpus = load_corpus(folder / "Session1/dialog/transcriptions/Ses01F_impro01.txt")
    assert labels(corpus) == ["neutral", "angry", "happy", None, None] and corpus.speakers[0] == "Ses01F"
    alone = load_corpus(folder / "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt")
    assert not alone.texts and set(labels(alone)) == {"neutral", "angry", "happy", None} and len(alone.target) == 4


def test_the_two_files_of_the_field_together(tmp_path: Path) -> None:
    shutil.copytree(CASES / "04-iemocap-transcript", tmp_path / "t")
    shutil.copytree(CASES / "05-iemocap-emoevaluation", tmp_path / "e")
    (tmp_path / "corpus.toml").write_text('annotations = ["t/Ses01F_impro01.txt", "e/Ses01F_impro01.txt"]\n')
    corpus = load_corpus(tmp_path)
    assert labels(corpus) == ["neutral", *[None] * 6] and corpus.utterance_ids[5] == "Ses01F_impro01_MXX0"
    assert corpus.speakers == ("Ses01F", "Ses01M", "Ses01F", "Ses01M", "Ses01F", "Ses01M", "Ses01M")
    assert corpus.annotations["start"][0] == 6.2901 and corpus.texts[0] == "Hello there."


def test_a_transcription_in_another_encoding_and_form(tmp_path: Path) -> None:
    path = tmp_path / "Ses03M_impro02.txt"
    path.write_bytes("Ses03M_impro02_F000 [001.0000-002.0000]: It’s me.\r\nSes03M_impro02_M000 [002.0-003.0] No colon\r\n".encode("cp1252"))
    read = read_annotations(path)
    assert read.texts == ["It’s me.", "No colon"] and read.speakers == ["Ses03F", "Ses03M"] and read.columns["end"] == [2.0, 3.0]
    merged = merge_annotations([read, read_annotations(CASES / "04-iemocap-transcript" / "Ses01F_impro01.txt")])
    assert merged.lengths == [2, 7]


def test_refusals(tmp_path: Path) -> None:
    folder = release(tmp_path / "r", sound=False)
    path = folder / "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
    path.write_text(path.read_text().replace("\tneu\t", "\tbored\t"))
    with pytest.raises(CorpusError, match=r"Ses01F_impro01_F000: label 'bored' is not one of hap, sad, neu, ang, exc, fru"):
        load_corpus(folder)
    shutil.copy(folder / "Session2/dialog/EmoEvaluation/Ses02F_script02_2.txt", path)
    with pytest.raises(
        CorpusError, match="2 of 2 labels belong to utterances that the transcription lacks, such as 'Ses02F_script02_2_F000'"
    ):
        load_corpus(folder)
    (folder / "Session2/dialog/transcriptions/Ses02F_script02_2.txt").write_text("nothing\n")
    with pytest.raises(CorpusError, match="no line of an IEMOCAP transcription found"):
        load_corpus(folder / "Session2")
    (folder / "Session2/dialog/transcriptions/Ses02F_script02_2.txt").unlink()
    with pytest.raises(CorpusError, match=r"no Ses\*.txt in dialog/transcriptions"):
        load_corpus(folder / "Session2")


def test_without_the_library_the_rest_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "soundfile", None)
    corpus = load_corpus(release(tmp_path))
    assert not corpus.sequences and "the audio is not used: reading audio files needs" in "\n".join(corpus.provenance["notes"])
