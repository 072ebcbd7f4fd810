"""Reader of tables in text form: CSV and similar files with a header, and tables of two columns without a header."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

from erc_graph.data.files.transcripts.talk import Talk
from erc_graph.data.files.transcripts.turn_rows import read_table
from erc_graph.data.files.utterance_tables import read_csv
from erc_graph.data.files.vocabulary import find_columns
from erc_graph.errors import CorpusError

_RULE = re.compile(r"\|?(?:\s{0,99}:?-{1,200}:?\s{0,99}\|)+(?:\s{0,99}:?-{1,200}:?)?")

_BAR = re.compile(r"(?<![ \t])[ \t]{0,99}\|[ \t]{0,99}")


def heads_of(text: str) -> list[str]:
    """Return the values (column names) in the first line of a table; a first line such as `sep=;` of Excel is skipped."""
    text = text.lstrip("\n ")
    if text[:4].lower() == "sep=":
        text = text.partition("\n")[2]
    first = text[:4000].split("\n", 1)[0]
    try:
        fields = next(csv.reader(io.StringIO(first), delimiter=max(",;\t|", key=first.count)), [])
    except csv.Error:
        return []
    return [field.strip() for field in fields]


def read_columns(text: str, path: Path) -> Talk | None:
    """Read a table whose first line names the columns; return `None` if this line names no columns.

    Raises:
        CorpusError: a .csv file has no line with the column names, or the table is damaged.
    """
    fields = heads_of(text)
    columns = find_columns(fields)
    short = all(len(field) <= 64 and len(field.split()) <= 4 and ":" not in field for field in fields)
    if not ("text" in columns and short and (len(fields) > 1 or path.suffix.lower() in (".csv", ".tsv"))):
        if path.suffix.lower() == ".csv":
            shown = ", ".join(field[:30] for field in fields[:8])
            is_header = short and all(fields) and len({*fields}) == len(fields) and (columns or len(fields) > 2)
            rename = "rename the column of the text to `text` (of speakers to `speaker`, of conversations to `dialogue`), or "
            raise CorpusError(
                f"{path}: the first line names no column for the text (found {shown}); "
                f"{rename if is_header else ''}insert a header such as `speaker,text`"
            )
        return None
    if len(lines := text.lstrip("\n").split("\n", 2)) == 3 and _RULE.fullmatch(lines[1].strip()[:2000]):
        text = _BAR.sub("|", f"{lines[0]}\n{lines[2]}")  # a table of Markdown
    return read_table(read_csv(text, path).rows, path, "CSV")
