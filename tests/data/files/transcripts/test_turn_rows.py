"""Tables and JSON of one's own: any spelling of the columns, any separator, times and turns in any order."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from erc_graph.data.corpus import Corpus
from erc_graph.data.files.load import load_corpus
from erc_graph.data.files.transcripts import load_transcript
from erc_graph.errors import CorpusError

TWO = [("Ann", "Hi, there"), ("Bob", 'I "lost" my keys')]


def read(value: Any, name: str = "talk") -> Corpus:
    return load_transcript((value if isinstance(value, str) else json.dumps(value)).encode(), name=name)


def said(corpus: Corpus) -> list[tuple[str, str]]:
    return list(zip(corpus.speakers, corpus.texts, strict=True))


def notes(corpus: Corpus) -> str:
    return "; ".join(corpus.provenance["notes"][2:])


def table(heads: list[str], rows: list[tuple[Any, ...]] | list[list[Any]], separator: str = ",") -> str:
    file = io.StringIO()
    csv.writer(file, delimiter=separator, lineterminator="\n").writerows([heads, *rows])
    return file.getvalue()


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize(
    "heads",
    [
        ["speaker", "text"],
        ["Speaker", "Utterance"],
        ["sender", "message"],
        ["sender_name", "content"],
        ["participant", "text"],
        ["participantId", "body"],
        ["author", "sentence"],
        ["role", "content"],
        ["speaker_idx", "transcript"],
        ["user", "msg"],
        ["name", "text"],
    ],
)
def test_spellings_and_separators(heads: list[str], separator: str) -> None:
    talk = read(table(heads, TWO, separator))
    assert said(talk) == TWO and "no dialogues are named, so all 2 utterances are one conversation" in notes(talk)
    assert said(read(table(heads, TWO, separator).replace("\n", "\r\n"))) == TWO
    assert said(read([dict(zip(heads, row, strict=True)) for row in TWO])) == TWO
    assert said(load_transcript(table(heads, TWO, separator).encode("utf-16"))) == TWO


@pytest.mark.parametrize("name", ["dialogue", "conversation_id", "conv_id", "Scene_ID", "dialogue_id"])
def test_dialogues_and_turns(name: str) -> None:
    rows = [("b", 2, "Ann", "x"), ("a", 1, "Bob", "y"), ("b", 1, "Bob", "z")]
    talk = read(table([name, "turn", "speaker", "text"], rows))
    assert talk.dialogue_ids == ("b", "a") and talk.texts == ("z", "x", "y") and talk.utterance_ids == ("talk_2", "talk_0", "talk_1")
    assert notes(talk) == ""


def test_what_is_assumed_is_said() -> None:
    talk = read(table(["text", "mood"], [("Hi", "x"), ("Oh", "y")]))
    assert "no speakers are named (CSV; columns: text, mood), so all utterances belong to one speaker" in notes(talk)
    assert "columns not used for labels: mood" in notes(talk)
    talk = read(table(["speaker", "text"], [("Ann", "Hi"), ("", "Oh")]))
    assert talk.speakers == (
        "Ann",
        "speaker",
    ) and "1 utterance has no speaker and belongs to a further speaker, 'speaker'" in notes(talk)
    talk = read([{"turn": "1a", "speaker": "A", "text": "x"}, {"turn": "1b", "speaker": "B", "text": "y"}])
    assert talk.texts == ("x", "y") and "turn such as '1a' is not an integer, so utterances stay in the order of the file" in notes(talk)
    talk = read([{"dialogue": "a", "speaker": "A", "text": "x"}, {"speaker": "B", "text": "y"}])
    assert talk.dialogue_ids == ("a", "talk") and "1 utterance without a dialogue name" in notes(talk)


def test_an_empty_turn_number_concerns_its_dialogue_alone() -> None:
    rows = [(1, 1, "A", "second"), (1, 0, "B", "first"), (2, 9, "A", "x"), (2, "", "B", "y")]
    talk = read(table(["dialogue", "turn", "speaker", "text"], rows))
    assert talk.texts == ("first", "second", "x", "y")
    assert "turn: the numbers of 1 dialogue in which an utterance has no number (first: row 3) are not used" in notes(talk)


def test_times() -> None:
    talk = read(table(["speaker", "text", "start", "end"], [("A", "x", "1.5", "2"), ("B", "y", "0:00:03.25", "1:02")]))
    assert talk.annotations["start"] == (1.5, 3.25) and talk.annotations["end"] == (2.0, 62.0)
    talk = read(table(["speaker", "text", "date"], [("A", "x", "5 May"), ("B", "y", "6 May")]))
    assert talk.annotations["time"] == ("5 May", "6 May")
    talk = read([{"sender": "A", "text": "x", "ts": 1683301691}, {"sender": "B", "text": "y", "ts": 1683301692000}])
    assert talk.annotations["time"] == ("2023-05-05T15:48:11", "2023-05-05T15:48:12")


@pytest.mark.parametrize(
    "times", [[3, 2, 1], ["2023-05-07T10:00:00", "2023-05-06T10:00:00", "2023-05-05"], [1683301693, 1683301692, 1683301691]]
)
def test_the_newest_first_is_turned_round(times: list[Any]) -> None:
    talk = read([{"speaker": "A", "text": str(i), "time": when} for i, when in enumerate(times)])
    assert talk.texts == ("2", "1", "0") and "the newest utterance is first, so utterances are sorted by time" in notes(talk)
    mixed = read([{"speaker": "A", "text": str(i), "time": when} for i, when in enumerate([times[1], times[0], times[2]])])
    assert mixed.texts == ("0", "1", "2") and "times are not in order, so utterances stay in the order of the file" in notes(mixed)
    numbered = read([{"speaker": "A", "text": str(i), "turn": i, "time": when} for i, when in enumerate(times)])
    assert numbered.texts == ("0", "1", "2")


def test_a_date_and_a_time_of_day_are_one_time() -> None:
    rows = [(1, "2024-01-01", "22:00", "Ann", "question"), (1, "2024-01-02", "09:00", "Bob", "answer")]
    talk = read(table(["Thread", "Date", "Time", "From", "Message"], rows))
    assert talk.texts == ("question", "answer") and talk.annotations["time"] == ("2024-01-01 22:00", "2024-01-02 09:00")
    assert "start" not in talk.annotations and notes(talk) == "Date and Time are read as one time"
    talk = read(table(["Date", "Time", "From", "Message"], [row[1:] for row in rows[::-1]]))
    assert talk.texts == ("question", "answer") and "the newest utterance is first" in notes(talk)


def test_dates_of_other_countries_change_no_order() -> None:
    rows = [("01/02/2024", "10:00", "A", "one"), ("01/02/2024", "09:00", "B", "two")]
    talk = read(table(["date", "time", "from", "message"], rows))
    assert talk.texts == ("one", "two") and "date and time are read as one time; sort utterances yourself" in notes(talk)


def test_times_of_day_alone_turn_nothing_round() -> None:
    rows = [("23:59:50", "A", "one"), ("23:59:30", "B", "two"), ("00:00:05", "A", "three")]
    talk = read(table(["time", "speaker", "text"], rows))
    assert talk.texts == ("one", "two", "three") and talk.annotations["time"] == ("23:59:50", "23:59:30", "00:00:05")
    assert "time such as '23:59:30' decreases, so times are times of day" in notes(talk)
    talk = read(table(["start", "end", "speaker", "text"], [("3", "4", "A", "one"), ("2", "5", "B", "two")]))
    assert talk.texts == ("one", "two") and "times are not in order" in notes(talk)


def test_offsets_from_universal_time_count() -> None:
    rows = [("2023-10-29T02:50:00+02:00", "A", "first"), ("2023-10-29T02:10:00+01:00", "B", "second")]
    talk = read(table(["timestamp", "speaker", "text"], rows))
    assert talk.texts == ("first", "second") and notes(talk).count("order") == 0
    mixed = [("2023-10-29T02:50:00+02:00", "A", "first"), ("2023-10-29T02:40:00", "B", "second")]
    assert read(table(["timestamp", "speaker", "text"], mixed)).texts == ("first", "second")


def test_tickets_are_dialogues() -> None:
    rows = [(7, "2024-01-02 10:00:05", "Bob", "second"), (7, "2024-01-02 10:00:01", "Ann", "first"), (8, "2024-01-02 10:00:01", "Ann", "x")]
    for name in ("ticket", "ticket_id", "case_id"):
        talk = read(table([name, "timestamp", "from", "message"], rows))
        assert talk.dialogue_ids == ("7", "8") and talk.texts == ("first", "second", "x")


def test_whispers_table_has_milliseconds(tmp_path: Path) -> None:
    (tmp_path / "talk.tsv").write_text("start\tend\ttext\n0\t2000\tHello\n2500\t4000\tYes\n")
    talk = load_transcript(tmp_path / "talk.tsv")
    assert talk.annotations["end"] == (2.0, 4.0) and "times are read as milliseconds" in notes(talk)
    corpus = load_corpus(tmp_path / "talk.tsv")
    assert corpus.annotations["end"] == (2.0, 4.0) and "times are read as milliseconds" in "; ".join(corpus.provenance["notes"])


@pytest.mark.parametrize("texts", [['"Hello.', "How?", 'Bye"'], ['"Hello," she said.', "ok"], ['"Hello"', "yes"]])
def test_whispers_table_has_quotes_that_enclose_nothing(texts: list[str], tmp_path: Path) -> None:
    rows = [f"{i}000\t{i + 1}000\t{text}\n" for i, text in enumerate(texts)]
    (tmp_path / "talk.tsv").write_text("start\tend\ttext\n" + "".join(rows))
    talk = load_transcript(tmp_path / "talk.tsv")
    assert list(talk.texts) == texts and "quotes are read as part of the text" in notes(talk)
    assert list(load_corpus(tmp_path / "talk.tsv").texts) == texts


def test_quotes_that_enclose_a_field_are_no_part_of_it() -> None:
    assert said(read('speaker\ttext\nAnn\t"Hi\nthere"\nBob\t"a ""b"" c"\n')) == [("Ann", "Hi\nthere"), ("Bob", 'a "b" c')]


def test_speakers_that_are_objects() -> None:
    assert said(read([{"author": {"name": "Ann", "id": 1}, "text": "x"}, {"author": {"displayName": "Bob"}, "text": "y"}])) == [
        ("Ann", "x"),
        ("Bob", "y"),
    ]


def test_a_table_behind_its_separator_and_two_columns_without_a_head(tmp_path: Path) -> None:
    assert said(read("sep=;\nspeaker;text\nAnn;Hi\nBob;Oh\n")) == [("Ann", "Hi"), ("Bob", "Oh")]
    assert said(read("Ann\tHi there\nBob\tOh\n")) == [("Ann", "Hi there"), ("Bob", "Oh")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.csv",
            "Ann,Hi\nBob,Oh\n",
            r"the first line names no column for the text \(found Ann, Hi\); insert a header such as `speaker,text`",
        ),
        ("a.csv", "speaker,mood\nBob,Oh\n", r"the text \(found speaker, mood\); rename the column of the text to `text`"),
        (
            "a.csv",
            "Ticket No.;Who;When;What was said;CSAT\n1;Bob;10:00;Oh;3\n",
            r"When, What was said, CSAT\); rename the column of the text to `text` \(of speakers to `speaker`, of conversations to "
            r"`dialogue`\), or insert a header such as `speaker,text`",
        ),
        ("a.csv", "Bestellung;Kunde;Gesagt\n1;Bob;Oh\n", r"Gesagt\); rename the column of the text to `text`"),
        ("a.json", '[{"speaker": "A", "mood": "x"}]', "no `text` and no `features` in 1 rows; found speaker, mood"),
        ("a.json", '{"data": [{"paragraphs": []}]}', "no `text` and no `features` .* found paragraphs"),
    ],
)
def test_columns_that_are_missing(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(CorpusError, match=message):
        load_transcript(tmp_path / name)


NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=6)
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1, max_size=20).filter(lambda text: text.strip())


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(NAMES, TEXTS), min_size=1, max_size=6), st.sampled_from(["csv", "json", "jsonl", "turns"]))
def test_what_we_write_is_read_back(turns: list[tuple[str, str]], form: str) -> None:
    rows = [{"speaker": who, "text": text, "start": float(i)} for i, (who, text) in enumerate(turns)]
    content = {
        "csv": table(["speaker", "text", "start"], [list(row.values()) for row in rows]),
        "json": json.dumps(rows),
        "jsonl": "\n".join(map(json.dumps, rows)),
        "turns": json.dumps({"turns": rows}),
    }[form]
    talk = read(content)
    assert said(talk) == turns and talk.annotations["start"] == tuple(map(float, range(len(turns))))


def test_turns_somewhere_inside_are_found_and_said() -> None:
    rows = [{"speaker_name": who, "sentence": text, "startTime": "00:01"} for who, text in TWO]
    for value in (
        {"sentences": rows},
        {"data": {"transcript": {"sentences": rows}}},
        {"title": "x", "meeting": {"words": rows[:1], "parts": rows}},
    ):
        talk = read(value)
        assert said(talk) == TWO and "JSON of an unknown program; the utterances are read from" in notes(talk)
    with pytest.raises(CorpusError, match="no `text` and no `features`"):
        read({"words": [{"text": "Hello", "start": 0.0}]})


@pytest.mark.parametrize(
    ("value", "ids"),
    [
        ({"dialogues": {"x": "R", "y": "R"}}, ("x", "y")),
        ({"export": {"chatA": "R", "chatB": "R", "made": "now"}}, ("chatA", "chatB")),
        ({"conversations": {"c1": {"messages": "R"}, "c2": {"messages": "R"}}}, ("c1", "c2")),
    ],
)
def test_dialogues_deeper_are_all_read(value: Any, ids: tuple[str, ...]) -> None:
    rows = json.dumps([{"speaker": who, "text": text} for who, text in TWO])
    talk = read(json.dumps(value).replace('"R"', rows))
    assert talk.dialogue_ids == ids and talk.texts == (*[text for _, text in TWO],) * 2
    assert f"{ids[0]} and 1 further list are read as dialogues" in notes(talk)


def test_one_dialogue_in_several_forms_is_read_once() -> None:
    rows = [{"speaker": who, "text": text} for who, text in TWO]
    talk = read({"call": {"sentences": rows, "paragraphs": rows[:1]}})
    assert said(
        talk
    ) == TWO and "the utterances are read from call.sentences; lists of utterances that are not read: call.paragraphs" in notes(talk)


def test_dialogues_under_their_names() -> None:
    rows = [{"turn": i + 1, "speaker": who, "utterance": text} for i, (who, text) in enumerate(TWO)]
    assert read({"a": rows, "b": rows}).dialogue_ids == read({"a": [rows], "b": [rows]}).dialogue_ids == ("a", "b")
    assert read({"a": [rows, rows]}).dialogue_ids == ("a_0", "a_1")
