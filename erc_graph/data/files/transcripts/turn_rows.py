"""Reader of tables and JSON files with a speaker and a text per row or object; many column names are known."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from erc_graph.data.files.clock import are_milliseconds, seconds
from erc_graph.data.files.notes import note
from erc_graph.data.files.transcripts.talk import EXPECTED, Talk, Turn, finite, moment
from erc_graph.data.files.vocabulary import find_columns, plain
from erc_graph.data.printable import count, one_line
from erc_graph.errors import CorpusError

Row = dict[str, Any]
LISTS = ("turns", "utterances", "dialogue", "conversation", "messages", "transcript")
READ = ("text", "speaker", "dialogue", "turn", "start", "end")  # of the vocabulary, what a transcript is read by
_OUTER = ("dialogues", "conversations", "data", "results", "items", "records", "chats", "transcripts")
_NAMED = ("name", "displayName", "display_name", "real_name", "nickname", "username", "user_name", "title", "id")


def read_rows(value: Any, path: Path) -> Talk:
    """Read utterances from a list of objects, a list of dialogues, or an object that contains one of these lists.

    Raises:
        CorpusError: the value has another form, or no key contains the text.
    """
    if isinstance(value, dict):
        inner = _inside(value, (*LISTS, *_OUTER))
        if inner is None and "text" not in find_columns(key for key, one in value.items() if not isinstance(one, dict | list)):
            inner = _named(value) or _deeper(value)
        value = [value] if inner is None else inner
    if not isinstance(value, list):
        raise CorpusError(f"{path}: a JSON {type(value).__name__}; {EXPECTED}")
    rows: list[Row] = []
    places: dict[str, int] = {}  # dialogue → the item that it is
    for number, item in enumerate(value):
        turns = _inside(item, LISTS) if isinstance(item, dict) else item  # a dialogue with its turns inside, or a turn
        if isinstance(turns, list):
            id = (
                next((item[key] for key in ("id", "dialogue_id", "name") if isinstance(item.get(key), str | int)), None)
                if isinstance(item, dict)
                else None
            )
            if not all(isinstance(turn, dict) for turn in turns):
                raise CorpusError(f"{path}: dialogue {number}: expected a list of objects with `speaker` and `text`")
            name = f"dialogue-{number}" if id is None else str(id)
            if (first := places.setdefault(name, number)) != number:
                raise CorpusError(
                    f"{path}: dialogue id {name[:40]!r} is used twice (items {first} and {number}); give each dialogue its own id"
                )
            rows += [{**turn, "dialogue": name} for turn in turns]
        elif isinstance(item, dict):
            rows.append(item)
        else:
            raise CorpusError(f"{path}: item {number}: expected an object with `speaker` and `text`, found a {type(item).__name__}")
    return read_table(rows, path, "JSON")


def _inside(item: Row, keys: Sequence[str]) -> list[Any] | None:
    """Return the list of utterances or dialogues under one of `keys`; `None` if the object `item` is itself an utterance."""
    found: list[Any] | None = next((item[key] for key in keys if isinstance(item.get(key), list)), None)
    if found is not None and not all(isinstance(one, dict | list) for one in found) and "text" in find_columns(item):
        return None
    return found


def _named(value: Row) -> list[Any] | None:
    """Return the dialogues of an object name → dialogue; return `None` if the object has another form.

    The value is a list of utterances (one dialogue), or a list of lists of utterances (several dialogues, as in RECCON).
    """
    if not value or not all(isinstance(one, list) and one for one in value.values()):
        return None
    parts = {name: one if isinstance(one[0], list) else [one] for name, one in value.items()}
    turns = [turn for lists in parts.values() for one in lists if isinstance(one, list) for turn in one]
    if not turns or not all(isinstance(turn, dict) and "text" in find_columns(turn) for turn in turns):
        return None
    if len(value) == 1 and len(turns) == len(next(iter(value.values()))):
        return None  # `{"sentences": […]}`: one conversation
    return [
        {"id": name if len(lists) == 1 else f"{name}_{number}", "turns": one}
        for name, lists in parts.items()
        for number, one in enumerate(lists)
    ]


def _deeper(value: Row) -> list[Any] | None:
    """Search nested objects for the first list of utterances. Lists whose key paths differ in one key are further dialogues.

    An utterance is an object with a text and a speaker or time.
    """
    level: list[tuple[tuple[str, ...], Any]] = [((), value)]
    for _ in range(_DEPTH):
        inner = [((*path, str(key)), one) for path, outer in level for key, one in outer.items()]
        found = {path: one for path, one in inner if isinstance(one, list) and _is_turns(one) and not _PARTS.search(".".join(path))}
        if found:
            first, turns = next(iter(found.items()))
            if (beside := _beside(first, found)) is not None:
                names = [path[beside[0]] for path in beside[1]]
                note(f"JSON of an unknown program; {one_line(names[0])} and {count(len(names) - 1, 'further list')} are read as dialogues")
                return [{"id": name, "turns": found[path]} for name, path in zip(names, beside[1], strict=True)]
            note(f"JSON of an unknown program; the utterances are read from {one_line('.'.join(first))}")
            if len(found) > 1:
                note(f"lists of utterances that are not read: {', '.join(one_line('.'.join(path)) for path in [*found][1:9])}")
            return turns
        level = [(path, one) for path, one in inner if isinstance(one, dict)]
    return None


def _is_turns(rows: list[Any]) -> bool:
    if not rows or not all(isinstance(row, dict) for row in rows):
        return False
    columns = find_columns(rows[0])
    return "text" in columns and bool(columns.keys() & {"speaker", "start"})


def _beside(first: tuple[str, ...], found: dict[tuple[str, ...], list[Row]]) -> tuple[int, list[tuple[str, ...]]] | None:
    """Return the key paths of several dialogues, and the position where they differ; `None` if the lists are versions of one dialogue."""
    columns = find_columns(found[first][0])
    same = [path for path, rows in found.items() if find_columns(rows[0]) == columns]
    for place in range(len(first)):
        paths = [path for path in same if (*path[:place], *path[place + 1 :]) == (*first[:place], *first[place + 1 :])]
        if len(paths) > 1 and (place < len(first) - 1 or not any(_FORMS.search(path[-1]) for path in paths)):
            return place, paths
    return None


_FORMS = re.compile(r"sentence|segment|paragraph|utterance|turn|message|transcript|monologue|entries|result|\bparts?\b", re.IGNORECASE)
_DEPTH = 5
_PARTS = re.compile(r"word|token|char|item|phoneme|alternative", re.IGNORECASE)  # lists of less than a turn


def read_table(rows: Sequence[Row], path: Path, form: str) -> Talk:
    """Read rows with named columns.

    Raises:
        CorpusError: there are no rows or no text, or a cell is not text.
    """
    if not rows:
        raise CorpusError(f"{path}: contains no utterances; {EXPECTED}")
    names = list(dict.fromkeys(str(key) for row in rows for key in row))
    rows = [{str(key): value for key, value in row.items()} for row in rows]
    columns = find_columns(name for name in names if plain(name) != "features" and not _is_list(rows, name))
    given = next((name for name in names if plain(name) == "features"), None)
    if "text" not in columns and given is None:
        found = ", ".join(one_line(name) for name in names[:12]) or "none"
        raise CorpusError(f"{path}: no `text` and no `features` in {len(rows)} rows; found {found}; {EXPECTED}")
    rows = _dated(rows, names, columns)
    read = {columns[what] for what in READ if what in columns}
    read |= {name for name in names if plain(name) == "date" and name not in rows[0]}  # joined with the time
    others = [name for name in names if name not in read and name != given and not _is_list(rows, name)]
    if unread := [name for name in others if plain(name) not in ("label", "utterance")]:
        note(f"columns not used for labels: {', '.join(one_line(name) for name in unread[:8])}{', …' if len(unread) > 8 else ''}")
    numbers = _numbers(rows, columns)
    times = _times(rows, columns, form, path)
    turns = [
        Turn(
            text=_cell(row, columns.get("text"), "text", number, path),
            speaker=_speaker(row, columns.get("speaker"), number, path),
            dialogue=_cell(row, columns.get("dialogue"), "dialogue", number, path),
            number=numbers[number],
            features=row.get(given) if given else None,
            start=times[number][0],
            end=times[number][1],
            time=times[number][2],
        )
        for number, row in enumerate(rows)
    ]
    return Talk(form=form, turns=turns, alone=False, found=names)


def _is_list(rows: Sequence[Row], name: str) -> bool:
    """Return whether all values of a key are objects or lists; such a key is not read as a column."""
    values = [row[name] for row in rows if _filled(row.get(name))]
    return (
        bool(values)
        and all(isinstance(v, dict | list) for v in values)
        and plain(name) not in ("text", "speaker", "author", "from", "dialogue")
    )


def _filled(value: Any) -> bool:
    return value is not None and value != ""


def _cell(row: Row, name: str | None, what: str, number: int, path: Path) -> str:
    value = row.get(name) if name is not None else None
    if isinstance(value, dict | list):
        raise CorpusError(f"{path}: utterance {number}: {what}: expected text, found a {type(value).__name__}")
    return str(value) if _filled(value) else ""


def _speaker(row: Row, name: str | None, number: int, path: Path) -> str:
    value = row.get(name) if name is not None else None
    if isinstance(value, dict):  # `author: {"name": …}`
        inner = next((value[key] for key in _NAMED if isinstance(value.get(key), str | int)), None)
        if inner is not None:
            return str(inner)
    return _cell(row, name, "speaker", number, path)


def _numbers(rows: Sequence[Row], columns: dict[str, str]) -> list[int | None]:
    """Return the utterance numbers of dialogues in which every row has a number. The user gets a note on other dialogues."""
    name = columns.get("turn")
    if name is None:
        return [None] * len(rows)
    cells = [row.get(name) for row in rows]
    values = [finite(cell) if _filled(cell) else None for cell in cells]
    if wrong := [cell for cell, value in zip(cells, values, strict=True) if _filled(cell) and (value is None or value != int(value))]:
        note(f"{one_line(name)} such as {one_line(wrong[0])!r} is not an integer, so utterances stay in the order of the file")
        return [None] * len(rows)
    owners = [str(row.get(columns.get("dialogue", ""), "")).strip() for row in rows]
    empty = {owner: number for number, owner in reversed([*enumerate(owners)]) if values[number] is None}
    if empty and any(value is not None for value in values):
        first = min(empty.values())
        what = f"{count(len(empty), 'dialogue')} in which an utterance has no number (first: row {first})"
        note(f"{one_line(name)}: the numbers of {what} are not used; these utterances stay in the order of the file")
    return [None if owner in empty or value is None else int(value) for owner, value in zip(owners, values, strict=True)]


def _dated(rows: list[Row], names: Sequence[str], columns: dict[str, str]) -> list[Row]:
    """Return the rows. If there are columns for the date and the time of day, both are joined to one column."""
    time, date = columns.get("start", ""), next((name for name in names if plain(name) == "date"), None)
    if plain(time) != "time" or date is None or "end" in columns:
        return rows
    if not all(isinstance(row.get(time), str) and _OF_DAY.fullmatch(row[time].strip()) and _filled(row.get(date)) for row in rows):
        return rows
    joined = [{**row, time: f"{str(row[date]).strip()} {row[time].strip()}"} for row in rows]
    strange = next((row[time] for row in joined if not _ISO.match(row[time])), None)
    kept = (
        "" if strange is None else f"; sort utterances yourself, or write 2024-12-31 09:00 instead of values such as {one_line(strange)!r}"
    )
    note(f"{one_line(date)} and {one_line(time)} are read as one time{kept}")
    return [{name: value for name, value in row.items() if name != date} for row in joined]


_ISO = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d(?![^:\d])")
_OF_DAY = re.compile(r"\d{1,2}:\d\d(?::\d\d(?:[.,]\d{1,9})?)?(?: ?[AaPp]\.?[Mm]\.?)?")
_SINCE_WHEN = ("time", "timestamp", "datetime", "date", "createdat", "sentat", "ts")  # columns of what need not be a recording's time


def _of_day(rows: Sequence[Row], columns: dict[str, str]) -> bool:
    """Return whether times such as `23:59` are times of day and not times of a recording. If so, the user gets a note.

    They are times of day if there are no end times, and the start times decrease within a dialogue.
    """
    name = columns.get("start", "")
    if plain(name) not in _SINCE_WHEN or "end" in columns:
        return False
    last: dict[str, float] = {}
    for row in rows:
        value, dialogue = row.get(name), str(row.get(columns.get("dialogue", "")))
        if not _filled(value):
            continue
        time = seconds(value) if isinstance(value, str) and _OF_DAY.fullmatch(value.strip()) else None
        if time is None:
            return False
        if time < last.get(dialogue, time):
            note(f"{one_line(name)} such as {one_line(value)!r} decreases, so times are times of day, and utterances stay in order")
            return True
        last[dialogue] = time
    return False


def _times(rows: Sequence[Row], columns: dict[str, str], form: str, path: Path) -> list[tuple[float | None, float | None, str]]:
    """Return, for each row, start and end in seconds, or the time as text exactly as in the file."""
    values = [[row.get(columns[what]) if what in columns else None for what in ("start", "end")] for row in rows]
    unit = 1000 if are_milliseconds(path, columns, [value for pair in values for value in pair]) else 1
    if _of_day(rows, columns):
        return [(None, None, str(start).strip() if _filled(start) else "") for start, _ in values]
    found: list[tuple[float | None, float | None, str]] = []
    for start, end in values:
        first, last = seconds(start) if _filled(start) else None, seconds(end) if _filled(end) else None
        if first is None or abs(first) >= 1e8:  # since 1970, or a date
            found.append((None, None, (moment(first) if first is not None else "") or ("" if not _filled(start) else str(start))))
        else:
            found.append((first / unit, None if last is None else last / unit, ""))
    return found
