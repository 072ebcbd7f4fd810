"""Exports of everyday tools, as people have them: every file is read as its owner expects, or refused by its true name.

The folders hold files typed after public bug reports.
"""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from erc_graph.data.corpus import Corpus
from erc_graph.data.files.notes import noting
from erc_graph.data.files.transcripts import _parse, load_transcript
from erc_graph.errors import CorpusError

CASES = Path(__file__).parents[1] / "cases"
HELLO, YES, SORRY = "Hello, can you hear me?", "Yes! So good to see you again.", "I am so sorry for the delay."
CALL = [("Ann Berg", HELLO), ("Bob Cole", YES), ("Ann Berg", SORRY)]
SHORT = [("Ann", HELLO), ("Bob", YES)]
CLOUD = (HELLO, "Yes, so good to see you.")
KEYS = [("Ann", "Hi there!"), ("Bob", "I lost my keys")]
PLAIN = [("Ann", "Hi there"), ("Bob", "I lost my keys")]
LETTERS = [("Ann", "Hi, it’s me – Zoë…"), ("Bob", "I lost my keys.")]

# File → turns, a part of what is noted ("" where nothing is assumed)
READ: dict[str, tuple[list[tuple[str, str]], str]] = {
    "06-vtt-srt/teams.vtt": (CALL[:2], ""),
    "06-vtt-srt/zoom.vtt": (CALL, ""),
    "06-vtt-srt/pasted.txt": (CALL, ""),
    "06-vtt-srt/plain.srt": (SHORT, ""),
    "06-vtt-srt/pasted_srt.txt": (SHORT, ""),
    "06-vtt-srt/talk.srt": ([("SPEAKER_00", HELLO), ("SPEAKER_01", YES)], "'[SPEAKER_00]' is read as 'SPEAKER_00'"),
    "07-whisper-json/insanely-fast.json": ([("SPEAKER_00", HELLO), ("SPEAKER_01", YES)], ""),
    "07-whisper-json/whisper.json": ([("speaker", HELLO), ("speaker", YES), ("speaker", SORRY)], "no speakers are named (Whisper)"),
    "07-whisper-json/whisperx.json": ([("SPEAKER_00", HELLO), ("SPEAKER_01", YES), ("speaker", SORRY)], "1 utterance has no speaker"),
    "08-cloud-stt-json/assemblyai.json": ([("A", CLOUD[0]), ("B", CLOUD[1])], ""),
    "08-cloud-stt-json/aws.json": ([("spk_0", CLOUD[0]), ("spk_1", CLOUD[1])], ""),
    "08-cloud-stt-json/azure.json": ([("speaker 1", CLOUD[0]), ("speaker 2", CLOUD[1])], ""),
    "08-cloud-stt-json/deepgram.json": ([("speaker 0", CLOUD[0]), ("speaker 1", CLOUD[1])], ""),
    "08-cloud-stt-json/google.json": ([("speaker", HELLO), ("speaker 1", "hello"), ("speaker 2", "yes")], "1 utterance has no speaker"),
    "09-chat-exports/discord.json": ([("Ann", "Hi there!"), ("Bob", "I lost my keys :(")], ""),
    "09-chat-exports/iso_stamp.txt": (KEYS, ""),
    "09-chat-exports/mixed.txt": (
        [("Ann", "Hi there!"), ("Bob", "I lost my keys again"), ("Ann", "oh no")],
        "1 line with a name but no date is read as a message",
    ),
    "09-chat-exports/openai.json": (
        [("user", "I lost my job today."), ("assistant", "I am sorry to hear that.")],
        "1 service message is left out",
    ),
    "09-chat-exports/slack.json": ([("Ann", "Hi there!"), ("Bob", "I lost my keys :(")], ""),
    "09-chat-exports/telegram.json": ([KEYS[0], ("Bob", "I lost my keys, see example.org")], "1 service message is left out"),
    "09-chat-exports/telegram_plain.json": (KEYS, "1 service message is left out"),
    "09-chat-exports/whatsapp_24h.txt": ([("John Doe", "The fox ran."), ("Mia", "Lovely!")], ""),
    "09-chat-exports/whatsapp_android.txt": (
        [("Ann", "Hi there!"), ("Bob", "I lost my keys again and my phone as well")],
        "1 service message and 1 media message are left out",
    ),
    "09-chat-exports/whatsapp_ios.txt": (
        [("Ann", "Hi there!"), ("Bob", "I lost my keys again and my phone as well"), ("Cleo", "oh no :(")],
        "1 service message and 1 media message are left out",
    ),
    "15-instagram-messenger/message_1.json": ([("Ann", "Where are you?"), ("Bob", "So sorry, I lost my keys.")], "the newest message"),
    "15-instagram-messenger/participant.csv": ([("Ann", "Where are you?"), ("Bob", "So sorry, I lost my keys.")], "one conversation"),
    "15-instagram-messenger/sender.csv": ([("Ann", "Where are you?"), ("Bob", "So sorry, I lost my keys.")], "one conversation"),
    "26-predict-encodings/angle.txt": (PLAIN, ""),
    "26-predict-encodings/arrow.txt": (PLAIN, ""),
    "26-predict-encodings/bold.txt": (PLAIN, "names are cleaned; '**Ann**' is read as 'Ann'"),
    "26-predict-encodings/bullet.txt": (PLAIN, "names are cleaned; '- Ann' is read as 'Ann'"),
    "26-predict-encodings/cn.txt": ([("小明", "你好！"), ("小红", "我丢了钥匙。")], ""),
    "26-predict-encodings/cp1252.txt": (LETTERS, "not UTF-8; it is read as Windows-1252"),
    "26-predict-encodings/crlf.txt": (PLAIN, ""),
    "26-predict-encodings/empty_text.txt": ([("Ann", ""), ("Bob", "..."), ("Ann", "😭😭😭")], ""),
    "26-predict-encodings/hash.txt": ([("Ann", "Hi"), ("Bob", "Oh")], "1 line without speech"),
    "26-predict-encodings/long.txt": (
        [("Customer Support Representative Jonathan Blackwood", "Hi there"), ("Customer", "I lost my keys")],
        "",
    ),
    "26-predict-encodings/nbsp.txt": ([("Ann", "Hi."), ("Bob", "Oh no.")], ""),
    "26-predict-encodings/noSpace.txt": (PLAIN, ""),
    "26-predict-encodings/num.txt": (PLAIN, "names are cleaned; '1. Ann' is read as 'Ann'"),
    "26-predict-encodings/one.txt": ([("Ann", "Hi")], ""),
    "26-predict-encodings/paren.txt": (
        [("Ann", "Hi there"), ("Bob", "I lost my keys"), ("Dr. Mary-Jane O'Neil", "What?")],
        "names are cleaned; 'Ann (crying)' is read as 'Ann' (and 2 more)",
    ),
    "26-predict-encodings/qa.txt": ([("Q", "How are you?"), ("A", "Awful.")], ""),
    "26-predict-encodings/stage.txt": (PLAIN, "3 lines without speech"),
    "26-predict-encodings/tabs.tsv": ([("Ann", "Hi there"), ("Bob", 'I "lost my keys')], "one conversation"),
    "26-predict-encodings/tabs_nohead.tsv": (PLAIN, "the first of two columns is read as the speaker"),
    "26-predict-encodings/url.txt": (
        [("Ann", "look http://example.org: nice Note to self: buy milk"), ("Bob", "ok It is like this: no money")],
        "2 lines may name a new speaker; the text is joined to the previous utterance",
    ),
    "26-predict-encodings/utf16_powershell.txt": (LETTERS, ""),
    "26-predict-encodings/utf8bom.txt": (LETTERS, ""),
    "30-annotation-tools/talk.TextGrid": ([("Ann", "We won!")], ""),
    "30-annotation-tools/talk16.TextGrid": ([("Ann", "We won!")], ""),
    "30-annotation-tools/talk.eaf": ([("Ann", "We won!")], ""),
    "30-annotation-tools/talk.cha": ([("Ann", "we won!"), ("Bob", "really?")], "transcription codes are removed"),
    "33-predict-misc/score.csv": ([("A", "Hi"), ("B", "Oh"), ("A", "Fine")], "columns not used for labels: sentiment, split"),
    "33-predict-misc/script.txt": ([("ANN", "We won!"), ("BOB", "Oh no.")], "names in capitals on a separate line"),
    "33-predict-misc/teams_docx_paste.txt": ([("Ann Berg", HELLO), ("Bob Cole", "Yes! So good to see you.")], ""),
    "33-predict-misc/time_dash.txt": ([("Ann", "Hello"), ("Bob", "Yes"), ("Ann", "No"), ("Bob", "What?"), ("Ann", "hm")], ""),
    "33-predict-misc/turn_text.json": ([("Mina", "Nothing to tell."), ("Joe", "Come on!")], "turn such as '1a' is not an integer"),
    "33-predict-misc/uid_text.json": ([("Mina", "Nothing to tell."), ("Joe", "Come on!")], "one conversation"),
    "33-predict-misc/whisper.tsv": ([("speaker", HELLO), ("speaker", "Yes! So good.")], "times are read as milliseconds"),
}

