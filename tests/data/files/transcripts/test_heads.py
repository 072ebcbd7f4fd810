"""What stands above and below the talk is no speaker's."""

from __future__ import annotations

import pytest

from erc_graph.data.files.transcripts import load_transcript
from erc_graph.errors import CorpusError

TALK = "Ann: Hi there\nBob: I lost my keys\n"


def read(text: str) -> tuple[list[tuple[str, str]], str]:
    corpus = load_transcript(text.encode())
    return list(zip(corpus.speakers, corpus.texts, strict=True)), "; ".join(corpus.provenance["notes"])


@pytest.mark.parametrize(
    ("above", "below", "said"),
    [
        (
            "Date: 5 May 2023\nParticipants: Ann, Bob\nLocation: Zoom\n\n",
            "",
            "3 lines above the conversation are left out ('Date: 5 May 2023', ",
        ),
        ("date: 5 May 2023\n", "", "1 line above the conversation is left out ('date: 5 May 2023')"),
        ("Participants:\n- Ann\n- Bob\nDuration: 00:45:00\n\n", "", "4 lines above the conversation are left out ('Participants:', "),
        ("Interview 12: Loss\nInterviewer: Ann Berg\nInterviewee: Bob\n\n", "", "'Interviewer: Ann Berg'"),
        ("Transcript: Session 3\n\n", "", "1 line above the conversation is left out ('Transcript: Session 3')"),
        (
            "",
            "Summary: keys\nAction items:\n- find them\n",
            "3 lines below the conversation are left out ('Summary: keys', 'Action items:', ",
        ),
        ("Betreff: Schlüssel\n", "Zusammenfassung: weg\n", "1 line below the conversation is left out ('Zusammenfassung: weg')"),
    ],
)
def test_head_and_summary_are_left_out(above: str, below: str, said: str) -> None:
    turns, notes = read(above + TALK + below)
    assert turns == [("Ann", "Hi there"), ("Bob", "I lost my keys")]
    assert said in notes


def test_a_head_above_names_on_lines_of_their_own() -> None:
    turns, notes = read("Date: 5 May 2023\n\nAnn Berg   0:03\nHi there\nBob   0:12\nI lost my keys\n")
    assert turns == [("Ann Berg", "Hi there"), ("Bob", "I lost my keys")] and "1 line above the conversation" in notes


@pytest.mark.parametrize(
    "turns",
    [
        [("Subject", "Hi"), ("Bob", "Oh"), ("Subject", "Yes")],
        [("Ann", "Hi"), ("Title", "is mine"), ("Bob", "Oh")],
        [("Interviewer", "Hi"), ("Bob", "Oh")],
        [("Ann", "Hi"), ("Summary", "no"), ("Bob", "Oh")],
    ],
)
def test_who_speaks_twice_or_among_others_stays(turns: list[tuple[str, str]]) -> None:
    assert read("".join(f"{name}: {text}\n" for name, text in turns))[0] == turns


def test_a_mail_has_no_speakers() -> None:
    mail = (
        "From: ann@example.org\nTo: bob@example.org\nSubject: keys\nDate: Mon, 1 May 2023 10:00:00 +0000\n\nHi Bob,\nI lost my keys.\nAnn\n"
    )
    with pytest.raises(CorpusError, match=r"line 6: no speaker found \('Hi Bob,'\)"):
        load_transcript(mail.encode())
