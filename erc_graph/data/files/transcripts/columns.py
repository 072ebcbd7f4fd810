"""Tables as text: CSV and its relatives with a header, and two columns without."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from erc_graph.data.files.transcripts.rows import read_table
from erc_graph.data.files.transcripts.talk import Talk
from erc_graph.data.files.utterance_tables import read_csv
from erc_graph.data.files.vocabulary import find_columns
from erc_graph.errors import CorpusError


def read_columns(text: str, path: Path) -> Talk | None:
    """Read a table whose first line names its columns; `None` where it does not.

    Raises:
        CorpusError: a file called .csv without such a line, or a damaged table.
    """
    lines = text.lstrip().split("\n", 2)
    first = lines[1] if lines[0].lower().startswith("sep=") and len(lines) > 1 else lines[0]
    first = first.rstrip("\r")[:4000]
    separator = max(",;\t|", key=first.count)
    try:
        fields = next(csv.reader(io.StringIO(first), delimiter=separator), [])
    except csv.Error:
        fields = []
    columns = find_columns(field.strip() for field in fields)
    named = "text" in columns and all(len(field) <= 64 for field in fields)
    if not (named and (len(columns) > 1 or (len(fields) == 1 and path.suffix.lower() in (".csv", ".tsv")))):
        if path.suffix.lower() == ".csv":
            shown = ", ".join(field.strip()[:30] for field in fields[:8])
            raise CorpusError(
                f"{path}: the first line names no column with the text (found {shown}); put a line such as `speaker,text` above"
            )
        return None
    rows, _, _ = read_csv(text.encode("utf-8", "surrogatepass"), path)
    return read_table(rows, path, "CSV")
