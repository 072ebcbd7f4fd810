"""Conversion of all inputs that `Pipeline.predict` accepts to corpora. A string is always text, and a `Path` is always a file.

| input | meaning |
|---|---|
| a corpus, a dialogue | the corpus, the dialogue |
| a string | a conversation of one utterance |
| a list of strings | one conversation of one speaker, with one utterance per string |
| a `pathlib.Path` | the conversations in a file, read by `load_transcript` |
| a list of dicts, a pandas table | utterances with the fields `speaker`, `text` and the other fields of a JSON file of conversations |
| a list of several inputs | the conversations of all inputs, in order; lists of strings are named `conversation_0`, `conversation_1`, … |
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from torch import Tensor

from erc_graph.data.corpus import Corpus, Dialogue
from erc_graph.data.files.notes import note
from erc_graph.data.files.transcripts import load_transcript
from erc_graph.data.files.transcripts.talk import NOBODY, Talk, Turn, to_corpus
from erc_graph.data.printable import one_line
from erc_graph.errors import CorpusError

Given = (
    Corpus | Dialogue | str | os.PathLike[str] | Iterable[Dialogue | Corpus | str | os.PathLike[str] | Sequence[str] | Mapping[str, Any]]
)
_EXPECTED = "predict: expected a corpus, dialogues, a string (one utterance), strings (one conversation), or files as pathlib.Path"


def corpora_of(given: Given, name: str = "conversation") -> Iterator[tuple[Corpus, Path | None]]:
    """Yield every corpus of an input, together with the folder of its file (`None` if the corpus was not read from a file).

    Args:
        given: The input; the table in the module docstring lists its types.
        name: Name of a conversation that is given as strings.

    Raises:
        CorpusError: the type of the input is not in the table, the input mixes strings with other objects, or a file cannot be read.
    """
    if isinstance(given, Corpus | Dialogue):
        yield (given if isinstance(given, Corpus) else given.corpus), None
    elif isinstance(given, str):
        yield _spoken([given], name), None
    elif isinstance(given, os.PathLike):
        yield load_transcript(given), Path(given).parent
    elif isinstance(given, Iterable) and not isinstance(given, bytes | bytearray | Mapping | Set | Tensor):
        table: Any = given
        parts: list[Any] = table.to_dict("records") if hasattr(table, "to_dict") else list(table)
        if parts and all(isinstance(part, Mapping) for part in parts):
            rows = [{key: value for key, value in part.items() if not _is_nan(value)} for part in parts]
            yield load_transcript(json.dumps(rows, default=str).encode(), name=name), None
            return
        others = [part for part in parts if not isinstance(part, str)]
        if parts and not others:
            yield _spoken(parts, name), None
        elif len(others) < len(parts):
            raise CorpusError(f"{_EXPECTED}; found strings mixed with {type(others[0]).__name__}; predict strings separately")
        if others and all(isinstance(part, tuple) and len(part) == 2 for part in others):
            raise CorpusError(f'{_EXPECTED}; found tuples of two values; write an utterance as {{"speaker": …, "text": …}}')
        stems = Counter(Path(part).stem for part in others if isinstance(part, os.PathLike))
        for number, part in enumerate(others):
            if isinstance(part, os.PathLike) and stems[Path(part).stem] > 1:  # files of one name stay apart
                yield load_transcript(part, name=os.fspath(part)), Path(part).parent
            else:
                yield from corpora_of(part, f"{name}_{number}")
    else:
        raise CorpusError(f"{_EXPECTED}; found {type(given).__name__}")


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and value != value


def _spoken(texts: Sequence[str], name: str) -> Corpus:
    """Return the corpus of one conversation with one utterance per string; a note warns if a string is a file name or has several lines."""
    for text in texts:
        if os.path.isfile(text):
            note(f"{one_line(text)!r} is read as the text of an utterance; to read the file, give pathlib.Path({one_line(text)!r})")
    alone = len(texts) == 1
    if alone and "\n" in texts[0].strip():
        note("the lines of a string are read as one utterance; load_transcript(text.encode()) reads the utterances of a transcript")
    speaker = NOBODY if alone else ""  # of one turn it does not matter who speaks
    return to_corpus(Talk(form="strings", turns=[Turn(text=text, speaker=speaker) for text in texts]), Path("strings"), name)
