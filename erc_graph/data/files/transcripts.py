"""Conversations to label: a pasted transcript, JSON, JSON lines or CSV, from a file or as they come through a pipe.

What is needed is who speaks and what is said; `dialogue`, `turn` and `features` may stand beside. Anything else that the project
reads as a corpus is a conversation to label, too.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from erc_graph.data.corpus import Corpus
from erc_graph.data.files.assembly import assemble
from erc_graph.data.files.budget import allow, content_of, reading
from erc_graph.data.files.load import load_corpus
from erc_graph.data.files.sound import ENDINGS
from erc_graph.data.files.storage import stay_inside
from erc_graph.data.files.utterance_tables import read_csv, table_annotations
from erc_graph.data.tasks import Task
from erc_graph.errors import CorpusError

EXPECTED = "expected `Speaker: text` lines, or JSON, JSON lines or CSV with `speaker` and `text`"
TASK = Task(name="unlabelled")
FLOAT32 = np.finfo(np.float32).max  # what is larger becomes inf
# Other spellings of the columns, in the order in which they are tried; MELD's CSVs call the text `Utterance`.
SPELLINGS = {
    "speaker": ("speaker", "name", "role", "author", "from", "user"),
    "text": ("text", "utterance", "sentence", "content", "message"),
    "dialogue": ("dialogue", "dialogue_id", "conversation", "conversation_id", "dialog"),
    "turn": ("turn", "utterance_id"),
}
_LISTS = ("turns", "utterances", "dialogue", "conversation", "messages", "transcript")
# `[00:12] Ann B.: text`; a name has no more than five words, so that a sentence with a colon in it is rarely taken for one. Only the
# beginning of a line, without white space in front, is asked, and no two parts of the pattern can share a character: its time is bounded.
_LINE = re.compile(
    r"(?:[\[(]?\d{1,2}:\d\d(?::\d\d)?(?:[.,]\d{1,9})?[\])]?[ \t]{0,8}(?:[-–—][ \t]{0,8})?)?"
    r"(?P<speaker>[^\s:：\[\](){}\"<>][^:：\n\"<>]{0,39})[:：](?=\s|$)"
)
_HEAD = 120  # characters of a line in which time and speaker stand
Row = dict[str, Any]


def load_transcript(source: str | os.PathLike[str] | bytes, *, name: str | None = None) -> Corpus:
    """Load the conversations in a file as a corpus without labels.

    Args:
        source: A file: plain text of `Speaker: text` lines (a line without a speaker goes on with the turn before), a JSON list of
            objects or of lists of them, JSON lines, or CSV, with `speaker`, `text` and, where wanted, `dialogue`, `turn` and
            `features` (JSON only: modality → vector). Or anything that `load_corpus` knows by its name: a folder, a `corpus.toml`,
            a pickle, a Parquet file, `sample`, `sample-raw`. Or the content itself, as bytes.
        name: What to call the conversation; the file's name where left out.

    Raises:
        CorpusError: no such file, or none of these forms; says where and what was expected.

    >>> talk = load_transcript(b"Ann: We won!\\nBob: Really?\\n  You are joking.")
    >>> talk.speakers, talk.texts[1]
    (('Ann', 'Bob'), 'Really? You are joking.')
    """
    if isinstance(source, bytes):
        path = Path(name or "standard input")
        with reading(path):
            allow(len(source))
            return _parse(source, path, name or "conversation")
    path = Path(source)
    with reading(path):
        kinds = (".toml", ".pkl", ".pickle", ".parquet", ".safetensors")
        if os.fspath(source) in ("sample", "sample-raw") or path.is_dir() or path.suffix.lower() in kinds:
            return load_corpus(source, name=name)
        try:
            content = content_of(path)
        except (OSError, ValueError) as error:
            if isinstance(error, CorpusError):
                raise
            raise CorpusError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error}); {EXPECTED}") from None
        return _parse(content, path, name or path.stem or "conversation")


def find_recordings(corpus: Corpus, folder: Path) -> dict[str, Path]:
    """Return the sound files of a conversation: utterance id → its file, of those that lie in a folder.

    Args:
        corpus: From `load_transcript`; of `talk.txt` the turns are `talk_0`, `talk_1`, …, with zeros in front where there are many.
        folder: Where `talk_0.wav`, `talk_1.wav`, … may lie; the numbers with or without zeros.
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


