"""Printed figures: every file is read, every figure stands once, and the ones of a method are found."""

from __future__ import annotations

from pathlib import Path

import pytest

from erc_graph.data.tasks import DEFAULT_TASK
from erc_graph.errors import ConfigError
from erc_graph.experiments.display import print_published
from erc_graph.experiments.published import load_published, parse_published, printed_beside

FILES = sorted((Path(__file__).resolve().parents[2] / "experiments" / "published").glob("*.toml"))
TABLE = {"of": "x", "paper": "A, 2024", "table": "Table 1", "features": "vectors"}


def test_every_file_is_read_and_its_figures_are_from_0_to_1() -> None:
    assert {path.stem for path in FILES} >= {"iemocap4", "iemocap6", "meld", "mosei"}
    rows = 0
    for path in FILES:
        assert path.stem in DEFAULT_TASK
        for table in load_published(path.stem):
            rows += len(table.rows)
            assert all(0.01 < value <= 1 for row in table.rows for value in row.figures.values())
    assert rows >= 61


def test_a_line_is_found_in_every_paper_that_prints_it() -> None:
    found = {(table.of, row.method): row.figures for table in load_published("iemocap6") for row in table.rows}
    assert found["pairwise", "COGMEN"] == {"accuracy": 0.682, "weighted_f1": 0.676}
    assert found["wavfusion", "COGMEN"] == {"accuracy": 0.682, "weighted_f1": 0.6763}


def test_what_is_shown_beside_a_run() -> None:
    (own,) = printed_beside("pairwise", "meld", "meld7")
    assert own.of == "pairwise" and own.rows[-1].figures == {"accuracy": 0.6713, "weighted_f1": 0.6605} and len(own.rows) == 11
    assert [row.name for table in printed_beside("mm_dfn", "meld", "meld7") for row in table.rows] == ["MM-DFN"] * 3
    assert printed_beside("pairwise", "meld", "meld3") == [], "figures of another task say nothing"
    assert printed_beside("mfdr", "iemocap6", "iemocap4")[0].rows[0].name == "IA-MMTF, 5-fold"
    assert printed_beside("pairwise", "own", "own") == []


def test_they_are_shown_in_a_table_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    print_published(printed_beside("hff", "iemocap6", "iemocap6"))
    shown = capsys.readouterr().out
    assert "published, on other features: Xie, Zhou and Zhu" in shown and "epoch chosen on test" in shown
    assert next(line for line in shown.splitlines() if line.startswith("DialogueGCN")).split()[1:] == ["0.652", "0.642", "yes"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"method": "X"}], r"A, 2024, Table 1: X: expected at least one published result \(accuracy, .*found none"),
        ([{"method": "X", "acc": 1.0}], "rows.0.acc"),
        ([{"method": "X", "accuracy": 1.0, "epoch_on_test": "perhaps"}], "epoch_on_test"),
        ([{"method": "X", "accuracy": 1.0}] * 2, "expected every row of a table once, found this row twice"),
        (
            [{"method": "X", "accuracy": 0.65}],
            r"A, 2024, Table 1: X: accuracy: expected a percentage from 1 to 100, as papers print it, found 0.65",
        ),
    ],
)
def test_a_broken_file_is_refused(rows: list[dict], message: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(ConfigError, match=message):
        parse_published({"dataset": "x", "table": [{**TABLE, "rows": rows}]}, "x.toml")