REFUSED = {
    "26-predict-encodings/doc.html": "this is a web page",
    "26-predict-encodings/rtf.txt": "Rich Text Format",
    "30-annotation-tools/empty.json": "no `text` and no `features` in 1 rows; found paragraphs",
    "30-annotation-tools/talk.rttm": "RTTM has speakers and times, but no text",
}

TIMES = {
    "06-vtt-srt/teams.vtt": {"start": (3.12, 5.4), "end": (5.0, 7.9)},
    "06-vtt-srt/pasted_srt.txt": {"start": (None, 2.5), "end": (None, 4.0)},
    "07-whisper-json/whisperx.json": {"start": (0.0, 2.5, 4.5), "end": (2.0, 4.0, 6.0)},
    "08-cloud-stt-json/azure.json": {"start": (0.0, 2.0), "end": (2.0, 4.0)},
    "08-cloud-stt-json/assemblyai.json": {"start": (0.0, 2.0), "end": (2.0, 4.0)},
    "09-chat-exports/slack.json": {"time": ("2023-05-05T15:48:11.100000", "2023-05-05T15:48:12.100000")},
    "09-chat-exports/whatsapp_24h.txt": {"time": ("5/4/19, 14:59", "5/4/19, 15:00")},
    "15-instagram-messenger/message_1.json": {"time": ("2019-12-24T11:23:00", "2019-12-24T11:24:00")},
    "30-annotation-tools/talk.cha": {"start": (0.1, None), "end": (2.0, None)},
    "33-predict-misc/whisper.tsv": {"start": (0.0, 2.5), "end": (2.0, 4.0)},
}


