"""Tables of results in Markdown and for the terminal."""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np

from erc_graph.data.printable import one_line

_NUMBER = re.compile(r"[-+−±<]?\d[\d.,]*( ?(±|%|s|ms|h) ?[\d.,]*)*( [*†]+)?|[-–—]|")


def mean_std(values: Sequence[float], digits: int = 3) -> str:
    """Return mean and standard deviation (denominator n - 1) as text; for a single value, return only the value.

    >>> mean_std([0.648, 0.651, 0.655]), mean_std([0.5])
    ('0.651 ± 0.004', '0.500')
    """
    if not len(values):
        return "–"
    mean = f"{np.mean(values):.{digits}f}"
    return f"{mean} ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else mean


def p_text(value: float | None) -> str:
    """Return a p-value as text with three decimals; a dash if there is no p-value.

    >>> p_text(0.0421), p_text(0.0002), p_text(None)
    ('0.042', '<0.001', '–')
    """
    return "–" if value is None else "<0.001" if value < 0.001 else f"{value:.3f}"


def markdown_table(headers: Sequence[Any], rows: Sequence[Sequence[Any]]) -> str:
    """Return a Markdown table; columns of numbers are aligned to the right, and special characters in cells are escaped.

    >>> print(markdown_table(["method", "wF1"], [["a|b", "0.651"]]))
    | method | wF1 |
    | --- | ---: |
    | a\\|b | 0.651 |
    """
    cells = cell_texts(headers, rows)
    rule = ["---:" if right else "---" for right in numeric_columns(cells)]
    safe = [[re.sub(r"([\\|`])", r"\\\1", cell).replace("&", "&amp;").replace("<", "&lt;") for cell in row] for row in cells]
    return "\n".join(f"| {' | '.join(row)} |" for row in [safe[0], rule, *safe[1:]])


def text_table(headers: Sequence[Any], rows: Sequence[Sequence[Any]], *, width: int = 80) -> str:
    """Return a table for a terminal, with numbers aligned to the right; text is wrapped if the table is wider than `width`.

    >>> print(text_table(["method", "wF1"], [["BiGRU", "0.625"], ["pairwise", "0.67"]]))
    method      wF1
    --------  -----
    BiGRU     0.625
    pairwise   0.67
    """
    cells = cell_texts(headers, rows)
    right = numeric_columns(cells)
    columns = range(len(cells[0]))
    widths = [max(_columns(row[j]) for row in cells) for j in columns]
    while sum(widths) + 2 * (len(widths) - 1) > width:
        # Headings of numbers and words give way, numbers never; the widest first, down to eight columns.
        floor = [max((_columns(row[j]) for row in cells[1:]), default=0) if right[j] else min(8, widths[j]) for j in columns]
        soft = [j for j in columns if widths[j] > max(floor[j], 3)]
        if not soft:
            break
        widths[max(soft, key=lambda j: widths[j])] -= 1
    lines = []
    for number, row in enumerate(cells):
        wrapped = [_wrap(cell, size) for cell, size in zip(row, widths, strict=True)]
        for k in range(max((len(part) for part in wrapped), default=1)):
            parts = []
            for part, size, to_right in zip(wrapped, widths, right, strict=True):
                text = part[k] if k < len(part) else ""
                blank = " " * (size - _columns(text))
                parts.append(blank + text if to_right else text + blank)
            lines.append("  ".join(parts).rstrip())
        if number == 0:
            lines.append("  ".join("-" * size for size in widths))
    return "\n".join(lines)


def cell_texts(headers: Sequence[Any], rows: Sequence[Sequence[Any]]) -> list[list[str]]:
    """Return the text of all cells, with the headings as first row; short rows are padded with empty cells, and `None` becomes a dash."""
    size = max(len(headers), *(len(row) for row in rows), 0) if rows else len(headers)
    filled = [[*row, *[""] * (size - len(row))] for row in (headers, *rows)]
    return [["–" if cell is None else one_line(cell, 200) for cell in row] for row in filled]


def numeric_columns(cells: list[list[str]]) -> list[bool]:
    """Return for each column whether every cell below the heading is a number, a dash or empty."""
    return [len(cells) > 1 and any(column[1:]) and all(_NUMBER.fullmatch(c) for c in column[1:]) for column in zip(*cells, strict=True)]


def _columns(text: str) -> int:
    """Return the width of text on a terminal; wide East Asian characters have width two, and combining marks have width zero."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _wrap(text: str, width: int) -> list[str]:
    if _columns(text) <= width:
        return [text]
    wide = any(unicodedata.east_asian_width(c) in "WF" for c in text)
    return textwrap.wrap(text, max(width // 2 if wide else width, 1)) or [""]