def _parse(content: bytes, path: Path, name: str) -> Corpus:
    if not content.strip():
        raise CorpusError(f"{path}: is empty; {EXPECTED}")
    start = content[:64].removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    if start == b"{" or (start == b"[" and not _LINE.match(content[:200].decode("utf-8", "replace").split("\n")[0].strip())):
        rows, form = _json_rows(content, path), "JSON"
    elif path.suffix.lower() in (".csv", ".tsv") or _has_header(content):
        rows, form = read_csv(content, path).rows, "CSV"
    else:
        rows, form = _plain_rows(content, path), "transcript"
    return _corpus(rows, path, form, name)


def _has_header(content: bytes) -> bool:
    """Whether the first line names the columns of a table."""
    line = content[:4096].decode("utf-8-sig", "replace").lstrip().split("\n", 1)[0]
    try:
        fields = next(csv.reader(io.StringIO(line), delimiter=max(",;\t", key=line.count)), [])
    except csv.Error:
        return False
    names = {field.strip().lower() for field in fields}
    return bool(names & {*SPELLINGS["speaker"]}) and bool(names & {*SPELLINGS["text"]})


def _plain_rows(content: bytes, path: Path) -> list[Row]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path}: not UTF-8 text (byte {error.start}); {EXPECTED}; save it as UTF-8") from None
    if "\0" in text:
        raise CorpusError(f"{path}: binary content; {EXPECTED}")
    rows: list[Row] = []
    for number, line in enumerate(text.splitlines(), start=1):
        said = line.strip()
        found = _LINE.match(said[:_HEAD])
        if found and len(found["speaker"].split()) <= 5:
            rows.append({"speaker": found["speaker"].strip(), "text": [said[found.end() :]]})
        elif not said:
            continue
        elif rows:
            rows[-1]["text"].append(said)
        else:
            raise CorpusError(f"{path}: line {number}: nobody speaks ({said[:40]!r}); {EXPECTED}")
    return [{**row, "text": " ".join(part.strip() for part in row["text"]).strip()} for row in rows]


def _json_rows(content: bytes, path: Path) -> list[Row]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError, MemoryError) as whole:
        value = []
        for number, line in enumerate(text.splitlines(), start=1):
            if not line.strip():
                continue
            try:
                value.append(json.loads(line))
            except (ValueError, RecursionError, MemoryError) as error:
                where, problem = (f"line {number}: ", error) if value else ("", whole)
                raise CorpusError(f"{path}: {where}not valid JSON ({str(problem)[:100]}); {EXPECTED}") from None
    return _rows_of(value, path)


def _rows_of(value: Any, path: Path) -> list[Row]:
    """Objects of turns out of a list of them, a list of dialogues, or an object around one of these."""
    if isinstance(value, dict):
        inner = _inside(value, (*_LISTS, "dialogues", "conversations"))
        value = [value] if inner is None else inner
    if not isinstance(value, list):
        raise CorpusError(f"{path}: a JSON {type(value).__name__}; {EXPECTED}")
    rows: list[Row] = []
    places: dict[str, int] = {}  # dialogue → the item that it is
    for number, item in enumerate(value):
        turns = _inside(item, _LISTS) if isinstance(item, dict) else item  # a dialogue with its turns inside, or a turn
        if isinstance(turns, list):
            id = (
                next((item[key] for key in ("id", "dialogue_id", "name") if isinstance(item.get(key), str | int)), None)
                if isinstance(item, dict)
                else None
            )
            if not all(isinstance(turn, dict) for turn in turns):
                raise CorpusError(f"{path}: dialogue {number}: expected a list of objects with `speaker` and `text`")
            name = f"dialogue-{number}" if id is None else str(id)
            if (first := places.setdefault(name, number)) != number:
                raise CorpusError(f"{path}: dialogue id {name[:40]!r} is used twice (items {first} and {number}); give each its own")
            rows += [{**turn, "dialogue": name} for turn in turns]
        elif isinstance(item, dict):
            rows.append(item)
        else:
            raise CorpusError(f"{path}: item {number}: expected an object with `speaker` and `text`, found a {type(item).__name__}")
    return rows


