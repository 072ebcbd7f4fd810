"""Excel workbooks are tables like any other."""

from __future__ import annotations

import datetime
import zipfile
from pathlib import Path
from typing import Any

import pytest

from erc_graph.data.files.load import load_corpus
from erc_graph.data.files.transcripts import load_transcript
from erc_graph.errors import CorpusError

openpyxl = pytest.importorskip("openpyxl")
ROWS = [["Conv_ID", "Sender", None, "Message", "Emotion"], ["d1", "Ann", None, "Hi", "Joy"], ["d1", "Bob", None, 42, "joy"], [None] * 5]


def book(path: Path, **sheets: list[list[Any]]) -> Path:
    made = openpyxl.Workbook()
    made.remove(made.active)
    for title, rows in sheets.items():
        sheet = made.create_sheet(title)
        for row in rows:
            sheet.append(row)
    made.save(path)
    return path


def test_a_sheet_with_names_of_the_vocabulary_and_empty_cells(tmp_path: Path) -> None:
    corpus = load_corpus(book(tmp_path / "talk.xlsx", Empty=[], Talk=[[], *ROWS]))
    assert corpus.dialogue_ids == ("d1",) and corpus.speakers == ("Ann", "Bob") and corpus.texts == ("Hi", "42")
    assert corpus.task.labels == ("joy",) and corpus.utterance_ids == ("d1_0", "d1_1")


def test_the_first_of_several_sheets_is_read_with_a_note(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    load_corpus(book(tmp_path / "talk.xlsx", One=ROWS, Two=ROWS))
    assert any("of 2 sheets with rows, only the first, 'One', is read" in line for line in caplog.messages)


def test_numbers_and_times_as_excel_keeps_them(tmp_path: Path) -> None:
    rows = [["dialogue", "turn", "text", "label", "start"], [7.0, 1.0, "a", 0.0, datetime.time(0, 1, 2)], [7.0, 0.0, "b", -1.0, None]]
    corpus = load_corpus(book(tmp_path / "talk.xlsx", One=rows))
    assert corpus.dialogue_ids == ("7",) and corpus.texts == ("b", "a") and corpus.task.labels == ("0",)
    assert corpus.target.tolist() == [-1, 0] and corpus.annotations["start"] == (None, 62.0)


def test_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CorpusError, match="an Excel workbook without rows"):
        load_corpus(book(tmp_path / "empty.xlsx", One=[["text"]]))
    with zipfile.ZipFile(tmp_path / "big.xlsx", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/workbook.xml", b" " * (20 << 20))
    with pytest.raises(CorpusError, match="an Excel workbook of 20 MiB after unpacking, which is too large; save the sheet as CSV"):
        load_corpus(tmp_path / "big.xlsx")
    path = book(tmp_path / "talk.xlsx", One=ROWS)
    monkeypatch.setitem(__import__("sys").modules, "openpyxl", None)
    with pytest.raises(CorpusError, match=r'an Excel workbook; to read it, pip install "erc_graph\[transcripts\]", or save it as CSV'):
        load_corpus(path)


def test_a_title_above_the_header_is_named(tmp_path: Path) -> None:
    path = book(tmp_path / "talk.xlsx", One=[[], ["Call report"], [], ["Speaker", "Text"], ["Ann", "Hi"]])
    for read in (load_corpus, load_transcript):
        with pytest.raises(CorpusError, match=r"sheet 'One': row 2 should have the names .*, but has only 'Call report'"):
            read(path)
    assert load_transcript(book(tmp_path / "one.xlsx", One=[["text"], ["Hi"]])).texts == ("Hi",)


@pytest.mark.parametrize(
    "rows",
    [
        '<row r="2000000000"><c r="A2000000000" t="inlineStr"><is><t>b</t></is></c></row>',
        '<row><c r="ZZZ1"/></row>' * 1000,
        '<row><c r="ZZZ1"><v>1</v></c></row>' + '<row><c r="A1"><v>1</v></c></row>' * 1000,
    ],
    ids=["far down", "far out", "wide"],
)
def test_empty_cells_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: str) -> None:
    """A row number far down makes all rows before it, and a column far out all cells; what they take follows from the size."""
    monkeypatch.setattr("erc_graph.data.files.budget.FLOOR", 384 * 100_000)
    monkeypatch.setattr("erc_graph.data.files.budget._limit", lambda most: None)  # so small a floor would be refused as memory
    with zipfile.ZipFile(book(tmp_path / "plain.xlsx", One=ROWS)) as plain, zipfile.ZipFile(tmp_path / "far.xlsx", "w", 8) as far:
        for name in plain.namelist():
            content = plain.read(name)
            far.writestr(name, content.replace(b"</sheetData>", rows.encode() + b"</sheetData>") if b"sheetData>" in content else content)
    with pytest.raises(CorpusError, match=r"far\.xlsx: needs far more cells than its size allows.* ERC_GRAPH_READING=8G to allow more$"):
        load_corpus(tmp_path / "far.xlsx")


def test_the_last_row_of_a_sheet_may_be_used(tmp_path: Path) -> None:
    made = openpyxl.Workbook()
    for row in ROWS:
        made.active.append(row)
    made.active.cell(1_048_576, 4, "Bye")
    made.active.cell(1_048_576, 1, "d1")
    made.save(tmp_path / "talk.xlsx")
    assert load_corpus(tmp_path / "talk.xlsx").texts == ("Hi", "42", "Bye")
