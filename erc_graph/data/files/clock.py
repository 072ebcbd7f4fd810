"""Conversion of times in files to seconds: times of day, and times from the start of a recording."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from erc_graph.data.files.notes import note

_CLOCK = re.compile(r"(?:(\d{1,4}):)?(\d{1,3}):(\d{1,2})(?:[.,:](\d{1,9}))?")
WHISPER = {"start", "end", "text"}  # the columns of its .tsv


def seconds(value: object) -> float | None:
    """Convert a number or `[hours:]minutes:seconds[.fraction]` to seconds; return `None` for any other value.

    >>> seconds("00:20:57,256"), seconds("1:02.5"), seconds(3), seconds("soon")
    (1257.256, 62.5, 3.0, None)
    """
    text = str(value).strip()
    if found := _CLOCK.fullmatch(text):
        hours, minutes, whole, fraction = found.groups(default="0")
        return float(f"{int(hours) * 3600 + int(minutes) * 60 + int(whole)}.{fraction}")
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def are_milliseconds(path: Path, columns: Mapping[str, str], times: Iterable[object]) -> bool:
    """Return whether a table is a .tsv file of Whisper, whose times are integer milliseconds.

    If so, the user gets a note: the times are read as milliseconds.

    Args:
        path: Path of the table.
        columns: Property of an utterance, such as `text` → name of its column, as returned by `find_columns`.
        times: Start and end times of all rows.
    """
    if path.suffix.lower() != ".tsv" or {*columns.values()} != WHISPER or not all(isinstance(t, str) and t.isdecimal() for t in times):
        return False
    note("times are read as milliseconds, because the table has the form of Whisper's .tsv")
    return True
