"""Tables keep their shape whatever stands in the cells."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from erc_graph.report.text_tables import markdown_table, mean_std, text_table


def test_mean_std() -> None:
    assert mean_std([0.648, 0.651, 0.655]) == "0.651 ± 0.004"
    assert mean_std([1.0, 3.0], digits=1) == "2.0 ± 1.4"
    assert mean_std([0.5]) == "0.500"
    assert mean_std([]) == "–"


def test_markdown_aligns_numbers_and_escapes() -> None:
    table = markdown_table(["method", "wF1", "note"], [["a|b", "0.651 ± 0.004", "<b>"], ["two\nlines", None, "x"], ["short"]])
    assert table.splitlines() == [
        "| method | wF1 | note |",
        "| --- | ---: | --- |",
        "| a\\|b | 0.651 ± 0.004 | &lt;b> |",
        "| two lines | – | x |",
        "| short |  |  |",
    ]


def test_text_table_aligns_columns() -> None:
    table = text_table(["method", "wF1", "seconds"], [["BiGRU", "0.625", 3], ["pairwise, all", "0.67 ± 0.01", 12.5]])
    assert table.splitlines() == [
        "method                 wF1  seconds",
        "-------------  -----------  -------",
        "BiGRU                0.625        3",
        "pairwise, all  0.67 ± 0.01     12.5",
    ]


def test_words_are_wrapped_to_the_terminal_and_numbers_are_not() -> None:
    words = "a long description of what is switched off in this row of the table of the paper and why"
    lines = text_table(["row", "changes", "wF1"], [["1", words, "0.651 ± 0.004"]]).splitlines()
    assert max(map(len, lines)) <= 80 and len(lines) == 4
    assert lines[2].endswith("0.651 ± 0.004")
    assert " ".join(line[3:62].strip() for line in lines[2:]) == words


def test_table_without_rows() -> None:
    assert text_table(["a", "bc"], []) == "a  bc\n-  --"
    assert markdown_table(["a"], []) == "| a |\n| --- |"


def columns(text: str) -> int:
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


@given(st.lists(st.lists(st.text(max_size=30), min_size=2, max_size=2), min_size=1, max_size=4))
def test_any_text_stays_in_its_cell(rows: list[list[str]]) -> None:
    text = text_table(["one", "two"], rows, width=40)
    assert all(columns(line) <= 40 for line in text.split("\n"))
    assert not any(unicodedata.category(c)[0] == "C" for c in text.replace("\n", ""))
    for line in markdown_table(["one", "two"], rows).split("\n"):
        assert line.replace("\\\\", "").replace("\\|", "").count("|") == 3
