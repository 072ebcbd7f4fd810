"""Reading of files of released data sets. These formats are tested before others, because the files look like transcripts."""

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
    """Read a file of a released data set; return `None` if the content is not a file of a known data set.

    Args:
        content: Text, or the value of a JSON file.
        path: Path of the file, used in messages and to find files in the same folder.
        size: Size of the file in bytes.

    Raises:
        CorpusError: the file of a data set is damaged, or has labels but no texts.
    """
    from erc_graph.data.files.formats import READERS

    forms = [content]
    if isinstance(content, str) and len(find_columns(heads_of(content))) > 1:
        forms.append(read_csv(content, path))
    if isinstance(content, str) and _EMOTIONS.fullmatch(content[:100_000].strip()):
        raise CorpusError(
            f"{path}: contains only numbers, such as the emotions of DailyDialog; give dialogues_text.txt, which has the texts"
        )
    asked = [READERS[name] for name in ASKED]
    found = next((found for form in forms for read in asked if (found := read(form, path, size, None)) is not None), None)
    if found is not None and not any(found.texts):
        raise CorpusError(
            f"{path}: {found.format}: labels without texts; give the file that has the texts{_BESIDE.get(found.dataset or '', '')}"
        )
    return found
