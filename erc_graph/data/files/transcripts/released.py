"""Files of corpora as their owners release them: the readers of data sets are asked first, for other rules hold there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from erc_graph.data.annotations import Annotations
from erc_graph.data.files.transcripts.columns import heads_of
from erc_graph.data.files.utterance_tables import read_csv
from erc_graph.data.files.vocabulary import find_columns
from erc_graph.errors import CorpusError

# Of the readers of `formats`, those whose files look like a transcript of another kind. MELD's CSVs are tables under any name of the file.
ASKED = ("DailyDialog", "ConvoKit's utterances", "EmoryNLP", "EmoContext", "IEMOCAP's own files", "MMSA's label.csv")

_EMOTIONS = re.compile(r"[0-6](?:[ \t\n]+[0-6])+")
_BESIDE = {"iemocap": ", dialog/transcriptions"}


def read_released(content: Any, path: Path, size: int) -> Annotations | None:
    """Ask the readers of data sets about the content; `None` where it is none that they know.

    Args:
        content: Text, or what JSON holds.
        path: For messages, and for what lies beside it.
        size: Of the file, in bytes.

    Raises:
        CorpusError: a file of a data set that is damaged, or has labels and no texts.
    """
    from erc_graph.data.files.formats import READERS

    forms = [content]
    if isinstance(content, str) and len(find_columns(heads_of(content))) > 1:
        forms.append(read_csv(content, path))
    if isinstance(content, str) and _EMOTIONS.fullmatch(content[:100_000].strip()):
        raise CorpusError(f"{path}: numbers alone, such as DailyDialog's emotions: give dialogues_text.txt, which has what is said")
    asked = [READERS[name] for name in ASKED]
    found = next((found for form in forms for read in asked if (found := read(form, path, size, None)) is not None), None)
    if found is not None and not any(found.texts):
        raise CorpusError(
            f"{path}: {found.format}: labels without what is said; give the file that has the texts{_BESIDE.get(found.dataset or '', '')}"
        )
    return found
