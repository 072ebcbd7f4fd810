"""Files of data sets keep their own rules where they are predicted."""

from __future__ import annotations

from pathlib import Path

import pytest

from erc_graph.data.files.formats import READERS
from erc_graph.data.files.transcripts import load_transcript
from erc_graph.data.files.transcripts.released import ASKED
from erc_graph.errors import CorpusError

CASES = Path(__file__).parents[1] / "cases"


def test_the_readers_that_are_asked_exist() -> None:
    assert {*ASKED} < {*READERS}


def test_iemocap_has_two_speakers_and_times() -> None:
    talk = load_transcript(CASES / "04-iemocap-transcript" / "Ses01F_impro01.txt")
    assert set(talk.speakers) == {"Ses01F", "Ses01M"} and talk.annotations["start"][0] == 6.2901
    assert not any("published" in note for note in talk.provenance["notes"])


def test_scenes_of_emorynlp_begin_anew() -> None:
    talk = load_transcript(CASES / "01-emorynlp-csv" / "emorynlp_dev_final.csv")
    assert len(talk) == 3 and talk.speakers[:2] == ("Rita Gray", "Joe Tanner")


def test_dailydialog_takes_turns_and_convokit_is_ordered() -> None:
    talk = load_transcript(CASES / "12-dailydialog-txt" / "dialogues_text.txt")
    assert len(talk) == 2 and len(set(talk.speakers)) == 2
    talk = load_transcript(CASES / "13-convokit-jsonl" / "reversed.jsonl")
    assert talk.texts == ("Hi there!", "I lost my keys.")


def test_reccon_and_emotionlines() -> None:
    assert len(load_transcript(CASES / "03-reccon-json" / "dailydialog_valid.json")) == 2
    assert load_transcript(CASES / "11-emotionlines-json" / "friends_dev.json").speakers[:2] == ("Petra", "Rolf")


def test_labels_without_texts_are_named(tmp_path: Path) -> None:
    evaluation = tmp_path / "Ses01F_impro01.txt"
    head = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"
    evaluation.write_text(head + "[6.2901 - 8.2357]\tSes01F_impro01_F000\tneu\t[2.5000, 2.5000, 2.5000]\nC-E2:\tNeutral;\t()\n")
    with pytest.raises(CorpusError, match=r"IEMOCAP's evaluation: labels without texts; give the file .* dialog/transcriptions"):
        load_transcript(evaluation)
    with pytest.raises(CorpusError, match=r"only numbers, such as the emotions of DailyDialog; give dialogues_text.txt"):
        load_transcript(b"0 0 0 6 \n0 4 4 \n")
