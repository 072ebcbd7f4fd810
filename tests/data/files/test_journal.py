"""Journals: what stands in one survives a kill, and what is no record is passed over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from erc_graph.data.files.journal import Journal
from erc_graph.errors import StorageError


def name_of(record: dict[str, Any]) -> str | None:
    name = record.get("name")
    return name if isinstance(name, str) else None


def test_the_last_record_of_a_name_counts(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path, name_of) as journal:
        for value in (1, 2):
            journal.add({"name": "ä", "value": value})
            journal.add({"name": "b", "value": -value})
        assert journal.get("ä") == {"name": "ä", "value": 2} and journal.get("none") is None
    with Journal(path, name_of) as journal:
        assert journal.get("b") == {"name": "b", "value": -2} and journal.place.keys() == {"ä", "b"}


@pytest.mark.parametrize("cut", range(1, 21))
def test_a_kill_in_the_middle_of_a_line_costs_that_line(cut: int, tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    first, last = b'{"name": "a"}\n', b'{"name": "b", "v": 3}'
    path.write_bytes(first + last[:cut])
    with Journal(path, name_of) as journal:
        assert journal.place.keys() == {"a"}
        journal.add({"name": "c"})
    assert path.read_bytes() == first + b'{"name": "c"}\n'


@pytest.mark.parametrize("line", [b"[1]", b"3", b"{half", b"[" * 100_000, b'{"name": 3}', b"\xff\xfe", b""])
def test_a_line_that_is_no_record_is_passed_over(line: bytes, tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'{"name": "a"}\n' + line + b'\n{"name": "b"}\n')
    with Journal(path, name_of) as journal:
        assert journal.place.keys() == {"a", "b"} and journal.get("b") == {"name": "b"}


def test_a_folder_in_its_place_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="could not be written"):
        Journal(tmp_path / "none" / "journal.jsonl", name_of).__enter__()
