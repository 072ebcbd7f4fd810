"""Subtitles: every form that programs write and people paste, with its times."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from erc_graph.data.corpus import Corpus
from erc_graph.data.files.transcripts import load_transcript
from erc_graph.data.files.transcripts.names import NO_NAMES
from erc_graph.errors import CorpusError


def said(corpus: Corpus) -> list[tuple[str, str, float | None, float | None]]:
    nothing = (None,) * corpus.utterances
    times = corpus.annotations.get("start", nothing), corpus.annotations.get("end", nothing)
    return list(zip(corpus.speakers, corpus.texts, *times, strict=True))


def notes(corpus: Corpus) -> str:
    return "; ".join(corpus.provenance["notes"][2:])


TWO = [("Ann", "Hi there", 1.0, 2.0), ("Bob", "I lost my keys", 2.5, 4.0)]
SRT = "1\n00:00:01,000 --> 00:00:02,000\nAnn: Hi there\n\n2\n00:00:02,500 --> 00:00:04,000\nBob: I lost my keys\n"
VTT = "WEBVTT\n\n00:00:01.000 --> 00:00:02.000\n<v Ann>Hi there</v>\n\n00:00:02.500 --> 00:00:04.000\n<v Bob>I lost my keys</v>\n"


@pytest.mark.parametrize(
    "text",
    [
        SRT,
        VTT,
        "\ufeff" + SRT.replace("\n", "\r\n"),
        SRT.replace("\n\n2\n", "\n2\n"),  # no blank line between cues
        SRT.replace("1\n00", "00").replace("2\n00", "00"),  # no numbers
        SRT.replace("\n\n", "\n\n\n\n"),
        SRT.replace("00:00:0", "0:0"),
        SRT.replace(",", "."),
        SRT.replace("Ann:", "<i>Ann:</i>").replace("Bob:", '<font color="#fff">Bob:</font>'),
        SRT.replace("Ann:", "{\\an8}Ann:"),
        SRT.replace("Ann:", "ANN:").replace("ANN:", "- Ann:"),
        SRT.replace("Ann:", "[Ann]:").replace("Bob:", "[Bob]:"),
        SRT.replace("Ann:", "[Ann]").replace("Bob:", "[Bob]"),
        SRT.replace("lost my", "lost\nmy"),
        VTT.replace("00:00:0", "00:0"),
        VTT.replace("\n\n00", "\n\nfe3c-1/14-0\n00"),
        VTT.replace("2.000\n", "2.000 align:start position:0% line:90%\n"),
        VTT.replace("WEBVTT", "WEBVTT - a talk\nKind: captions\nLanguage: en"),
        VTT.replace("WEBVTT\n", "WEBVTT\n\nNOTE a note\nAnn: that is none\n\nSTYLE\n::cue { color: red }\n"),
        VTT.replace("<v Ann>", "<v.loud.first Ann>").replace("</v>", ""),
        VTT.replace("Hi there", "<c.yellow>Hi</c> <00:00:01.500>there"),
        VTT.replace("<v Ann>Hi there</v>", "<v Ann>Hi</v>\n<v Ann>there</v>"),
        VTT.replace("<v Ann>", "Ann: ").replace("<v Bob>", "Bob: ").replace("</v>", ""),
        VTT.replace("WEBVTT\n\n", ""),
        "0:00:01.000,0:00:02.000\nAnn: Hi there\n\n0:00:02.500,0:00:04.000\nBob: I lost my keys\n",  # SBV
    ],
)  # fmt: skip
def test_forms_that_say_the_same(text: str) -> None:
    assert said(load_transcript(text.encode())) == TWO


def test_other_scripts_and_entities() -> None:
    talk = (
        VTT.replace("Ann", "王先生")
        .replace("Hi there", "你好 &amp; &lt;3")
        .replace("Bob", "Анна Ивановна")
        .replace("I lost my keys", "Где ключи?")
    )
    assert said(load_transcript(talk.encode())) == [("王先生", "你好 & <3", 1.0, 2.0), ("Анна Ивановна", "Где ключи?", 2.5, 4.0)]
    arabic = SRT.replace("Ann", "أحمد").replace("Bob", "ليلى")
    assert load_transcript(arabic.encode()).speakers == ("أحمد", "ليلى")
    assert said(load_transcript(SRT.encode("utf-16"))) == TWO


def test_two_voices_in_one_cue_are_two_turns() -> None:
    text = "WEBVTT\n\n00:01.000 --> 00:02.000\n<v Ann>Hi</v> <v Bob>Oh no</v>\n"
    assert said(load_transcript(text.encode())) == [("Ann", "Hi", 1.0, 2.0), ("Bob", "Oh no", 1.0, 2.0)]
    assert load_transcript(SRT.replace("Hi there", "Hi there\nBob: Oh no").encode()).speakers == ("Ann", "Bob", "Bob")


def test_nobody_named_is_said() -> None:
    talk = load_transcript(SRT.replace("Ann: ", "").replace("Bob: ", "").encode())
    assert talk.speakers == ("speaker", "speaker") and "no speakers are named (SubRip), so all utterances belong to one speaker" in notes(
        talk
    )
    dashes = load_transcript(SRT.replace("Ann: Hi there", "- Hi there\n- Oh no").encode())
    assert dashes.texts == ("Hi there", "Oh no", "I lost my keys")


def test_a_cue_without_a_name_goes_on() -> None:
    talk = load_transcript((SRT + "\n3\n00:00:05,000 --> 00:00:06,000\nand my phone\n").encode())
    assert said(talk)[2] == ("Bob", "and my phone", 5.0, 6.0)
    assert "1 cue without a name is assigned to the previous speaker" in notes(talk)


def test_what_a_paste_has_cut_off() -> None:
    talk = load_transcript(SRT.partition("2,000\n")[2].encode())
    assert said(talk) == [("Ann", "Hi there", None, None), TWO[1]]


def test_a_sentence_with_a_colon_is_no_speaker() -> None:
    talk = load_transcript(SRT.replace("I lost my keys", "it is like this: no keys").encode())
    assert talk.speakers == ("Ann", "Bob")
    talk = load_transcript((SRT + "\n3\n00:00:05,000 --> 00:00:06,000\nThe thing is: no keys\n").encode())
    assert talk.speakers == ("Ann", "Bob", "Bob") and "1 line may name a new speaker" in notes(talk)


def test_rolling_captions_say_everything_once() -> None:
    text = (
        "WEBVTT\nKind: captions\n\n00:00:00.000 --> 00:00:02.000 align:start position:0%\n \nhello<00:00:00.500><c> there</c>\n\n"
        "00:00:02.000 --> 00:00:02.010 align:start position:0%\nhello there\n \n\n"
        "00:00:02.010 --> 00:00:04.000 align:start position:0%\nhello there\nhow<00:00:02.500><c> are</c>\n"
    )
    talk = load_transcript(text.encode())
    assert talk.texts == ("hello there", "how are") and "2 repeated lines of rolling captions are left out" in notes(talk)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("WEBVTT\n\nAnn: Hi\n", "WebVTT without cues: no line with times"),
        ("1\n00:00:01,000 --> 00:00:02,000\n\n\n", "SubRip: 1 cue without text"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        load_transcript(text.encode())


def test_lines_outside_of_cues_are_said() -> None:
    talk = load_transcript((VTT + "\nleft behind\n").encode())
    assert said(talk) == TWO and "1 line outside of all cues is left out" in notes(talk)


@pytest.mark.parametrize(
    "line",
    [
        "1" * 100_000,
        "<v " * 50_000,
        "\n" * 100_000 + "x",
        "<" * 100_000,
        "0:" * 50_000,
        "{\\" * 50_000,
        "- " * 50_000,
        "a: " * 30_000,
        " " * 100_000,
    ],
    ids=lambda line: line[:3],
)
def test_hostile_cues_take_linear_time(line: str) -> None:
    start = time.process_time()
    for head in (SRT, VTT):
        load_transcript(f"{head}\n00:00:05.000 --> 00:00:06.000\n{line}\n".encode())
    assert time.process_time() - start < 2


NAMES = st.from_regex(r"[A-Z][a-z]{1,7}( [A-Z][a-z]{1,7})?", fullmatch=True).filter(lambda name: name.lower() not in NO_NAMES)
WORDS = st.from_regex(r"[a-z]{1,8}( [a-z]{1,8}){0,5}[.?!]", fullmatch=True)
CUES = st.lists(st.tuples(NAMES, WORDS, st.integers(0, 3_600_000), st.integers(1, 9000)), min_size=1, max_size=8)


def clock(milliseconds: int, mark: str) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{mark}{rest:03d}"


@settings(max_examples=25, deadline=None)
@given(CUES, st.sampled_from(["vtt", "voice", "srt"]))
def test_what_we_write_is_read_back(cues: list[tuple[str, str, int, int]], form: str) -> None:
    cues = [(name, text, start + 10_000_000 * row, length) for row, (name, text, start, length) in enumerate(cues)]
    mark = "," if form == "srt" else "."
    blocks = [
        f"{row}\n{clock(start, mark)} --> {clock(start + length, mark)}\n"
        + (f"<v {name}>{text}</v>" if form == "voice" else f"{name}: {text}")
        for row, (name, text, start, length) in enumerate(cues, start=1)
    ]
    talk = load_transcript(("\n\n".join([*([] if form == "srt" else ["WEBVTT"]), *blocks]) + "\n").encode())
    assert said(talk) == [(name, text, start / 1000, (start + length) / 1000) for name, text, start, length in cues]


@pytest.mark.parametrize(
    "content",
    [
        'WEBVTT\n\n1 "Ann Lee" (12345)\n00:00:01.000 --> 00:00:02.000\nHi there. How\nare you?\n\n'
        '2 "Max Müller" (12346)\n00:00:03.000 --> 00:00:04.000\nYes\n',
        "0:00:01.000,0:00:02.000\n(Ann Lee)\nHi there. How\nare you?\n\n0:00:03.000,0:00:04.000\n(Max Müller)\nYes\n",
        "0:0:1.0 --> 0:0:2.0\nAnn Lee\nHi there. How\nare you?\n0:0:3.0 --> 0:0:4.0\nMax Müller\nYes\n",
    ],
)
def test_speakers_beside_the_cues_are_read(content: str) -> None:
    talk = load_transcript(content.encode())
    assert list(zip(talk.speakers, talk.texts, strict=True)) == [("Ann Lee", "Hi there. How are you?"), ("Max Müller", "Yes")]
    assert talk.annotations["start"] == (1.0, 3.0)


def test_first_lines_that_are_no_names_stay() -> None:
    sbv = load_transcript(b"0:00:01.000,0:00:02.000\nHi there\n\n0:00:03.000,0:00:04.000\n(Laughs)\nYes\n")
    assert sbv.texts == ("Hi there", "(Laughs) Yes")
    padded = load_transcript(b"00:00:01.000 --> 00:00:02.000\nOh\nno\n\n00:00:03.000 --> 00:00:04.000\nWell\nyes\n")
    assert padded.texts == ("Oh no", "Well yes")


def test_dashed_lines_are_not_those_of_the_speaker_before() -> None:
    cues = "1\n00:00:01,000 --> 00:00:02,000\nANN: Hi\n\n2\n00:00:03,000 --> 00:00:04,000\n- What?\n- Nothing.\n"
    talk = load_transcript(cues.encode())
    assert talk.speakers == ("ANN", "speaker", "speaker") and talk.texts == ("Hi", "What?", "Nothing.")
