"""Conversion of single values of a file (text, numbers, speaker indices, vectors), and their display in messages."""

from __future__ import annotations

from typing import Any

import numpy as np


def spell(value: Any) -> str:
    """Return a short description of a value of any type, for a message."""
    if isinstance(value, str | int | float | bool | np.generic) or value is None:
        return repr(value if not isinstance(value, np.generic) else value.item())[:60]
    if isinstance(value, np.ndarray):
        return f"array of shape {value.shape}"
    return f"{type(value).__name__} of {len(value)}" if hasattr(value, "__len__") else type(value).__name__


class Odd:
    """A value that is neither text nor a number. A later error message gives the position of the value in the file."""

    def __init__(self, value: Any) -> None:
        self.text = spell(value)


def scalar(value: Any) -> Any:
    """Convert a value to text, a number or `None`; return any other value as `Odd`."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(-1)[0]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bytes):
        value = value.decode("latin1")
    return value if value is None or (isinstance(value, str | int | float) and not isinstance(value, bool)) else Odd(value)


def speaker_number(value: Any) -> int | None:
    """Return the index of a speaker, given as an integer or a one-hot vector; `None` for any other value."""
    plain = scalar(value)
    if isinstance(plain, int | float):
        return int(plain) if 0 <= plain < 1000 and plain == int(plain) else None
    if isinstance(value, list | tuple | np.ndarray):
        numbers = [scalar(part) for part in value] if len(value) <= 1000 else []
        if numbers.count(1) == 1 and numbers.count(0) == len(numbers) - 1:
            return numbers.index(1)
    return None


def vector(value: Any) -> np.ndarray | None:
    """Convert a value to a float32 array (a vector, or one vector per frame); return `None` if it has other values than numbers."""
    if not isinstance(value, list | tuple | np.ndarray):
        return None
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            row = np.asarray(value, dtype=np.float32)
    except (ValueError, TypeError, OverflowError):
        return None
    if row.ndim > 1 and row.size == max(row.shape):  # one vector with axes of length one
        row = row.reshape(-1)
    return row if row.ndim == 1 or (row.ndim == 2 and row.size) else None
