"""Pasted transcripts: the ways in which people write who speaks."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from erc_graph.data.corpus import Corpus
from erc_graph.data.files.transcripts import load_transcript
from erc_graph.data.files.transcripts.names import clean
from erc_graph.errors import CorpusError


def said(corpus: Corpus) -> list[tuple[str, str]]:
    return list(zip(corpus.speakers, corpus.texts, strict=True))


def read(text: str) -> list[tuple[str, str]]:
    return said(load_transcript(text.encode()))


def notes(text: str) -> str:
    return "; ".join(load_transcript(text.encode()).provenance["notes"][2:])


TWO = [("Ann", "Hi there"), ("Bob", "I lost my keys")]


@pytest.mark.parametrize(
    "text",
    [
        "Ann: Hi there\nBob: I lost my keys\n",
        "Ann:Hi there\nBob:I lost my keys\n",
        "Ann：Hi there\nBob：I lost my keys\n",
        "Ann : Hi there\nBob : I lost my keys\n",
        "- Ann: Hi there\n- Bob: I lost my keys\n",
        "• Ann: Hi there\n• Bob: I lost my keys\n",
        "1. Ann: Hi there\n2. Bob: I lost my keys\n",
        "1) Ann: Hi there\n2) Bob: I lost my keys\n",
        "**Ann:** Hi there\n**Bob:** I lost my keys\n",
        "**Ann**: Hi there\n**Bob**: I lost my keys\n",
        "*Ann:* Hi there\n*Bob:* I lost my keys\n",
        "__Ann:__ Hi there\n__Bob:__ I lost my keys\n",
        "**Ann** Hi there\n**Bob** I lost my keys\n",
        "- **Ann:** Hi there\n- **Bob:** I lost my keys\n",
        "> Ann: Hi there\n> Bob: I lost my keys\n",
        "<Ann> Hi there\n<Bob> I lost my keys\n",
        "Ann> Hi there\nBob> I lost my keys\n",
        "[Ann]: Hi there\n[Bob]: I lost my keys\n",
        "[Ann] Hi there\n[Bob] I lost my keys\n",
        "Ann\tHi there\nBob\tI lost my keys\n",
        "Ann (crying): Hi there\nBob [off]: I lost my keys\n",
        "[00:12] Ann: Hi there\n[00:14] Bob: I lost my keys\n",
        "00:12 - Ann: Hi there\n1:02:03 – Bob: I lost my keys\n",
        "00:00:03.120 --> 00:00:04 Ann: Hi there\n00:00:05.000 --> 00:00:06 Bob: I lost my keys\n",
        "Ann [00:12]: Hi there\nBob (00:14): I lost my keys\n",
        "Ann Berg: x\n".replace("Ann Berg: x\n", "") + "Ann   0:03\nHi there\nBob   0:12\nI lost my keys\n",
        "Ann (0:03)\nHi there\n\nBob (0:12)\nI lost my keys\n",
        "Ann — Today at 15:48\nHi there\nBob — Today at 15:49\nI lost my keys\n",
        "Ann:\nHi there\n\nBob:\nI lost my keys\n",
        "15:48:11 From Ann to Everyone: Hi there\n15:48:12 From Bob to Ann: I lost my keys\n",
        "# My talk\n\nAnn: Hi there\n---\nBob: I lost my keys\n",
        "[Scene: A kitchen.]\n(They enter.)\nAnn: Hi there\n(Bob sits down)\nBob: I lost my keys\n",
        "A title\nAnn: Hi there\nBob: I lost my keys\n",
        "Ann: Hi\nthere\nBob: I lost\n\n my keys\n",
    ],
)
def test_forms_that_say_the_same(text: str) -> None:
    assert read(text) == TWO
    assert read(text.replace("\n", "\r\n")) == TWO
    assert said(load_transcript(text.encode("utf-16"))) == TWO


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("小明：你好！\n小红：我丢了钥匙。\n", ["小明", "小红"]),
        ("Анна Ивановна: Привет\nборис: О нет\nборис: да\n", ["Анна Ивановна", "борис", "борис"]),
        ("أحمد: مرحبا\nليلى: أهلا\n", ["أحمد", "ليلى"]),
        ("user: hi\nassistant: ho\n", ["user", "assistant"]),
        ("Q: How are you?\nA: Awful.\n", ["Q", "A"]),
        ("SPEAKER_00: hi\nSPEAKER_01: ho\n", ["SPEAKER_00", "SPEAKER_01"]),
        ("Speaker 1: hi\nSpeaker 2: ho\n", ["Speaker 1", "Speaker 2"]),
        ("Ludwig van Beethoven: hi\nJoey the Janitor: ho\n", ["Ludwig van Beethoven", "Joey the Janitor"]),
        ("Dr. Mary-Jane O'Neil (on the phone, upset): What?\nBob: Oh\n", ["Dr. Mary-Jane O'Neil", "Bob"]),
        (
            "Customer Support Representative Jonathan Blackwood: Hi\nCustomer: Oh\n",
            ["Customer Support Representative Jonathan Blackwood", "Customer"],
        ),
        ("Ross and Rachel: No!\nChandler: Oh\n", ["Ross and Rachel", "Chandler"]),
        ("person on phone: Hi\nAnn: Who is it?\nperson on phone: Me\n", ["person on phone", "Ann", "person on phone"]),
        ("José Ángel: ¡Hola!\nÉlodie: Salut\n", ["José Ángel", "Élodie"]),
        ("ANN\nWe won!\n\nBOB (off)\nOh: no.\n", ["ANN", "BOB"]),
        ("MÜLLER\nJa!\n\nSTRAẞE\nNein.\n", ["MÜLLER", "STRAẞE"]),
    ],
)
def test_names(text: str, names: list[str]) -> None:
    assert [name for name, _ in read(text)] == names


@pytest.mark.parametrize(
    "line",
    [
        "http://example.org: nice",
        "Note to self: buy milk",
        "It is like this: no money",
        "this is what I wanted to say: no",
        "Note: no",
        "PS: no",
        "12:30 it was",
        'He said: "no"',
    ],
)
def test_a_sentence_with_a_colon_goes_on(line: str) -> None:
    text = f"Ann: look\n{line}\nBob: ok\nAnn: yes\n"
    assert read(text) == [("Ann", f"look {line}"), ("Bob", "ok"), ("Ann", "yes")]


def test_joined_lines_are_said() -> None:
    text = "Ann: look\nhttp://example.org: nice\nNote to self: buy milk\nBob: ok\nIt is like this: no money\n"
    assert "2 lines may name a new speaker; the text is joined to the previous utterance ('Note to self: buy milk')" in notes(text)
    assert "names are cleaned; '- Ann' is read as 'Ann' (and 1 more)" in notes("- Ann: Hi\n- Bob: Oh\n")
    assert "2 lines without speech (headings, stage directions) are left out" in notes("[Scene: x]\n# y\nAnn: Hi\n")
    assert "1 line before the first speaker is left out ('A title')" in notes("A title\nAnn: Hi\nBob: Oh\n")
    assert "names in capitals on a separate line" in notes("ANN\nWe won!\n\nBOB\nOh no.\n")
    assert "no speakers are named" in notes("[00:01] hello there\n[00:05] we won\n")
    assert notes("Ann: Hi\nBob: Oh\n") == ""


def test_times_are_kept_in_the_words_of_the_file() -> None:
    talk = load_transcript(b"[00:12] Ann: Hi\n1:00:15 PM Bob: Oh\n")
    assert talk.annotations["time"] == ("00:12", "1:00:15 PM")
    talk = load_transcript(b"[00:00:01.000 --> 00:00:02.500]  Hello there\n[00:00:02.500 --> 00:00:04.000]  We won\n")
    assert talk.annotations["start"] == (1.0, 2.5) and talk.annotations["end"] == (2.5, 4.0) and talk.texts == ("Hello there", "We won")
    assert load_transcript(b"0:03\nhello\n0:05\nworld\nagain\n").texts == ("hello", "world again")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "once upon a time\n",
            r"line 1: no speaker found \('once upon a time'\).*write the speaker before every utterance, also if there is only one speaker",
        ),
        ("[Scene: x]\n(They enter)\n", "no speaker found, only 2 lines of headings or stage directions"),
        ("I am fine.\n\nYou are not.\n", "line 1: no speaker found"),
    ],
)
def test_nobody_speaks(text: str, message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        load_transcript(text.encode())


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("  Ann ", "Ann"),
        ("[SPEAKER_00]", "SPEAKER_00"),
        ("~ Cleo", "Cleo"),
        ("~\u202fCleo", "Cleo"),
        ("\u200eAnn\u200f", "Ann"),
        ("***Ann***", "Ann"),
        ("Ann (a) [b]", "Ann"),
        ("12. Ann", "Ann"),
        ("<Ann>", "Ann"),
        ("(Ann)", "Ann"),
        ("## Ann", "Ann"),
        ("Ann 👩‍👧", "Ann 👩‍👧"),
        ("(", "("),
        ("", ""),
        ("From Ann Berg to Everyone", "Ann Berg"),
        ("a" * 300, "a" * 300),
        ("【小明】", "小明"),
        ("小明（哭）", "小明"),
    ],
)
def test_clean(raw: str, name: str) -> None:
    assert clean(raw) == name


@pytest.mark.parametrize(
    "line",
    [
        " " * 100_000 + "x",
        "a " * 50_000,
        "[00:12" + " " * 100_000,
        "00:1 " * 20_000,
        "(" * 100_000,
        "*" * 100_000,
        "- " * 50_000,
        "#" * 100_000,
        "<a" * 50_000,
        "A. " * 30_000,
        ":" * 100_000,
        "#00:00:05-2# " * 20_000,
        "Ann: [00:00:03]" + " " * 100_000,
        '"' * 100_000,
        "=== " * 30_000,
        "<b " * 50_000 + "</b>",
        "12" + " " * 100_000,
        "Q. " * 50_000,
        "| " * 50_000,
    ],
)
def test_hostile_lines_take_linear_time(line: str) -> None:
    start = time.process_time()
    load_transcript(f"Ann: hi\n{line}\nBob: ho\n{line}: x".encode())
    assert time.process_time() - start < 1


def test_many_lines_take_linear_time() -> None:
    start = time.process_time()
    assert load_transcript(("Ann: hi\n" + "and so on\n" * 50_000).encode()).utterances == 1
    assert load_transcript("".join(f"A{i}: hi\n" for i in range(20_000)).encode()).utterances == 20_000
    assert time.process_time() - start < 10


NAMES = st.sampled_from(["Ann", "Bob Cole", "Dr. O'Neil", "SPEAKER_00", "小明", "Zoë", "Анна", "Customer Care"])
WORDS = st.from_regex(r"[a-z]{1,8}( [a-z]{1,8}){0,5}[.?!]?", fullmatch=True)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(NAMES, WORDS), min_size=1, max_size=8),
    st.sampled_from(
        ["{}: {}", "- {}: {}", "**{}:** {}", "<{}> {}", "{}\t{}", "[00:12] {}: {}", "{} (off): {}", "1. {}: {}", "{} [1:02]: {}", "{}：{}"]
    ),
)
def test_what_we_write_is_read_back(turns: list[tuple[str, str]], form: str) -> None:
    assert read("".join(form.format(*turn) + "\n" for turn in turns)) == turns


@pytest.mark.parametrize(
    "text",
    [
        "Ann Berg\n0:03\nHi there\nBob Cole\n0:12\nI lost my keys\n",
        "Ann Berg - 0:03\nHi there\nBob Cole - 0:12\nI lost my keys\n",
        "Ann Berg (00:03):\nHi there\n\nBob Cole (00:12):\nI lost my keys\n",
        "01 Ann Berg: Hi\n02 there\n03 Bob Cole: I lost\n04 my keys\n",
        "Ann Berg: Hi there\n00:05:00\nBob Cole: I lost my keys\n",
        "0.000\t2.000\tAnn Berg: Hi there\n2.500\t4.000\tBob Cole: I lost my keys\n",
    ],
)
def test_programs_for_meetings(text: str) -> None:
    assert read(text) == [("Ann Berg", "Hi there"), ("Bob Cole", "I lost my keys")]


def test_times_in_front_of_speakers() -> None:
    assert read("00:00:03 Speaker 1\nHi there\n\n00:00:09 Speaker 2\nOh no\n") == [("Speaker 1", "Hi there"), ("Speaker 2", "Oh no")]
    labels = load_transcript(b"0.000\t2.000\tAnn: Hi\n2.500\t4.000\tBob: Oh\n")
    assert labels.annotations["start"] == (0.0, 2.5) and labels.annotations["end"] == (2.0, 4.0)


def test_times_in_brackets_in_front_of_names() -> None:
    talk = load_transcript("[3:00 PM] Müller, Max\nGuten Tag zusammen.\n[3:01 PM] Ann Lee\nHi\nthere\n".encode())
    assert talk.speakers == ("Müller, Max", "Ann Lee") and talk.texts == ("Guten Tag zusammen.", "Hi there")
    assert talk.annotations["time"] == ("3:00 PM", "3:01 PM")


def test_words_before_a_colon_that_stand_once_are_no_speakers() -> None:
    lines = ["I can ride it now.", "Look: no hands", "It took me a week.", "Nobody helped.", "Because: reasons."]
    talk = load_transcript("\n".join(lines).encode())
    assert talk.texts == tuple(lines) and {*talk.speakers} == {"speaker"}
    assert "no name occurs twice, so 'Look' and all other words before a colon are read as text" in "; ".join(talk.provenance["notes"])
    cues = "".join(f"{i}\n00:00:0{i},000 --> 00:00:0{i},900\n{line}\n\n" for i, line in enumerate(lines))
    assert load_transcript(cues.encode()).texts == tuple(lines)


def test_names_that_stand_once_among_others_are_noted() -> None:
    talk = load_transcript(b"Ann: Hi\nBob: Oh\nAnn: Yes\nBob: No\nLook: no hands\nAnn: Oh\n")
    assert "1 name occurs only once (such as 'Look')" in "; ".join(talk.provenance["notes"])


def test_slashes_behind_a_name_are_what_is_said() -> None:
    assert read("Ann: hi\nBob: // yes\nAnn: ok\nBob: yes\n") == [("Ann", "hi"), ("Bob", "// yes"), ("Ann", "ok"), ("Bob", "yes")]
    assert read("S00: Hello?\n\nS01: //mhm//\n\nS00: fine\n") == [("S00", "Hello?"), ("S01", "//mhm//"), ("S00", "fine")]
    assert read("S00: Hello?\nS01://mhm//\nS00: fine\nS01: oh\n")[1] == ("S01", "//mhm//")


@pytest.mark.parametrize("line", ["https://example.org/a", "See http://example.org", "FTP://example.org", "file:///home/ann"])
def test_an_address_is_no_speaker(line: str) -> None:
    assert read(f"Ann: look\n{line}\nBob: ok\nAnn: yes\n")[0] == ("Ann", f"look {line}")
    assert read(f"Ann:look\n{line}\nBob:ok\nAnn:yes\n")[0] == ("Ann", f"look {line}")


@pytest.mark.parametrize("content", [b"\xef\xbb\xbf", b"\xef\xbb\xbf \r\n", b"\xff\xfe"])
def test_a_mark_of_the_encoding_alone_is_an_empty_file(content: bytes) -> None:
    with pytest.raises(CorpusError, match="standard input: is empty; expected `Speaker: text` lines"):
        load_transcript(content)


def test_long_names_and_names_in_quotes() -> None:
    name = "Mr Smith and Mrs Smith of the Board of Directors"
    assert read(f"Zed: hi\n{name}: again\nZed: fine\n") == [("Zed", "hi"), (name, "again"), ("Zed", "fine")]
    assert read('"Ann": Hi there\n“Bob”: I lost my keys\n') == TWO
    assert """names are cleaned; '"Ann"' is read as 'Ann'""" in notes('"Ann": Hi\nBob: Oh\n')


def test_marks_of_rooms_are_no_part_of_a_name() -> None:
    text = "10:00 <@ann> hi there\n10:01 < bob> I lost my keys\n10:02 * ann sighs\n10:04 <+bob> ann: where?\n"
    assert [name for name, _ in read(text)] == ["ann", "bob", "bob"]
    assert "names are cleaned; '@ann' is read as 'ann' (and 1 more)" in notes(text)
    assert clean("+49 170 123") == "+49 170 123"


def test_records_of_a_court() -> None:
    text = "  1        THE COURT:  Good morning.\n  2        Q.   How are you?\n  3        A.   Awful.\n  4             I lost my job.\n"
    assert read(text) == [("THE COURT", "Good morning."), ("Q", "How are you?"), ("A", "Awful. I lost my job.")]
    assert "numbers at the beginning of lines are left out; Q. and A. at the beginning of lines are read as speakers" in notes(text)
    assert read("A. first\nB. second\nAnn: Hi\n") == [("Ann", "Hi")]


@pytest.mark.parametrize(
    ("text", "note"),
    [
        (
            "00:00:03:12 - 00:00:05:00\nAnn\nHi there\n\n00:00:06:12 - 00:00:08:00\nBob\nI lost\nmy keys\n",
            "frames in the times are not read",
        ),
        ("<b>Ann:</b> Hi there<br>\n<b>Bob:</b> I&nbsp;lost my keys<br>\n", "6 tags of HTML are left out"),
        ("<strong>Ann:</strong> Hi there<br/><strong>Bob:</strong> I lost my keys", "5 tags of HTML are left out"),
        ("| Speaker | Text |\n|---|:--|\n| Ann | Hi there |\n| Bob | I lost my keys |\n", "all 2 utterances are one conversation"),
        ("00:03:12\tAnn:\tHi there\n00:03:20\tBob:\tI lost my keys\n", ""),
        ("Ann: Hi there\nBob: I lost my keys\n\nTranscription ended after 00:06:00\n", "1 line without speech"),
        ("Ann: Hi there\nBob: I lost my keys\nMeeting ended after 00:06:00\n", "1 line without speech"),
        (
            "=== 1 ===\nAnn: Hi there\n\n=== Call 2 ===\nBob: I lost my keys\n",
            "a heading between utterances ('=== Call 2 ===') is ignored",
        ),
        ("Ann: Hi there #00:00:05-2#\nBob: I lost #00:00:08-0#\nmy keys #00:00:09-0#\n", ""),
        ("#00:00:03-1# Ann: Hi there #00:00:05-2#\n#00:00:05-2# Bob: I lost my keys #00:00:08-0#\n", ""),
        ("Ann: [00:00:03] Hi there\n\nBob: [00:00:12] I lost my keys\n", ""),
    ],
)
def test_tools(text: str, note: str) -> None:
    assert [(name, " ".join(words.split())) for name, words in read(text)] == TWO
    assert note in notes(text)


def test_times_of_tools() -> None:
    def times(text: str) -> dict[str, tuple[object, ...]]:
        kept = load_transcript(text.encode()).annotations
        return {what: kept[what] for what in ("start", "end", "time") if what in kept}

    assert times("00:00:03:12 - 00:00:05:00\nAnn\nHi\n00:00:06:12 - 00:00:08:00\nBob\nOh\n") == {"start": (3.0, 6.0), "end": (5.0, 8.0)}
    assert times("#00:00:03-1# I: Hi #00:00:05-2#\n#00:00:05-2# B: Oh #00:00:08-0#\n") == {"start": (3.1, 5.2), "end": (5.2, 8.0)}
    assert times("I: Hi #00:00:05-2#\nB: Oh #00:00:08-0#\nno #00:00:09-0#\n") == {"end": (5.2, 9.0)}
    assert times("Ann: [00:00:03] Hi\nBob: [00:00:12] Oh\n") == {"time": ("00:00:03", "00:00:12")}
