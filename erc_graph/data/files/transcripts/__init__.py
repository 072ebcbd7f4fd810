"""Reading of transcripts, subtitles and chats from a file or a pipe, as conversations without labels.

The format is recognised by the content. `TEXTS` is the list of functions that read text. `VALUES` is the list of functions that read JSON.
These functions are called in the order of the lists until one recognises the content. A new format needs one function in a file of this
folder and one line in a list. The functions report their assumptions with `note`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from erc_graph.data.corpus import Corpus
from erc_graph.data.files.assembly import assemble
from erc_graph.data.files.budget import allow, content_of, reading
from erc_graph.data.files.encoding import decode
from erc_graph.data.files.json_text import parse_json
from erc_graph.data.files.load import load_corpus
from erc_graph.data.files.notes import noting
from erc_graph.data.files.sound import ENDINGS
from erc_graph.data.files.storage import stay_inside
from erc_graph.data.files.transcripts.chat_json import read_messages
from erc_graph.data.files.transcripts.chats import read_chat
from erc_graph.data.files.transcripts.columns import read_columns
from erc_graph.data.files.transcripts.cues import read_cues
from erc_graph.data.files.transcripts.lines import read_lines
from erc_graph.data.files.transcripts.names import HEAD
from erc_graph.data.files.transcripts.recognisers import read_recognised
from erc_graph.data.files.transcripts.released import read_released
from erc_graph.data.files.transcripts.strangers import is_book, refuse_binary, refuse_text
from erc_graph.data.files.transcripts.talk import EXPECTED, Talk, to_corpus
from erc_graph.data.files.transcripts.tiers import read_tiers
from erc_graph.data.files.transcripts.turn_rows import read_rows, read_table
from erc_graph.data.files.workbooks import read_workbook
from erc_graph.errors import CorpusError

TEXTS: dict[str, Callable[[str, Path], Talk | None]] = {
    "annotation tools": read_tiers,
    "subtitles": read_cues,
    "chats": read_chat,
    "table": read_columns,
    "lines of names": read_lines,
}
VALUES: dict[str, Callable[[Any, Path], Talk | None]] = {
    "speech recognisers": read_recognised,
    "chats": read_messages,
    "rows": read_rows,
}


A_TURN = 50  # lines or JSON objects of one, at most, where turns are bounded


def load_transcript(source: str | os.PathLike[str] | bytes, *, name: str | None = None, most: int | None = None) -> Corpus:
    """Load the conversations in a file as a corpus without labels.

    Times are stored in the annotations of the corpus: `start` and `end` are seconds of a recording, `time` is the time exactly as in the
    file. Every assumption about the file is printed on standard error and stored under `notes` in `provenance` of the corpus.

    Args:
        source: A file, or its content as bytes. The file can be a text: lines of `Speaker: text`, subtitles, exports of speech recognisers
            and chats, or annotations of ELAN, Praat and CHAT. A line without a speaker continues the utterance above. The file can be a
            table: JSON, JSON lines or CSV with `speaker`, `text`, and optionally `dialogue`, `turn` and `features` (only JSON: modality →
            vector). The source can also be a corpus that `load_corpus` recognises by its name, such as a folder, a Parquet file or
            `sample`.
        name: Name of the conversation; default: the name of the file.
        most: Largest number of utterances, unless the source is a corpus; default: no limit.

    Raises:
        CorpusError: the file is missing, has none of these formats, or has too many utterances. The message names the recognised format,
            what is missing and what to do.

    >>> talk = load_transcript(b"Ann: We won!\\nBob: Really?\\n  You are joking.")
    >>> talk.speakers, talk.texts[1]
    (('Ann', 'Bob'), 'Really? You are joking.')
    """
    if isinstance(source, bytes):
        path = Path(name or "standard input")
        with reading(path), noting() as notes:
            allow(len(source))
            return _with_notes(_parse(source, path, name or "conversation", most), notes)
    path = Path(source)
    with reading(path), noting() as notes:
        kinds = (".toml", ".pkl", ".pickle", ".parquet", ".safetensors")
        if os.fspath(source) in ("sample", "sample-raw") or path.is_dir() or path.suffix.lower() in kinds:
            return load_corpus(source, name=name)
        try:
            content = content_of(path)
        except (OSError, ValueError) as error:
            if isinstance(error, CorpusError):
                raise
            raise CorpusError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error}); {EXPECTED}") from None
        return _with_notes(_parse(content, path, name or path.stem or "conversation", most), notes)


def find_recordings(corpus: Corpus, folder: Path) -> dict[str, Path]:
    """Return a dictionary utterance id → audio file, for all utterances that have an audio file in a folder.

    Args:
        corpus: Result of `load_transcript`. The utterances of `talk.txt` have the ids `talk_0`, `talk_1`, …; in long transcripts, the
            numbers have leading zeros, such as `talk_007`.
        folder: Folder with `talk_0.wav`, `talk_1.wav`, …; leading zeros of the numbers are optional.
    """
    try:
        inside = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in ENDINGS and not path.name.startswith(".")]
        files = {path.stem: path for path in inside if path.is_file()}  # a pipe would be waited for
    except OSError:
        return {}
    found = {}
    for name in corpus.utterance_ids:
        head, _, number = name.rpartition("_")
        path = files.get(name) or (files.get(f"{head}_{int(number)}") if number.isdecimal() else None)
        if path is not None:
            found[name] = stay_inside(path)
    return found


def _with_notes(corpus: Corpus, notes: list[str]) -> Corpus:
    said = list(dict.fromkeys([*corpus.provenance.get("notes", ()), *notes]))
    return replace(corpus, provenance={**corpus.provenance, "notes": said}) if notes else corpus


def _parse(content: bytes, path: Path, name: str, most: int | None = None) -> Corpus:
    if not content.strip():
        raise CorpusError(f"{path}: is empty; {EXPECTED}")
    if is_book(content):
        if not path.is_file():
            raise CorpusError(f"{path}: an Excel workbook cannot be read from a pipe; give the file itself, or save it as CSV")
        book = read_workbook(path)
        return to_corpus(read_table(book.rows, path, book.format), path, name, most)
    refuse_binary(content, path)
    text = decode(content, path).replace("\r\n", "\n").replace("\r", "\n")
    if not text.strip("\ufeff \n\t"):
        raise CorpusError(f"{path}: is empty; {EXPECTED}")
    refuse_text(text, path)
    if most is not None:  # before millions of turns are made
        what, count = ("objects", text.count("{")) if _is_json(text) else ("lines", text.count("\n"))
        if count > A_TURN * most:
            raise CorpusError(f"{path}: {count} {what}; expected at most {most} utterances; divide the file")
    value = _json(text, path) if _is_json(text) else text
    if (annotations := read_released(value, path, len(content))) is not None:
        return assemble(replace(annotations, dataset=None), name=name)  # a part of a data set has no published counts
    readers: Iterable[Callable[[Any, Path], Talk | None]] = TEXTS.values() if isinstance(value, str) else VALUES.values()
    return to_corpus(next(found for read in readers if (found := read(value, path)) is not None), path, name, most)


def _json(text: str, path: Path) -> Any:
    def refused(line: int | None, problem: Exception) -> CorpusError:
        where = "" if line is None else f"line {line}: "
        return CorpusError(f"{path}: {where}not valid JSON ({str(problem)[:100]}); {EXPECTED}")

    return parse_json(text, refused)


_NUMBERS = re.compile(r"-?\d{1,20}(?:\.\d{1,20})?\s{0,20}(?:,|\]\s{0,20}$)")


def _is_json(text: str) -> bool:
    """Return whether a text begins like JSON, and not like a transcript: `[00:12] Ann: …`, `[SPEAKER_00] …` or `{\\an8}`."""
    start = text[:HEAD].lstrip()
    inner = start[1:].lstrip()
    if start[:1] == "{":
        return inner[:1] in ('"', "}", "")
    return start[:1] == "[" and (inner[:1] in ("{", "[", "]", '"', "") or _NUMBERS.match(inner) is not None)