def notes(corpus: Corpus) -> str:
    return "; ".join(corpus.provenance["notes"][2:])  # behind what was recognised, and that there are no labels


@pytest.mark.parametrize("file", READ)
def test_files_that_are_read(file: str) -> None:
    turns, note = READ[file]
    corpus = load_transcript(CASES / file)
    assert list(zip(corpus.speakers, corpus.texts, strict=True)) == turns
    assert note in notes(corpus) and bool(note) == bool(notes(corpus))


@pytest.mark.parametrize("file", REFUSED)
def test_files_that_are_refused(file: str) -> None:
    with pytest.raises(CorpusError, match=REFUSED[file]):
        load_transcript(CASES / file)


@pytest.mark.parametrize("file", TIMES)
def test_times_are_kept(file: str) -> None:
    found = load_transcript(CASES / file).annotations
    assert {name: found[name] for name in ("start", "end", "time") if name in found} == TIMES[file]


def test_no_file_is_left_out() -> None:
    folders = {file.partition("/")[0] for file in READ}
    there = {f"{path.parent.name}/{path.name}" for folder in folders for path in (CASES / folder).iterdir()}
    assert there - {"33-predict-misc/long_turn.txt"} == {*READ, *REFUSED}


DAMAGE = (
    b"\n",
    b":",
    b'"',
    b"<",
    b"\t",
    b"-->",
    b"[",
    b"]",
    b" - ",
    b"\xe2\x80\x8e",
    b"\r",
    b"00:00:01.000 --> 00:00:02.000\n",
    b"{",
    b"}",
    b"\xff",
)
ODD: list[Any] = [None, [], {}, "", " ", 3, -1, True, "PT", "1e999", 1e308, 10**400, "12:60:99", ["a"], {"text": 3}, [None], [[]]]


def damaged(value: Any, random: Random) -> Any:
    """JSON with parts that are missing, or of another type."""
    if isinstance(value, dict) and random.random() > 0.15:
        return {key: damaged(one, random) for key, one in value.items() if random.random() > 0.08}
    if isinstance(value, list) and random.random() > 0.1:
        return [damaged(one, random) for one in value]
    return random.choice(ODD) if random.random() < 0.15 or isinstance(value, dict | list) else value


@settings(max_examples=150, deadline=None)
@given(st.randoms(use_true_random=True), st.sampled_from([*READ, *REFUSED]))
def test_damaged_files_are_read_or_refused(random: Random, file: str) -> None:
    """Without the net that turns errors of libraries into refusals."""
    content = (CASES / file).read_bytes()
    if file.endswith(".json") and random.random() < 0.9:
        content = json.dumps(damaged(json.loads(content), random)).encode()
    else:
        place, other = random.randrange(len(content)), random.randrange(len(content))
        middle = random.choice((b"", random.choice(DAMAGE), content[other : other + 40]))
        content = content[:place] + middle + content[place + random.choice((0, 0, 1, 30)) :]
    try:
        with noting():
            corpus = _parse(content, Path("talk").with_suffix(Path(file).suffix), "talk")
    except CorpusError as error:
        assert "\n" not in str(error)
        return
    assert corpus.utterances > 0
