"""Tables of utterances: CSV, JSON lines, JSON, Parquet, and MELD's own columns."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from erc_graph.data.files.assembly import assemble
from erc_graph.data.files.export import write_turns
from erc_graph.data.files.formats import merge_annotations, read_annotations
from erc_graph.data.files.load import load_corpus
from erc_graph.data.files.media import split_of_name
from erc_graph.data.files.notes import noting
from erc_graph.errors import CorpusError

HEADER = "dialogue,turn,speaker,text,utterance,label,sentiment,split\n"
ROWS = (
    HEADER
    + 'b,1,Ann,"Well, yes.",b-1,joy,1.5,train\n'
    + "a,0,Bob,No.,a-0,,,test\n"
    + "b,0,Bob,Hello?,b-0,anger,-2,train\n"
    + "a,10,Ann,Oh!,a-10,joy,0,test\n"
    + "a,2,Bob,So,a-2,joy,0.5,test\n"
)
MELD_HEADER = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime\n"


def write(tmp_path: Path, content: str | bytes, name: str = "table.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def check(path: Path, format: str) -> None:
    read = read_annotations(path)
    assert read.format == f"table of utterances ({format})" and read.dataset is None
    assert read.dialogue_ids == ["b", "a"] and read.lengths == [2, 3]
    assert read.utterance_ids == ["b-0", "b-1", "a-0", "a-2", "a-10"]  # turns are numbers: 10 comes after 2
    assert read.speakers == ["Bob", "Ann", "Bob", "Bob", "Ann"]
    assert read.texts == ["Hello?", "Well, yes.", "No.", "So", "Oh!"]
    assert read.columns == {"label": ["anger", "joy", None, "joy", "joy"], "score": [-2.0, 1.5, None, 0.5, 0.0]}
    assert read.splits == {"train": ["b"], "test": ["a"]}


def records() -> list[dict[str, object]]:
    import csv

    rows: list[dict[str, object]] = [dict(row) for row in csv.DictReader(ROWS.splitlines())]
    for row in rows:
        row["turn"] = int(str(row["turn"]))
        row["sentiment"] = float(str(row["sentiment"])) if row["sentiment"] else None
        row["label"] = row["label"] or None
    return rows


def test_csv_with_every_separator_and_mark(tmp_path: Path) -> None:
    check(write(tmp_path, ROWS), "CSV")
    check(write(tmp_path, b"\xef\xbb\xbf" + ROWS.replace("\n", "\r\n").encode()), "CSV")
    semicolons = ROWS.replace('"Well, yes."', "Well@ yes.").replace(",", ";").replace("@", ",")
    check(write(tmp_path, semicolons), "CSV")
    check(write(tmp_path, semicolons.replace(";", "\t")), "CSV")
    check(write(tmp_path, ROWS, "renamed.pkl"), "CSV")  # the name says nothing


def test_json_lines_and_json(tmp_path: Path) -> None:
    check(write(tmp_path, "\n".join(json.dumps(row) for row in records()) + "\n"), "JSON")
    check(write(tmp_path, json.dumps(records(), indent=1)), "JSON")


def test_parquet(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    path = tmp_path / "table.bin"
    pyarrow.parquet.write_table(pa.Table.from_pylist(records()), path)
    check(path, "Parquet")
    write(tmp_path, path.read_bytes()[:200], "cut")
    with pytest.raises(CorpusError, match="truncated or corrupt Parquet"):
        read_annotations(tmp_path / "cut")


def test_minimal_table_gets_ids_and_a_data_set_from_the_caller(tmp_path: Path) -> None:
    path = write(tmp_path, "Dialogue,Turn,Speaker,Text,label\nx,3,,hi,positive\nx,4,A,ho,negative\n")
    read = read_annotations(path, dataset="mosi")
    assert read.utterance_ids == ["x_3", "x_4"] and read.speakers == ["speaker", "A"]
    assert read.dataset == "mosi" and read.labels == [] and read.splits == {} and read.columns == {"label": ["positive", "negative"]}


def test_sentiment_names(tmp_path: Path) -> None:
    read = read_annotations(write(tmp_path, "dialogue,turn,speaker,text,sentiment\nx,0,A,hi,positive\nx,1,A,ho,\n"))
    assert read.columns == {"sentiment": ["positive", None]}


def test_a_text_of_any_length_is_read(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    read = read_annotations(write(tmp_path, f"dialogue,turn,speaker,text\nx,0,A,{'a' * 200_000}\n"))
    assert len(read.texts[0]) == 200_000 and csv.field_size_limit() == before


def test_windows_1252_is_read_and_said(tmp_path: Path) -> None:
    with noting() as notes:
        read = read_annotations(write(tmp_path, b"dialogue,turn,speaker,text\nx,0,A,it\x92s\n"))
    assert read.texts == ["it’s"] and notes == ["table.csv: the text is not UTF-8; it is read as Windows-1252; check the letters"]


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("dialogue,turn,speaker\nx,0,A\n", "CSV without a column for the text; .* found the columns dialogue, turn, speaker"),
        (HEADER, "no rows"),
        (HEADER + "x,0,A\n", "line 2: 3 fields, but the header has 8"),
        ("dialogue,turn,speaker,text\nx,0,A,hi, there\n", "line 2: 5 fields, but the header has 4"),
        ("dialogue,dialogue\nx,y\n", "column name is used twice"),
        (HEADER + 'x,0,A,"open\n', "not a valid CSV"),
        (HEADER + ",0,A,hi,,,,\n", "empty `dialogue`"),
        (HEADER + "x,one,A,hi,,,,\n", "line 2: turn 'one' is not an integer"),
        (HEADER + "x,inf,A,hi,,,,\n", "not an integer"),
        (
            HEADER + "x,0,A,hi,,,,\nx,0.0,B,ho,,,,\n",
            r"line 3: turn 0 of dialogue 'x' occurs twice \(first in line 2\); give each utterance its own number",
        ),
        (HEADER + "x,0,A,hi,u,,,\ny,0,B,ho,u,,,\n", r"line 3: duplicate utterance id 'u' \(first in line 2\)"),
        (HEADER + "x,0,A,hi,,,,train\nx,1,B,ho,,,,test\n", "line 3: dialogue 'x' is in two splits"),
        (HEADER + "x,0,A,hi,,,,train\nx,1,B,ho,,,,\n", r"two splits \(train, none\)"),
        (HEADER + "x,0,A,hi,,,,holdout\n", "split 'holdout' is not one of train, dev, test"),
        (HEADER + "x,0,A,hi,,,1.5,\nx,1,B,ho,,,good,\n", "line 3: sentiment 'good' is not a finite number"),
        (HEADER + "x,0,A,hi,,,inf,\n", "'inf' is not a finite number"),
        (b"dialogue,turn,speaker,text\nx,0,A,\x81\n", "its encoding cannot be determined"),
        (b"dialogue\x00,turn\n", "binary content"),
        (b"\x07\x81\xfe\x1f random", "binary content of no known format"),
        (b"\x13\xe9, no NUL", "binary content of no known format"),
        ('{"dialogue": "x", "turn": 0}\n{"dialogue"\n', "line 2: not valid JSON"),
        ('{"text": "x", "turn": {"a": 1}}\n', "row 1: turn: expected text or a number, found a dict"),
        ('{"dialogue": "x", "turn": 0, "speaker": "A"}\n', "none of the known formats"),
        ('[{"text": ["x"], "turn": 1}]', "row 1: text: expected text or a number, found a list"),
        ('[{"dialogue": "x", "turn": 1}]', "JSON without a column for the text"),
        ("{}", "none of the known formats"),
        ("", "is empty"),
        ("  \n", "is empty"),
    ],
)
def test_tables_that_cannot_be_used(content: str | bytes, match: str, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=match):
        read_annotations(write(tmp_path, content))


def meld(*rows: str) -> str:
    return MELD_HEADER + "".join(f"1,{row},8,21,0,1\n" for row in rows)


def test_meld_official_csvs(tmp_path: Path) -> None:
    train = write(
        tmp_path, meld("B,Ross,joy,positive,4,2", "A,Joey,neutral,neutral,4,0", "C,Ross,anger,negative,0,0"), "train_sent_emo.csv"
    )
    dev = write(tmp_path, meld("D,Ross,Fear,negative,4,0"), "dev_sent_emo.csv")
    read = merge_annotations([read_annotations(train), read_annotations(dev)])
    assert read.format == "MELD's official CSV" and read.dataset == "meld"
    assert read.dialogue_ids == ["train_dia4", "train_dia0", "dev_dia4"] and read.lengths == [2, 1, 1]
    assert read.utterance_ids == ["train_dia4_utt0", "train_dia4_utt2", "train_dia0_utt0", "dev_dia4_utt0"]
    assert read.texts == ["A", "B", "C", "D"] and read.speakers == ["Joey", "Ross", "Ross", "Ross"]
    assert read.columns == {
        "label": ["neutral", "joy", "anger", "fear"],
        "sentiment": ["neutral", "positive", "negative", "negative"],
        "start": [0.0] * 4,
        "end": [1.0] * 4,
    }
    assert read.splits == {"train": ["train_dia4", "train_dia0"], "dev": ["dev_dia4"]} and read.labels == []


def test_meld_csvs_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="split is taken from the file name"):
        read_annotations(write(tmp_path, meld("A,Ross,joy,positive,0,0"), "sent_emo.csv"))
    with pytest.raises(CorpusError, match="line 2: emotion 'bored' is not one of"):
        read_annotations(write(tmp_path, meld("A,Ross,bored,positive,0,0"), "train_sent_emo.csv"))
    with pytest.raises(CorpusError, match="line 2: sentiment 'mixed' is not one of"):
        read_annotations(write(tmp_path, meld("A,Ross,joy,mixed,0,0"), "train_sent_emo.csv"))


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train_sent_emo.csv", "train"),
        ("MELD.val.csv", "dev"),
        ("test_data_roberta.json.feature", "test"),
        ("train_test.csv", None),
        ("attest.csv", None),
    ],
)
def test_split_of_a_name(name: str, split: str | None) -> None:
    assert split_of_name(Path(name)) == split


@pytest.mark.parametrize(
    ("header", "rows"),
    [
        ("conv_id,turn_id,sender,message,emotion", ["c,1,Ann,Hi,joy", "c,0,Bob,Ho,anger"]),
        ("Emotion;Text;Speaker_Name;Turn;Conversation_ID", ["joy;Hi;Ann;1;c", "anger;Ho;Bob;0;c"]),
        ("participantId\tutterance\tdialogue_id\tutterance_id\tlabel", ["Ann\tHi\tc\t1\tjoy", "Bob\tHo\tc\t0\tanger"]),
        ("author|content|thread|position|Label", ["Ann|Hi|c|1|joy", "Bob|Ho|c|0|anger"]),
        ("\ufeffROLE,BODY,CALL ID,TURN NO,EMO", ["Ann,Hi,c,1,joy", "Bob,Ho,c,0,anger"]),
    ],
)
def test_columns_in_many_spellings_and_orders(tmp_path: Path, header: str, rows: list[str]) -> None:
    read = read_annotations(write(tmp_path, "\n".join([header, *rows])))
    assert read.dialogue_ids == ["c"] and read.utterance_ids == ["c_0", "c_1"]
    assert (read.speakers, read.texts, read.columns["label"]) == (["Bob", "Ann"], ["Ho", "Hi"], ["anger", "joy"])


@pytest.mark.parametrize(
    ("content", "said", "ids"),
    [
        ("text\nHi\nHo\n", ["dialogue: one conversation", "speaker: one speaker", "turn: utterances are numbered"], ["table_0", "table_1"]),
        ("speaker,text,mood\nA,Hi,x\nB,Ho,y\n", ["dialogue", "turn", "columns that are not read: mood"], ["table_0", "table_1"]),
        ("dialogue,speaker,text\na,A,Hi\nb,B,Ho\nb,B,So\n", ["no column for the turn"], ["a_0", "b_0", "b_1"]),
        ("dialogue,utterance_id,speaker,text\na,a-7,A,Hi\na,a-8,A,Ho\n", ["no column for the turn"], ["a-7", "a-8"]),
        ("文本\n你好\n", None, []),
    ],
)
def test_what_is_assumed_is_said(tmp_path: Path, content: str, said: list[str] | None, ids: list[str]) -> None:
    path = write(tmp_path, content)
    if said is None:
        with pytest.raises(CorpusError, match=r"without a column for the text; .* found the columns 文本"):
            read_annotations(path)
        return
    with noting() as notes:
        assert read_annotations(path).utterance_ids == ids
    assert len(notes) == len(said) and all(words in note for words, note in zip(said, notes, strict=True))


def test_a_split_in_the_name_and_files_that_number_alike(tmp_path: Path) -> None:
    parts = []
    for name in ("train", "dev", "test"):
        parts.append(read_annotations(write(tmp_path, f"dialogue,turn,speaker,text\n0,0,A,{name}\n", f"{name}.csv")))
    merged = merge_annotations(parts)
    assert merged.dialogue_ids == ["train_0", "dev_0", "test_0"] and merged.utterance_ids == ["train_0_0", "dev_0_0", "test_0_0"]
    assert merged.splits == {"train": ["train_0"], "dev": ["dev_0"], "test": ["test_0"]}


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (["0.5", "00:01:02,5"], [0.5, 62.5]),
        (["", "3"], [None, 3.0]),
        (["soon", "3"], [None, 3.0]),
        (["soon", "later"], None),
    ],
)
def test_times(tmp_path: Path, times: list[str], expected: list[float | None] | None) -> None:
    rows = "".join(f'd,{i},A,Hi,"{time}"\n' for i, time in enumerate(times))
    assert read_annotations(write(tmp_path, f"dialogue,turn,speaker,text,Start Time\n{rows}")).columns.get("start") == expected


def test_a_column_called_set_of_something_else_is_no_split(tmp_path: Path) -> None:
    with noting() as notes:
        read = read_annotations(write(tmp_path, "dialogue,turn,speaker,text,set\nd,0,A,Hi,red\n"))
    assert not read.splits and notes == ["table.csv: columns that are not read: set"]


def test_labels_with_fractions_are_scores(tmp_path: Path) -> None:
    with noting() as notes:
        read = read_annotations(write(tmp_path, "dialogue,turn,speaker,text,label\nd,0,A,Hi,1.5\nd,1,A,Hi,\n"))
    assert read.columns == {"score": [1.5, None]} and notes == ["table.csv: labels are numbers with fractions, so they are read as scores"]


def test_what_we_write_is_read_back_to_the_same(tmp_path: Path) -> None:
    read = read_annotations(
        write(tmp_path, ROWS.replace("split\n", "split,start\n").replace("train\n", "train,1.5\n").replace("test\n", "test,2\n"))
    )
    corpus = assemble(read)
    for name in ("t.csv", "t.jsonl"):
        again = load_corpus(write_turns(corpus, tmp_path / name))
        assert again.annotations["start"] == corpus.annotations["start"] and again.annotations["score"] == corpus.annotations["score"]
        assert (again.texts, again.speakers, again.utterance_ids, again.splits) == (
            corpus.texts, corpus.speakers, corpus.utterance_ids, corpus.splits,
        )  # fmt: skip
