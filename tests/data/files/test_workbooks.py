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
    assert any("of 2 sheets with rows the first, 'One', is read" in line for line in caplog.messages)


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
    with pytest.raises(CorpusError, match="an Excel workbook of 20 MiB unpacked; save the sheet as CSV"):
        load_corpus(tmp_path / "big.xlsx")
    path = book(tmp_path / "talk.xlsx", One=ROWS)
    monkeypatch.setitem(__import__("sys").modules, "openpyxl", None)
    with pytest.raises(CorpusError, match=r'an Excel workbook; pip install "erc_graph\[transcripts\]" reads it, or save it as CSV'):
        load_corpus(path)


def test_a_title_above_the_header_is_named(tmp_path: Path) -> None:
    path = book(tmp_path / "talk.xlsx", One=[[], ["Call report"], [], ["Speaker", "Text"], ["Ann", "Hi"]])
    for read in (load_corpus, load_transcript):
        with pytest.raises(CorpusError, match=r"sheet 'One': the names .* are looked for in row 2, which has 'Call report' alone"):
            read(path)
    assert load_transcript(book(tmp_path / "one.xlsx", One=[["text"], ["Hi"]])).texts == ("Hi",)
