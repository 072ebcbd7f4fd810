"""Tables of utterances: a user's own CSV, JSON lines or Parquet, and MELD's official CSVs."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from erc_graph.data.annotations import Annotations
from erc_graph.data.files.vocabulary import SPLIT_NAMES
from erc_graph.data.tasks import DEFAULT_TASK, MELD7
from erc_graph.errors import CorpusError

NEEDED = ("dialogue", "turn", "speaker", "text")
OPTIONAL = ("utterance", "label", "sentiment", "split")
MELD_COLUMNS = ("Utterance", "Speaker", "Emotion", "Sentiment", "Dialogue_ID", "Utterance_ID")

Row = dict[str, str]

_LONGEST_FIELD = 2**31 - 1  # what a C long holds everywhere; the text is in memory already

# What no text of one byte per character holds: tabs, ends of lines and of pages, and DOS's end of file are left.
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x19\x1b-\x1f]")


def split_of_name(path: Path) -> str | None:
    """Return the split that a file's name tells (`train_sent_emo.csv`), or `None`."""
    words = [SPLIT_NAMES[word] for word in re.split(r"[^a-z]+", path.name.lower()) if word in SPLIT_NAMES]
    return words[0] if len(set(words)) == 1 else None


def read_csv(content: bytes, path: Path) -> tuple[list[Row], list[int], list[str]]:
    """Read rows of a CSV (comma, semicolon or tab; UTF-8 with or without mark, else Windows-1252), their lines, and notes.

    Raises:
        CorpusError: not text, no rows, or a row with another number of fields than the header.
    """
    notes: list[str] = []
    binary = f"{path}: binary content, no known format; expected a pickle, CSV, JSON, JSON lines or Parquet file"
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if _CONTROL.search(content):
            raise CorpusError(binary) from None
        try:
            text = content.decode("cp1252")
        except UnicodeDecodeError:
            raise CorpusError(f"{path}: neither UTF-8 nor Windows-1252 text (byte {error.start}); save the table as UTF-8") from None
        notes.append("the file is not UTF-8; read as Windows-1252")
    if "\0" in text:
        raise CorpusError(binary)
    header = text.split("\n", 1)[0]
    separator = max(",;\t", key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    rows, lines = [], []
    most = csv.field_size_limit(_LONGEST_FIELD)  # of the process, so that it is put back
    try:
        names = [name.strip() for name in next(reader, [])]
        if len(set(names)) < len(names):
            raise CorpusError(f"{path}: line 1: a column name is used twice: {', '.join(names)[:200]}")
        for values in reader:
            if not values:
                continue
            if len(values) != len(names):
                raise CorpusError(
                    f"{path}: line {reader.line_num}: {len(values)} fields, header {len(names)}; quote texts with {separator!r}"
                )
            rows.append(dict(zip(names, values, strict=True)))
            lines.append(reader.line_num)
    except csv.Error as error:
        raise CorpusError(f"{path}: line {reader.line_num}: not a valid CSV ({error})") from None
    finally:
        csv.field_size_limit(most)
    if not rows:
        raise CorpusError(f"{path}: no rows; expected a header with {', '.join(NEEDED)} and one row per utterance")
    return rows, lines, notes


def read_json_lines(content: bytes, path: Path) -> tuple[list[Row], list[int]]:
    """Read rows of a file with one JSON object per line, and their lines.

    Raises:
        CorpusError: a line that is no flat JSON object.
    """
    rows, lines = [], []
    for number, line in enumerate(content.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            raise CorpusError(f"{path}: line {number}: not valid JSON; expected one object per line") from None
        rows.append(flat_row(value, path, f"line {number}"))
        lines.append(number)
    return rows, lines


def flat_row(value: Any, path: Path, where: str) -> Row:
    """Return a JSON object as a row of text; `null` is empty.

    Raises:
        CorpusError: not an object, or one with lists or objects in it.
    """
    if not isinstance(value, dict) or any(isinstance(part, dict | list) for part in value.values()):
        raise CorpusError(f"{path}: {where}: expected a flat object with {', '.join(NEEDED)}")
    return {name: "" if part is None else str(part) for name, part in value.items()}


def read_parquet(path: Path) -> list[Row]:
    """Read the rows of a Parquet file.

    Raises:
        CorpusError: pyarrow is not installed, or the file is damaged.
    """
    try:
        import pyarrow.parquet  # type: ignore[import-untyped]
    except ImportError:
        raise CorpusError(f"{path}: Parquet needs pyarrow; `pip install erc_graph[parquet]`, or save the table as CSV") from None
    try:
        records = pyarrow.parquet.read_table(path).to_pylist()
    except (ValueError, OSError, pyarrow.ArrowException, MemoryError, OverflowError) as error:
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise CorpusError(f"{path}: truncated or corrupt Parquet file ({reason})") from None
    if not records:
        raise CorpusError(f"{path}: no rows; expected one per utterance")
    return [{name: "" if part is None or part != part else str(part) for name, part in record.items()} for record in records]


def table_annotations(
    rows: list[Row], path: Path, format: str, *, lines: Iterable[int] | None = None, dataset: str | None = None
) -> Annotations:
    """Read a table: MELD's own columns, or `dialogue, turn, speaker, text` with `utterance, label, sentiment, split`.

    A numeric `sentiment` is a score. Dialogues stand in order of first appearance, utterances by turn.

    Raises:
        CorpusError: missing columns or values, a turn that is no number or occurs twice, a dialogue in two splits, duplicate ids.
    """
    places = [f"line {line}" for line in lines] if lines is not None else [f"row {number}" for number in range(1, len(rows) + 1)]
    if set(MELD_COLUMNS) <= rows[0].keys():
        return _meld(rows, path, places)
    rows = [{name.strip().lower(): value for name, value in row.items()} for row in rows]
    missing = [name for name in NEEDED if any(name not in row for row in rows)]
    if missing:
        raise CorpusError(
            f"{path}: no column {', '.join(map(repr, missing))}; a table of utterances needs {', '.join(NEEDED)} and may have "
            f"{', '.join(OPTIONAL)}; found {', '.join(list(rows[0])[:20]) or 'none'}"
        )
    return _assemble(rows, path, places, f"table of utterances ({format})", dataset)


def _meld(rows: list[Row], path: Path, places: list[str]) -> Annotations:
    """One of MELD's `{train,dev,test}_sent_emo.csv`; the split stands in the file's name only."""
    split = split_of_name(path)
    if split is None:
        raise CorpusError(
            f"{path}: one of MELD's CSVs, whose split is told by the file's name alone; expected train, dev or test in it, as in "
            "train_sent_emo.csv"
        )
    table = []
    for row, place in zip(rows, places, strict=True):
        if row["Emotion"].strip().lower() not in MELD7:
            raise CorpusError(f"{path}: {place}: emotion {row['Emotion'][:40]!r} is outside the set {', '.join(MELD7)}")
        if row["Sentiment"].strip().lower() not in ("neutral", "positive", "negative"):
            raise CorpusError(f"{path}: {place}: sentiment {row['Sentiment'][:40]!r} is outside the set neutral, positive, negative")
        dialogue = f"{split}_dia{row['Dialogue_ID'].strip()}"
        table.append(
            {
                "dialogue": dialogue,
                "turn": row["Utterance_ID"],
                "utterance": f"{dialogue}_utt{row['Utterance_ID'].strip()}",
                "speaker": row["Speaker"],
                "text": row["Utterance"],
                "label": row["Emotion"].strip().lower(),
                "sentiment": row["Sentiment"].strip().lower(),
                "split": split,
            }
        )
    return _assemble(table, path, places, "MELD's official CSV", "meld")


def _assemble(rows: list[Row], path: Path, places: list[str], format: str, dataset: str | None) -> Annotations:
    dialogues: dict[str, dict[int, int]] = {}  # dialogue → turn → row, both as they first appear
    splits: dict[str, str] = {}
    for number, (row, place) in enumerate(zip(rows, places, strict=True)):
        name = row["dialogue"].strip()
        if not name:
            raise CorpusError(f"{path}: {place}: empty `dialogue`; every utterance belongs to one")
        turns = dialogues.setdefault(name, {})
        turn = _turn(row["turn"], path, place)
        if turn in turns:
            first = places[turns[turn]]
            raise CorpusError(f"{path}: {place}: turn {turn} of dialogue {name!r} stands there already ({first}); number each once")
        turns[turn] = number
        value = row.get("split", "").strip().lower()
        if value and value not in SPLIT_NAMES:
            raise CorpusError(f"{path}: {place}: split {value[:40]!r} is not one of train, dev, test")
        split = SPLIT_NAMES.get(value, "")
        if splits.setdefault(name, split) != split:
            raise CorpusError(
                f"{path}: {place}: dialogue {name!r} is in two splits ({splits[name] or 'none'}, {split or 'none'}); expected one"
            )
    order = [turns[turn] for turns in dialogues.values() for turn in sorted(turns)]
    ids: dict[str, int] = {}
    for number in order:
        row = rows[number]
        id = row.get("utterance", "").strip() or f"{row['dialogue'].strip()}_{_turn(row['turn'], path, places[number])}"
        if id in ids:
            raise CorpusError(f"{path}: {places[number]}: duplicate utterance id {id!r} (first in {places[ids[id]]}); ids must be unique")
        ids[id] = number
    columns, labels = _columns(rows, order, path, places)
    return Annotations(
        format=format,
        dataset=dataset,
        dialogue_ids=list(dialogues),
        lengths=[len(turns) for turns in dialogues.values()],
        utterance_ids=list(ids),
        speakers=[rows[number]["speaker"].strip() or "speaker" for number in order],
        texts=[rows[number]["text"] for number in order],
        columns=columns,
        labels=[] if dataset in DEFAULT_TASK else labels,
        splits={
            split: [name for name, own in splits.items() if own == split] for split in ("train", "dev", "test") if split in splits.values()
        },
    )


def _columns(rows: list[Row], order: list[int], path: Path, places: list[str]) -> tuple[dict[str, list[Any]], list[str]]:
    """`label`, and `sentiment` (names) or `score` (numbers); label names in sorted order."""
    columns: dict[str, list[Any]] = {}
    labels: list[str] = []
    if any("label" in row for row in rows):
        columns["label"] = [rows[number].get("label", "").strip() or None for number in order]
        labels = sorted({value for value in columns["label"] if value})
    if any("sentiment" in row for row in rows):
        values = [rows[number].get("sentiment", "").strip() for number in order]
        numbers = [_number(value) for value in values]
        if any(number is not None for number in numbers):
            for row, value, number in zip(order, values, numbers, strict=True):
                if value and (number is None or not math.isfinite(number)):
                    raise CorpusError(f"{path}: {places[row]}: sentiment {value[:40]!r} is no finite number, though others are numbers")
            columns["score"] = numbers
        else:
            columns["sentiment"] = [value or None for value in values]
    return columns, labels


def _number(value: str) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None


def _turn(value: str, path: Path, place: str) -> int:
    number = _number(value)
    if number is None or not math.isfinite(number) or number != int(number):
        raise CorpusError(f"{path}: {place}: turn {value[:40]!r} is no whole number")
    return int(number)
