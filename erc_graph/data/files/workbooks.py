"""Reading of Excel workbooks as tables: the first sheet that has rows is read."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from erc_graph.data.files.budget import count_cells
from erc_graph.data.files.notes import note
from erc_graph.data.files.utterance_tables import Table, table_of
from erc_graph.data.files.vocabulary import find_columns
from erc_graph.errors import CorpusError

_MOST = 40, 8 << 20  # a workbook unpacked: so many times its size, and bytes beside


def is_workbook(names: Sequence[str]) -> bool:
    """Return whether an archive with these files is an Excel workbook."""
    return "xl/workbook.xml" in names


def read_workbook(path: Path) -> Table:
    """Read the first sheet that has rows. The user gets a note with the names of other sheets.

    Raises:
        CorpusError: openpyxl is not installed, or the workbook is damaged, empty, or far too large for the size of its file.
    """
    try:
        import openpyxl
    except ImportError:
        raise CorpusError(f'{path}: an Excel workbook; to read it, pip install "erc_graph[transcripts]", or save it as CSV') from None
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(part.file_size for part in archive.infolist())
    if unpacked > _MOST[0] * path.stat().st_size + _MOST[1]:
        raise CorpusError(f"{path}: an Excel workbook of {unpacked >> 20} MiB after unpacking, which is too large; save the sheet as CSV")
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        cells = _Cells(path)
        sheets = [(sheet.title, _rows(sheet, cells)) for sheet in book.worksheets]
        book.close()
    except (MemoryError, CorpusError):
        raise
    except Exception as error:  # of the library, of zipfile and of the XML parser
        reason = " ".join(str(error).split())[:120]
        raise CorpusError(f"{path}: an Excel workbook that cannot be read ({type(error).__name__}: {reason}); save it as CSV") from None
    used = [(title, rows) for title, rows in sheets if len(rows) > 1]
    if not used:
        raise CorpusError(f"{path}: an Excel workbook without rows; expected a header and one row per utterance")
    title, ((row, head), *rows) = used[0]
    if len(used) > 1:
        note(f"{path.name}: of {len(used)} sheets with rows, only the first, {title!r}, is read")
    names = ["" if name is None else str(name).strip() for name in head]
    wide = max(len(names), *(len(values) for _, values in rows))
    if sum(map(bool, names)) == 1 < wide and not find_columns(names):
        raise CorpusError(
            f"{path}: sheet {title!r}: row {row} should have the names of the columns, but has only {''.join(names)[:60]!r}; "
            "delete the rows above the header"
        )
    cells.count(wide * len(rows))
    names += [""] * (wide - len(names))
    return table_of(
        names, [[*values, *[None] * (wide - len(values))] for _, values in rows], [f"row {at}" for at, _ in rows], path, "Excel"
    )


class _Cells:
    """A counter of the cells that were read. Before a cell with a very large row or column number, there are millions of empty cells."""

    def __init__(self, path: Path) -> None:
        self.path, self.size, self.found = path, path.stat().st_size, 0

    def count(self, more: int) -> None:
        """Add a number of cells to the count.

        Raises:
            CorpusError: the workbook has too many cells for the size of its file.
        """
        self.found += more
        count_cells(self.found, self.size, self.path)


def _rows(sheet: Any, cells: _Cells) -> list[tuple[int, list[Any]]]:
    """Return the row number and the values of each row that is not empty."""
    sheet.reset_dimensions()  # what the file claims about its size
    found = []
    for number, values in enumerate(sheet.iter_rows(values_only=True), start=1):
        cells.count(1 + len(values))
        kept = [*values]
        while kept and kept[-1] is None:
            kept.pop()
        if kept:
            found.append((number, [int(one) if isinstance(one, float) and one.is_integer() else one for one in kept]))
    return found
