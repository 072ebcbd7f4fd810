"""Files of labelled utterances in JSON lines, CSV or Parquet. The other columns of the input file follow after the predictions."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, TextIO

from erc_graph.data.files.storage import atomic_write
from erc_graph.inference.answer import Answer, columns_of, times_of

Form = Literal["jsonl", "csv", "parquet"]
Rows = Sequence[tuple[Answer, dict[str, Any]]]
"""Predictions, each with the additional columns of its input row."""


def write_labels(path: Path, form: Form, rows: Rows, labels: Sequence[str]) -> None:
    """Write a file of labelled utterances in one step. Equal predictions give files with equal bytes.

    Raises:
        StorageError: the file cannot be written.
    """
    with atomic_write(path, tidied=True) as temporary:
        if form == "parquet":
            _write_parquet(temporary, rows, labels)
            return
        with temporary.open("w", encoding="utf-8", errors="replace", newline="\n") as file:  # half of a surrogate pair
            if form == "csv":
                write_csv(file, rows, labels)
            else:
                file.writelines(json.dumps(_record(answer, more)) + "\n" for answer, more in rows)


def write_csv(file: TextIO, rows: Rows, labels: Sequence[str]) -> None:
    """Write labelled utterances to a CSV table, with one column of probabilities per emotion."""
    when, marked, more = times_of([answer for answer, _ in rows]), _marked(rows), _more(rows)
    heads = ["dialogue", "turn", *when, "speaker", "text", "emotion", *(["unsure"] if marked else []), *(f"p({label})" for label in labels)]
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*heads, *(_free(name, heads) for name in more)])
    for answer, other in rows:
        chances = (f"{p:.6f}" for p in answer.probabilities.values())
        times = [answer.times.get(name, "") for name in when]
        mark = [str(bool(answer.unsure)).lower()] if marked else []
        own = [answer.dialogue, answer.turn, *times, answer.speaker, answer.text, answer.emotion, *mark, *chances]
        writer.writerow([*own, *(_cell(other.get(name)) for name in more)])


def _marked(rows: Rows) -> bool:
    """Return whether at least one answer in `rows` has a value of `unsure`."""
    return any(answer.unsure is not None for answer, _ in rows)


def _more(rows: Rows) -> list[str]:
    """Return the names of the additional input columns, in the order of their first appearance."""
    return list(dict.fromkeys(name for _, other in rows for name in other))


def _free(name: str, taken: Iterable[str]) -> str:
    """Return the output name of an additional input column; the prefix `given_` is added if an output column already has this name."""
    return f"given_{name}" if name in taken else name


def _record(answer: Answer, more: dict[str, Any]) -> dict[str, Any]:
    ours = {"dialogue": answer.dialogue, **answer.as_dict()}
    return {**ours, **{_free(name, ours): value for name, value in more.items()}}


def _cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list | dict) else value


def _write_parquet(path: Path, rows: Rows, labels: Sequence[str]) -> None:
    import pyarrow  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    columns: dict[str, Any] = {
        name: [value.encode("utf-8", "replace").decode() if isinstance(value, str) else value for value in values]
        for name, values in columns_of([answer for answer, _ in rows], labels).items()
    }
    taken = list(columns)
    for name in _more(rows):
        values = [other.get(name) for _, other in rows]
        try:
            columns[_free(name, taken)] = pyarrow.array(values)
        except (pyarrow.ArrowException, OverflowError):  # of several kinds
            columns[_free(name, taken)] = [None if value is None else str(_cell(value)) for value in values]
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
