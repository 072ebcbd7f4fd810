"""Reading of tables of utterances: CSV, JSON lines, Parquet and Excel workbooks, with known columns in any order and case."""

from __future__ import annotations

import csv
import io
import math
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from erc_graph.data.annotations import TIMES, Annotations
from erc_graph.data.files.clock import WHISPER, are_milliseconds, seconds
from erc_graph.data.files.encoding import decode
from erc_graph.data.files.labels import is_empty, whole
from erc_graph.data.files.media import split_of_name
from erc_graph.data.files.notes import note
from erc_graph.data.files.parquet import open_parquet
from erc_graph.data.files.vocabulary import SPELLINGS, SPLIT_NAMES, find_columns, plain
from erc_graph.errors import CorpusError

NEEDED = ("dialogue", "turn", "speaker", "text")
OPTIONAL = ("utterance", "label", "sentiment", "split", "start", "end")

Row = dict[str, Any]

_LONGEST_FIELD = 2**31 - 1  # what a C long holds everywhere; the text is in memory already
_SEPARATORS = ",;\t|"
_QUOTED = re.compile(r'"(?:[^"]|"")*"')


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of a file: rows with named columns.

    Attributes:
        rows: Rows, each a mapping column → value. All rows of a CSV have the same columns; JSON objects may differ.
        places: Position of each row in the file, such as `line 3`, used in messages.
        format: Format of the file: CSV, JSON, JSON lines, Parquet or Excel.
    """

    rows: list[Row]
    places: list[str]
    format: str

    @property
    def columns(self) -> list[str]:
        """Return the names of all columns, in order of appearance."""
        return list(dict.fromkeys(str(name) for row in self.rows for name in row))


def read_csv(content: bytes | str, path: Path) -> Table:
    """Read a CSV file whose fields are separated by comma, semicolon, tab or vertical bar.

    A first line such as `sep=;`, empty rows and columns without a name are ignored.

    Raises:
        CorpusError: the file is not text, has no rows, or a row and the header differ in the number of fields.
    """
    text = content if isinstance(content, str) else decode(content, path)
    skipped = 0
    if found := re.match(r"\ufeff?sep=(.)\s*?(?:\r\n?|\n)", text, re.IGNORECASE):
        text, separator, skipped = text[found.end() :], found[1], 1
    else:
        header = re.split(r"[\r\n]", text.lstrip("\r\n"), maxsplit=1)[0]
        separator = max(_SEPARATORS, key=re.sub(r'"[^"]*"', "", header).count)
    bare = separator == "\t" and _has_bare_quotes(text)
    if bare:
        note("quotes are read as part of the text; every line of the table is one row")
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=separator, strict=True, quoting=csv.QUOTE_NONE if bare else csv.QUOTE_MINIMAL
    )
    rows: list[list[str]] = []
    places = []
    most = csv.field_size_limit(_LONGEST_FIELD)  # of the process, so that it is put back
    try:
        names = [name.strip() for name in next((row for row in reader if any(map(str.strip, row))), [])]
        while names and not names[-1]:
            names.pop()  # commas behind the last column
        for values in reader:
            kept = [*values]
            while len(kept) > len(names) and not kept[-1].strip():
                kept.pop()
            if not any(map(str.strip, kept)):
                continue
            if len(kept) != len(names):
                raise CorpusError(
                    f"{path}: line {reader.line_num + skipped}: {len(kept)} fields, but the header has {len(names)}; put quotes around "
                    f"texts with {separator!r}"
                )
            rows.append(kept)
            places.append(f"line {reader.line_num + skipped}")
    except csv.Error as error:
        raise CorpusError(
            f"{path}: line {reader.line_num + skipped}: not a valid CSV ({error}); inside a quoted text write each quote twice"
        ) from None
    finally:
        csv.field_size_limit(most)
    if not rows:
        raise CorpusError(f"{path}: no rows; expected a header with {', '.join(NEEDED)} and one row per utterance")
    return table_of(names, rows, places, path, "CSV")


def _has_bare_quotes(text: str) -> bool:
    """Return whether the quotes in a tab-separated table are characters of the text.

    This is the case if quotes do not enclose whole fields, or if the table was written by the speech recogniser Whisper.
    """
    lines = [line.split("\t") for line in re.split(r"\r\n?|\n", text) if line.strip()]
    if not lines or any(len(fields) != len(lines[0]) for fields in lines):
        return False
    quoted = [field for fields in lines for field in fields if field.startswith('"')]
    if any(_QUOTED.fullmatch(field) is None for field in quoted):
        return True
    return bool(quoted) and {*lines[0]} == WHISPER and not any('""' in field[1:-1] for field in quoted)


def table_of(names: list[str], rows: list[list[Any]], places: list[str], path: Path, format: str) -> Table:
    """Convert rows of values to a table. Columns without a name are left out. If such a column is not empty, the user gets a note.

    Raises:
        CorpusError: two columns have the same name.
    """
    kept = [i for i, name in enumerate(names) if name]
    if len({names[i] for i in kept}) < len(kept):
        raise CorpusError(f"{path}: line 1: a column name is used twice: {', '.join(names)[:200]}")
    if any(values[i] not in (None, "") for i, name in enumerate(names) if not name for values in rows):
        note(f"{path.name}: columns without a name are not read")
    return Table(rows=[{names[i]: values[i] for i in kept} for values in rows], places=places, format=format)


def read_parquet(path: Path) -> Table:
    """Read the rows of a Parquet file.

    Raises:
        CorpusError: pyarrow is not installed, or the file is damaged.
    """
    try:
        records = open_parquet(path).read().to_pylist()
    except (CorpusError, MemoryError):
        raise
    except Exception as error:  # of pyarrow, of many kinds
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise CorpusError(f"{path}: truncated or corrupt Parquet file ({reason})") from None
    if not records:
        raise CorpusError(f"{path}: no rows; expected one row per utterance")
    return json_table(records, "Parquet")


def json_table(rows: list[Row], format: str) -> Table:
    """Convert JSON objects to a table."""
    return Table(rows=rows, places=[f"row {number}" for number in range(1, len(rows) + 1)], format=format)


def cell(value: Any) -> str:
    """Return a value of a table as text; `null` and NaN become an empty string."""
    return "" if value is None or value != value else str(value)


def read_table(content: Any, path: Path, size: int, dataset: str | None = None) -> Annotations | None:
    """Read the annotations in a table of utterances; return `None` if the content is not a table.

    The table needs a column for the text; columns for dialogue, utterance number, speaker, label and split are optional. Many spellings of
    the column names are known.

    If no column gives the split, the split is taken from the file name.

    Raises:
        CorpusError: the text is missing, an utterance number is invalid or occurs twice, a dialogue is in two splits, or ids are not
            unique.
    """
    if not isinstance(content, Table):
        return None
    annotations = table_annotations(content.rows, path, content.format, places=content.places, dataset=dataset)
    split = split_of_name(path)
    if split and not annotations.splits:
        note(f"{path.name}: the split, {split}, is taken from the file's name")
        annotations.splits = {split: list(annotations.dialogue_ids)}
    return annotations


def table_annotations(
    rows: list[Row], path: Path, format: str, *, places: list[str] | None = None, dataset: str | None = None
) -> Annotations:
    """Convert a table to annotations. The table needs the column `text`; other columns are optional.

    The optional columns are dialogue, turn (utterance number), speaker, id, label, sentiment, split and times.

    Numbers in the column `sentiment` are scores. Dialogues are in order of first appearance, and their utterances are in order of `turn`.
    The user gets notes on assumptions (one conversation, one speaker, utterances in the order of the rows) and on columns that are not
    read.

    Raises:
        CorpusError: the text is missing, an utterance number is invalid or occurs twice, a dialogue is in two splits, or ids are not
            unique.
    """
    places = places if places is not None else [f"row {number}" for number in range(1, len(rows) + 1)]
    there = list(dict.fromkeys(str(name) for row in rows for name in row))
    columns = find_columns(there)
    if "text" not in columns:
        raise CorpusError(
            f"{path}: {format} without a column for the text; a table of utterances has the columns {', '.join(NEEDED)} and may have the "
            f"columns {', '.join(OPTIONAL)}; found the columns {', '.join(there[:20]) or 'none'}"
        )
    table = [_plain_row(row, columns, path, place) for row, place in zip(rows, places, strict=True)]
    if columns.keys() == WHISPER and are_milliseconds(path, columns, [row[what] for row in table for what in ("start", "end")]):
        table = [{**row, **{what: str(int(row[what]) / 1000) for what in ("start", "end")}} for row in table]
    named = "turn" in columns and plain(columns["turn"]) in map(
        plain, SPELLINGS["utterance"]
    )  # `utterance_id`: here a number, there a name
    if named and "utterance" not in columns and any(whole(row["turn"]) is None for row in table):
        columns["utterance"] = columns.pop("turn")
        table = [{**row, "utterance": row["turn"]} for row in table]
    if (
        "split" in columns
        and plain(columns["split"]) != "split"
        and not {row["split"].strip().lower() for row in table} <= {*SPLIT_NAMES, ""}
    ):
        del columns["split"]  # `set` or `subset` of something else
        table = [{name: value for name, value in row.items() if name != "split"} for row in table]
    assumed = {
        "dialogue": "one conversation is assumed",
        "speaker": "one speaker is assumed",
        "turn": "utterances are numbered in the order of the rows",
    }
    count: Counter[str] = Counter()
    for what, words in assumed.items():
        if what not in columns:
            note(f"{path.name}: no column for the {what}: {words}")
            for row in table:
                row[what] = {"dialogue": path.stem or "dialogue", "speaker": "speaker"}.get(what) or str(count[row["dialogue"]])
                count[row["dialogue"]] += what == "turn"
    if unread := [name for name in there if name and name not in columns.values()]:
        note(f"{path.name}: columns that are not read: {', '.join(unread[:12])}{', …' if len(unread) > 12 else ''}")
    return assemble_rows(table, path, places, f"table of utterances ({format})", dataset)


def _plain_row(row: Row, columns: dict[str, str], path: Path, place: str) -> dict[str, str]:
    """Return the values of the columns in `columns` for one row, as a dictionary: standard column name → text."""
    found = {}
    for what, name in columns.items():
        value = row.get(name)
        if isinstance(value, dict | list):
            raise CorpusError(f"{path}: {place}: {name}: expected text or a number, found a {type(value).__name__}")
        found[what] = cell(value)
    return found


def assemble_rows(rows: list[dict[str, str]], path: Path, places: list[str], format: str, dataset: str | None) -> Annotations:
    """Build annotations from rows with standard column names. The rows are checked, and sorted by dialogue and `turn`.

    Raises:
        CorpusError: an utterance number is invalid or occurs twice, a dialogue is in two splits, or ids are not unique.
    """
    dialogues: dict[str, dict[int, int]] = {}  # dialogue → turn → row, both as they first appear
    splits: dict[str, str] = {}
    for number, (row, place) in enumerate(zip(rows, places, strict=True)):
        name = row["dialogue"].strip()
        if not name:
            raise CorpusError(f"{path}: {place}: empty `dialogue`; every utterance needs a dialogue id")
        turns = dialogues.setdefault(name, {})
        turn = _turn(row["turn"], path, place)
        if turn in turns:
            first = places[turns[turn]]
            raise CorpusError(
                f"{path}: {place}: turn {turn} of dialogue {name!r} occurs twice (first in {first}); give each utterance its own number"
            )
        turns[turn] = number
        value = row.get("split", "").strip().lower()
        if value and value not in SPLIT_NAMES:
            raise CorpusError(f"{path}: {place}: split {value[:40]!r} is not one of train, dev, test")
        split = SPLIT_NAMES.get(value, "")
        if splits.setdefault(name, split) != split:
            raise CorpusError(
                f"{path}: {place}: dialogue {name!r} is in two splits ({splits[name] or 'none'}, {split or 'none'}); expected one split"
            )
    order = [turns[turn] for turns in dialogues.values() for turn in sorted(turns)]
    ids: dict[str, int] = {}
    for number in order:
        row = rows[number]
        id = row.get("utterance", "").strip() or f"{row['dialogue'].strip()}_{_turn(row['turn'], path, places[number])}"
        if id in ids:
            raise CorpusError(f"{path}: {places[number]}: duplicate utterance id {id!r} (first in {places[ids[id]]}); ids must be unique")
        ids[id] = number
    columns = _columns(rows, order, path, places)
    return Annotations(
        format=format,
        dataset=dataset,
        dialogue_ids=list(dialogues),
        lengths=[len(turns) for turns in dialogues.values()],
        utterance_ids=list(ids),
        speakers=[rows[number]["speaker"].strip() or "speaker" for number in order],
        texts=[rows[number]["text"] for number in order],
        columns=columns,
        splits={
            split: [name for name, own in splits.items() if own == split] for split in ("train", "dev", "test") if split in splits.values()
        },
    )


def _columns(rows: list[dict[str, str]], order: list[int], path: Path, places: list[str]) -> dict[str, list[Any]]:
    """Return the columns `label` and `sentiment` (names), `score` (numbers), `start` and `end` (seconds)."""
    columns: dict[str, list[Any]] = {}
    for name in ("label", "sentiment", "score"):
        if not any(name in row for row in rows):
            continue
        cells = [rows[number].get(name, "").strip() for number in order]
        values = [None if is_empty(value) else value for value in cells]
        numbers = [None if value is None else _number(value) for value in values]
        fractions = any(number is not None and math.isfinite(number) and number != int(number) for number in numbers)
        fractions &= all((number is None) == (value is None) for number, value in zip(numbers, values, strict=True))
        if name == "score" or (name == "sentiment" and any(number is not None for number in numbers)) or (name == "label" and fractions):
            for row, value, number in zip(order, values, numbers, strict=True):
                if value is not None and (number is None or not math.isfinite(number)):
                    raise CorpusError(f"{path}: {places[row]}: {name} {value[:40]!r} is not a finite number, but other rows have numbers")
            if name == "label":
                note(f"{path.name}: labels are numbers with fractions, so they are read as scores")
            columns["score"] = numbers
        else:
            columns[name] = [*values]
    for name in TIMES:
        written = [rows[number].get(name, "") for number in order]
        times = [seconds(value) for value in written]
        if any(time is not None for time in times):
            columns[name] = times
        if unread := sum(bool(value.strip()) and time is None for value, time in zip(written, times, strict=True)):
            note(f"{path.name}: {unread} times ({name}) cannot be read and are left out")
    return columns


def _number(value: str) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None


def _turn(value: str, path: Path, place: str) -> int:
    number = _number(value)
    if number is None or not math.isfinite(number) or number != int(number):
        raise CorpusError(f"{path}: {place}: turn {value[:40]!r} is not an integer")
    return int(number)
