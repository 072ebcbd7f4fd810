"""Files of corpora as their owners release them: the readers of data sets are asked first, for other rules hold there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from erc_graph.data.annotations import Annotations
from erc_graph.data.files.transcripts.columns import heads_of
from erc_graph.data.files.utterance_tables import read_csv
from erc_graph.data.files.vocabulary import find_columns

# Layouts of features, and tables that are read here as well, under any name of the file.
_GENERAL = (
    "tuples and lists of fields", "dict of named fields", "dict of samples", "splits of arrays", "list of dialogues", "table of utterances",
    "MELD's CSVs",
)  # fmt: skip


def read_released(content: Any, path: Path, size: int) -> Annotations | None:
    """Ask the readers of data sets about the content; `None` where it is none that they know.

    Args:
        content: Text, or what JSON holds.
        path: For messages, and for what lies beside it.
        size: Of the file, in bytes.

    Raises:
        CorpusError: a file of a data set that is damaged.
    """
    from erc_graph.data.files.formats import READERS

    forms = [content]
    if isinstance(content, str) and len(find_columns(heads_of(content))) > 1:
        forms.append(read_csv(content, path))
    asked = [read for name, read in READERS.items() if name not in _GENERAL]
    return next((found for form in forms for read in asked if (found := read(form, path, size, None)) is not None), None)
