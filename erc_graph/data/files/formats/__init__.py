"""Readers of published annotation formats. The format of a file is recognised by its content.

`open_content` returns the content of a file as lists and dicts, a `Table` or text. JSON lines become a list. The functions in `READERS` are
then called in order until one recognises the content. If no reader recognises a list of JSON objects or a text, the content is converted to
a table, and the readers are called again. To add a format, write one file with one function in this folder, and add one line to `READERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from erc_graph.data.annotations import Annotations
from erc_graph.data.files.budget import content_of
from erc_graph.data.files.formats.arrays import read_arrays
from erc_graph.data.files.formats.clips import read_label_table, read_without_ids, read_words
from erc_graph.data.files.formats.conversations import read_conversations
from erc_graph.data.files.formats.convokit import read_convokit
from erc_graph.data.files.formats.dailydialog import read_dailydialog
from erc_graph.data.files.formats.emocontext import read_emocontext
from erc_graph.data.files.formats.emorynlp import read_emorynlp
from erc_graph.data.files.formats.goemotions import read_goemotions
from erc_graph.data.files.formats.iemocap import read_iemocap
from erc_graph.data.files.formats.meld import read_meld
from erc_graph.data.files.formats.merge import merge_annotations
from erc_graph.data.files.formats.opening import open_content
from erc_graph.data.files.formats.records import read_dialogues, read_dict, read_samples
from erc_graph.data.files.formats.refused import refuse_known, refuse_talk
from erc_graph.data.files.formats.tuples import read_tuple
from erc_graph.data.files.utterance_tables import NEEDED, json_table, read_csv, read_table
from erc_graph.data.files.vocabulary import find_columns
from erc_graph.errors import CorpusError

__all__ = ["READERS", "merge_annotations", "read_annotations"]

Reader = Callable[[Any, Path, int, str | None], Annotations | None]
"""A function of the opened content, the path (for messages), the size of the file in bytes and the name of the data set, if known.

The function returns `None` if the content has another format. The size limits how many utterances a file may claim to have.
"""

READERS: dict[str, Reader] = {
    "DailyDialog": read_dailydialog,
    "ConvoKit's utterances": read_convokit,
    "EmoryNLP": read_emorynlp,
    "EmoContext": read_emocontext,
    "MELD's CSVs": read_meld,
    "GoEmotions": read_goemotions,
    "IEMOCAP's own files": read_iemocap,
    "JSON of conversations": read_conversations,
    "list of dialogues": read_dialogues,
    "tuples and lists of fields": read_tuple,
    "dict of named fields": read_dict,
    "dict of samples": read_samples,
    "splits of arrays": read_arrays,
    "splits of arrays without ids": read_without_ids,
    "splits of words with frames": read_words,
    "MMSA's label.csv": read_label_table,
    "table of utterances": read_table,
}


def read_annotations(path: str | Path, *, dataset: str | None = None) -> Annotations:
    """Read an annotation file: dialogues, speakers, texts, labels, and splits and features if the file has them.

    Args:
        path: A file in one of the known formats.
        dataset: Name of the data set, if `corpus.toml` gives one. The name determines the meaning of integer labels.

    Raises:
        CorpusError: the file is missing, damaged, malicious or of an unknown format, or its contents (such as labels and speakers)
            contradict each other.
    """
    path = Path(path)
    if path.is_dir():
        raise CorpusError(f"{path}: is a folder; expected an annotation file, or a folder with a corpus.toml that names an annotation file")
    try:
        content = content_of(path)
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read ({error.strerror or error}); expected an annotation file") from None
    size, value = len(content), open_content(content, path)
    del content  # files of padded sequences have gigabytes
    for form in _forms(value, path):
        for read in READERS.values():
            annotations = read(form, path, size, dataset)
            if annotations is not None:
                return annotations
    refuse_known(value, path)
    found = f"{type(value).__name__} of {len(value)}" if isinstance(value, dict | list | tuple | set) else type(value).__name__
    keys = f" with the keys {', '.join(str(key)[:30] for key in list(value)[:6])}" if isinstance(value, dict) else ""
    raise CorpusError(
        f"{path}: the content, a {found}{keys}, has none of the known formats ({', '.join(READERS)}); "
        f"write a table with the columns {', '.join(NEEDED)}"
    )


def _forms(value: Any, path: Path) -> Iterator[Any]:
    """Return `value` itself, and then the same content as a table if `value` is a text, a JSON object or a list of JSON objects."""
    yield value
    if isinstance(value, str):
        refuse_talk(value, path)
        yield read_csv(value, path)
    elif isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
        yield json_table(value, "JSON")
    elif isinstance(value, dict) and "text" in find_columns(value) and all(_is_json(part) for part in value.values()):
        yield json_table([value], "JSON")


def _is_json(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float | list | dict)