def _inside(item: Row, keys: Sequence[str]) -> list[Any] | None:
    """The list of turns or of dialogues in an object; `None` where it is a turn itself, which may have another list under such a key."""
    found: list[Any] | None = next((item[key] for key in keys if isinstance(item.get(key), list)), None)
    if found is not None and not all(isinstance(one, dict | list) for one in found) and item.keys() & {*SPELLINGS["text"]}:
        return None
    return found


def _corpus(rows: list[Row], path: Path, form: str, name: str) -> Corpus:
    if not rows:
        raise CorpusError(f"{path}: no turns in it; {EXPECTED}")
    named = [{str(key).strip().lower(): value for key, value in row.items()} for row in rows]
    known = {key for row in named for key in row}
    columns = {column: next((name for name in spellings if name in known), None) for column, spellings in SPELLINGS.items()}
    if columns["text"] is None and "features" not in known:
        raise CorpusError(f"{path}: nothing is said: no `text` and no `features` in {len(rows)} turns; {EXPECTED}")
    turn = columns["turn"]
    numbered = turn is not None and all(_filled(row.get(turn)) for row in named)

    def cell(row: Row, column: str, number: int, other: str) -> str:
        key = columns[column]
        value = None if key is None else row.get(key)
        if isinstance(value, dict | list):
            raise CorpusError(f"{path}: turn {number}: {column}: expected text, found a {type(value).__name__}")
        return str(value) if _filled(value) else other

    table = [
        {
            "dialogue": cell(row, "dialogue", i, name or "conversation"),
            "turn": cell(row, "turn", i, str(i)) if numbered else str(i),
            "speaker": cell(row, "speaker", i, "speaker"),
            "text": cell(row, "text", i, ""),
            "utterance": str(i),
        }
        for i, row in enumerate(named)
    ]
    annotations = table_annotations(table, path, form)
    order = [int(id) for id in annotations.utterance_ids]
    annotations.features, remarks = _features([named[i].get("features") for i in order], order, path)
    width = len(str(len(order)))
    annotations.utterance_ids = [f"{name}_{i:0{width}d}" for i in order]
    annotations.format = f"conversation ({form})"
    corpus = assemble(annotations, task=TASK, name=name)
    return replace(corpus, provenance={**corpus.provenance, "remarks": remarks}) if remarks else corpus


def _filled(value: Any) -> bool:
    return value is not None and value != ""


def _features(given: list[Any], order: list[int], path: Path) -> tuple[dict[str, np.ndarray], list[str]]:
    """Modality → `(U, d)`; NaN where a turn has none. JSON's vectors are checked number by number. And sentences on those that are none."""
    vectors: dict[str, dict[int, list[float]]] = {}
    for row, (turn, features) in enumerate(zip(order, given, strict=True)):
        if features is None or features == "":
            continue
        if not isinstance(features, dict):
            raise CorpusError(f"{path}: turn {turn}: features: expected an object of modality → list of numbers, found {features!r:.40}")
        for name, vector in features.items():
            if vector is None:
                continue
            if not isinstance(vector, list) or not vector or not all(type(number) in (int, float) for number in vector):
                raise CorpusError(f"{path}: turn {turn}: features.{name[:40]}: expected a list of numbers, found {vector!r:.40}")
            first = next(iter(vectors.setdefault(name, {}).values()), vector)
            if len(vector) != len(first):
                raise CorpusError(f"{path}: turn {turn}: features.{name[:40]}: {len(vector)} numbers, other turns {len(first)}")
            vectors[name][row] = vector
    arrays, remarks = {}, []
    for name, found in vectors.items():
        array = np.full((len(given), len(next(iter(found.values())))), np.nan)
        try:
            array[list(found)] = list(found.values())
        except OverflowError:
            raise CorpusError(f"{path}: features.{name[:40]}: a number that is too large") from None
        arrays[name] = array
        fine = (np.abs(array) <= FLOAT32).all(1)  # not NaN either
        if wrong := sorted(order[row] for row in found if not fine[row]):
            turns = "1 turn with NaN or inf counts" if len(wrong) == 1 else f"{len(wrong)} turns with NaN or inf count"
            remarks.append(f"features.{name[:40]}: {turns} as missing (first: turn {wrong[0]})")
    return arrays, remarks
