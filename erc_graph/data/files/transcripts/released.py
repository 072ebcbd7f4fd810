"""Files of corpora as their owners release them: the readers of data sets are asked first, for other rules hold there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from erc_graph.data.annotations import Annotations
from erc_graph.data.files.transcripts.columns import heads_of
from erc_graph.data.files.utterance_tables import read_csv
from erc_graph.data.files.vocabulary import find_columns

# Of the readers of `formats`, those whose files look like a transcript of another kind. MELD's CSVs are tables under any name of the file.
ASKED = ("DailyDialog", "ConvoKit's utterances", "EmoryNLP", "EmoContext", "IEMOCAP's own files", "MMSA's label.csv")


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
    asked = [READERS[name] for name in ASKED]
    return next((found for form in forms for read in asked if (found := read(form, path, size, None)) is not None), None)
