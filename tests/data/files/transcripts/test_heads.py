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


TIMED = "[00:00:04] Agent Maya: Hello\n[00:00:09] Mr. Peterson: My order is late.\n[00:00:15] Agent Maya: I see.\nSo: which one?\n"


@pytest.mark.parametrize(
    ("above", "lines"),
    [
        ("Call recording: x\nDate: 2 March 2026\nParticipants: Agent Maya, Mr. Peterson\n\n", 3),
        ("Call recording: x\nCase: 17\n", 2),
        ("Case: 17\nAgent Maya: Maya Lopez\nA late order.\n\n", 3),
        ("Case: 17\n\nA late order.\n\nLine: 2\n\n", 3),
    ],
)
def test_untimed_lines_above_a_talk_with_times_are_left_out(above: str, lines: int) -> None:
    after = "Agent Maya: [00:00:04] Hello\nMr. Peterson: [00:00:09] My order is late.\nAgent Maya: [00:00:15] I see.\nSo: which one?\n"
    for talk in (TIMED, after):
        turns, notes = read(above + talk)
        assert turns == [("Agent Maya", "Hello"), ("Mr. Peterson", "My order is late."), ("Agent Maya", "I see. So: which one?")]
        assert f"{lines} line{'s' * (lines > 1)} above the conversation" in notes and repr(above.split("\n")[0]) in notes


@pytest.mark.parametrize(
    "text",
    [
        "Mr. Peterson: Hi\n" + TIMED,  # pasted without its first time
        "Cleo: Hi\nBob: Oh\n" + TIMED.replace("[00:00:15] ", ""),  # a time here and there
        "Cleo: Hi\n" + TIMED.replace("So:", "Bob:") + "Bob: Oh\n[00:00:20] Agent Maya: Bye\n",
    ],
)
def test_who_speaks_without_a_time_stays(text: str) -> None:
    turns, notes = read(text)
    assert turns[0][1] == "Hi" and "above the conversation" not in notes


@pytest.mark.parametrize(
    ("above", "lines"),
    [
        ("Call recording: x\nDate: 2 March 2026\n\n", 2),
        ("Date: 2 March 2026\nCase: 17\nParticipants: Ann, Bob\n\n", 3),
        ("Date: 2 March 2026\nParticipants: Ann, Bob\nCase: 17\n\n", 3),
    ],
)
def test_unknown_words_among_headings_are_left_out(above: str, lines: int) -> None:
    turns, notes = read(above + TALK)
    assert turns == [("Ann", "Hi there"), ("Bob", "I lost my keys")] and f"{lines} lines above the conversation are left out" in notes


@pytest.mark.parametrize("above", ["Date: 2 March 2026\nCleo: Hi\n", "Date: 2 March 2026\n\nCleo: Hi\n", "Cleo: Hi\n\n"])
def test_who_speaks_below_or_beside_headings_stays(above: str) -> None:
    assert read(f"{above}\n{TALK}")[0] == [("Cleo", "Hi"), ("Ann", "Hi there"), ("Bob", "I lost my keys")]


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
