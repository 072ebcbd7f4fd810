"""Reading of many files of conversations shard by shard. A shard is a file, or a part of a file with whole conversations.

The memory depends only on the largest shard, not on the total size. JSON lines and Parquet files are cut between conversations. In these
files, the rows of a conversation must be consecutive. Every other file is one shard. The limits of the shards depend only on the file, and
each shard is read independently of other shards. Shards can therefore be processed on any machine and in any order.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from typing import Any

from erc_graph.data.corpus import Corpus
from erc_graph.data.files.budget import admit, allow, reading
from erc_graph.data.files.load import is_corpus
from erc_graph.data.files.parquet import open_parquet
from erc_graph.data.files.sound import ENDINGS
from erc_graph.data.files.transcripts import load_transcript
from erc_graph.data.files.transcripts.turn_rows import READ
from erc_graph.data.files.vocabulary import find_columns
from erc_graph.errors import CorpusError

TURNS = 10_000  # least rows of a shard, where a file has more
BYTES = 16 << 20  # or bytes: rows with vectors are long
LINE = 64 << 20  # bytes of a line
CUT = (".jsonl", ".ndjson", ".parquet")
TABLES = (".csv", ".tsv")
MADE = ("sample", "sample-raw")
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Source:
    """An input: a file of conversations, or the folder of a corpus.

    Attributes:
        path: Path of the file or folder.
        name: Name of the result files: the path of the input, relative to the common folder of all inputs.
        size: Size in bytes.
        modified: Time of the last change, in nanoseconds.
    """

    path: Path
    name: str
    size: int = 0
    modified: int = 0


@dataclass(frozen=True, kw_only=True)
class Shard:
    """A file of conversations, or a part of such a file with only whole conversations.

    Attributes:
        source: The file to which the shard belongs.
        number: Index of the shard in the file, from 0.
        start: Position of the first byte (JSON lines), or index of the first row (Parquet).
        stop: End of the shard (exclusive); default: the whole file is read.
        first: Number of non-empty lines (JSON lines) or rows (Parquet) in the file before the shard.
        share: Fraction of the file that this shard contains, for time estimates.
        only: Whether the shard is the whole file.
    """

    source: Source
    number: int = 0
    start: int = 0
    stop: int | None = None
    first: int = 0
    share: float = 1.0
    only: bool = True

    @property
    def name(self) -> str:
        """Return the name of the file with the results of the shard, without an ending."""
        return self.source.name if self.only else f"{self.source.name}/part-{self.number:05d}"


@dataclass(frozen=True, kw_only=True)
class Refused:
    """An input whose emotions could not be predicted, and the reason. If it is a whole file or a single line, `dialogue` is empty."""

    source: str
    reason: str
    dialogue: str = ""
    line: int | None = None


# -- which files ---------------------------------------------------------------------------


def find_sources(paths: Sequence[str], outside: Path | None = None) -> Iterator[Source]:
    """Return the files at the given paths; each file occurs once. The files of a folder are sorted by name.

    Audio files, hidden files and the folder given as `outside` (for example, for results) are left out. The folder of a corpus counts as
    one file.

    Raises:
        CorpusError: one of the paths does not exist, or no file is found.
    """
    top = [path for path in paths if path not in MADE]
    for path in top:
        if not os.path.lexists(path):
            raise CorpusError(f"{path}: no such file or folder; expected transcripts, JSON, JSON lines, CSV, Parquet, or folders of them")
    full = [os.path.abspath(path) for path in top]
    root = os.path.commonpath([path if Path(path).is_dir() else os.path.dirname(path) for path in full]) if full else ""
    out = None if outside is None else os.path.abspath(outside)
    seen: set[str] = set()
    found = chain.from_iterable([path] if path in MADE else _files(os.path.abspath(path), out) for path in paths)
    for path in found:
        name = path if path in MADE else os.path.relpath(path, root)
        if name == ".":  # one folder, which is a corpus
            name = os.path.basename(path) or "corpus"
        if name in seen:
            continue
        seen.add(name)
        try:
            about = os.stat(path)
            yield Source(path=Path(path), name=name, size=about.st_size, modified=about.st_mtime_ns)
        except OSError:  # is told when it is read
            yield Source(path=Path(path), name=name)
    if not seen:
        raise CorpusError(
            f"{', '.join(paths)[:200]}: no files of conversations found; expected transcripts, JSON, JSON lines, CSV or Parquet"
        )


def _files(path: str, outside: str | None) -> Iterator[str]:
    """Return `path` itself if it is a file or a corpus; for any other folder, return its files, sorted by name."""
    if not os.path.isdir(path) or is_corpus(Path(path)):
        yield path
        return
    with os.scandir(path) as entries:
        names = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries if not entry.name.startswith("."))
    for name, folder in names:
        inner = os.path.join(path, name)
        if inner == outside or (not folder and name.lower().endswith(tuple(ENDINGS))):
            continue
        if folder:
            yield from _files(inner, outside)
        else:
            yield inner


# -- where they are cut --------------------------------------------------------------------


def cut(source: Source) -> Iterator[Shard]:
    """Divide a file into shards with only whole conversations, in the order of the file.

    A file that cannot be divided is one shard. If the file is damaged, the error is raised when this shard is read.
    """
    ending = source.path.suffix.lower()
    found = (_cut_lines if ending in CUT[:2] else _cut_rows)(source) if ending in CUT and source.path.is_file() else iter(())
    before = next(found, None)
    if before is None:
        yield Shard(source=source)
        return
    for shard in found:
        yield replace(before, only=False)
        before = replace(shard, only=False)
    yield before


def _cut_lines(source: Source) -> Iterator[Shard]:
    start = offset = number = lines = first = 0
    previous = b""
    with source.path.open("rb") as file:
        begin = list(islice((line for line in iter(lambda: file.readline(LINE), b"") if line.strip()), 5))
        if all(conversation_of(line) is None for line in begin):  # a list over many lines, or no JSON
            return
        file.seek(0)
        while line := file.readline(LINE):
            if line.strip():
                if (lines >= TURNS or offset - start >= BYTES) and _another(previous, line):
                    share = (offset - start) / max(1, source.size)
                    yield Shard(source=source, number=number, start=start, stop=offset, first=first, share=share)
                    start, number, first, lines = offset, number + 1, first + lines, 0
                lines += 1
                previous = line
            offset += len(line)
    share = (offset - start) / max(1, source.size)
    if lines:
        yield Shard(source=source, number=number, start=start, stop=offset, first=first, share=share)


def _another(previous: bytes, line: bytes) -> bool:
    """Return whether two lines of JSON can be read and belong to different conversations."""
    ours, theirs = conversation_of(line), conversation_of(previous)
    return ours is not None and theirs is not None and (ours != theirs or ours == WHOLE)


WHOLE = "\0"  # a conversation with all its turns in one line


def conversation_of(line: bytes) -> str | None:
    """Return the name of the conversation to which a line of JSON belongs; `None` if the line cannot be read."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if isinstance(value, list):
        return WHOLE
    if not isinstance(value, dict):
        return None
    key = used_columns(value).get("dialogue")
    if key is None and any(isinstance(inner, list) and inner and isinstance(inner[0], dict) for inner in value.values()):
        return WHOLE
    return str(value.get(key, "")) if key else ""


def used_columns(names: Iterable[object]) -> dict[str, str]:
    """Return the columns that are read, as a dictionary: property of an utterance (such as `speaker`) → name of the column."""
    return {what: name for what, name in find_columns(names).items() if what in READ}


def _cut_rows(source: Source) -> Iterator[Shard]:
    """Divide a Parquet file into shards with whole conversations. The rows of a conversation must be consecutive."""
    start = number = row = 0
    try:
        with reading(source.path):
            file = open_parquet(source.path)
            total, column = file.metadata.num_rows, used_columns(file.schema_arrow.names).get("dialogue")
            size = sum(file.metadata.row_group(i).total_byte_size for i in range(file.metadata.num_row_groups))
        most = max(1, min(TURNS, int(BYTES / max(1.0, size / max(1, total)))))
        previous: object = None
        if column and total > most:
            for values in _columns(file, column, source.path):
                for value in values:
                    if row - start >= most and value != previous:
                        yield Shard(source=source, number=number, start=start, stop=row, first=start, share=(row - start) / total)
                        start, number = row, number + 1
                    previous = value
                    row += 1
    except (CorpusError, OSError, ValueError):  # pyarrow's errors are these; a worker comes upon it again, and it is refused
        if not number:
            return
        total = row + 1
    if total > start:
        yield Shard(source=source, number=number, start=start, stop=total, first=start, share=(total - start) / total)


def _columns(file: Any, column: str, path: Path) -> Iterator[list[object]]:
    """Return the values of a column of a Parquet file, as lists of up to 65536 values."""
    batches = file.iter_batches(batch_size=1 << 16, columns=[column])
    while True:
        with reading(path):
            admit(path)
            batch = next(batches, None)
            values = None if batch is None else batch.column(0).to_pylist()
        if values is None:
            return
        yield values


# -- what is in them -----------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Records:
    """The rows of one conversation or of a shard (a part of a file with whole conversations), as lines of JSON.

    Attributes:
        lines: Lines, each with one JSON object or list.
        numbers: Numbers of the lines or Parquet rows in their file, from 1.
        first: Number of non-empty lines in the file before `lines`.
        spoilt: Line number of an unreadable line that may belong to the same conversation as `lines`; `None` without such a line.
    """

    lines: list[bytes]
    numbers: list[int]
    first: int = 0
    spoilt: int | None = None

    def corpus(self, name: str) -> Corpus:
        """Return the conversations as a corpus.

        Raises:
            CorpusError: a line is unreadable or has invalid values, or there are no utterances.
        """
        corpus = load_transcript(b"[%s]" % b",".join(self.lines), name=name)
        if not self.first or conversation_of(self.lines[0]) != WHOLE:
            return corpus
        own = [_unnamed(id, self.lines, self.first) for id in corpus.dialogue_ids]
        return replace(corpus, dialogue_ids=tuple(own))

    def split(self) -> Iterator[tuple[str, Records]]:
        """Return the conversations one by one with their names. A line that cannot be read counts as a separate conversation."""
        keys = [conversation_of(line) for line in self.lines]
        near: dict[object, int] = {}  # a turn of theirs may stand in such a line
        for row, key in enumerate(keys):
            if key is None:
                for step in (1, -1):
                    near.setdefault(next((one for one in keys[row::step] if one is not None), WHOLE), self.numbers[row])
        groups: dict[object, list[int]] = {}
        for row, key in enumerate(keys):
            groups.setdefault(row if key in (None, WHOLE) else key, []).append(row)
        for rows in groups.values():
            key = keys[rows[0]]
            yield (
                "" if key in (None, WHOLE) else str(key),
                Records(
                    lines=[self.lines[row] for row in rows],
                    numbers=[self.numbers[row] for row in rows],
                    first=self.first + rows[0],
                    spoilt=self.numbers[rows[0]] if key is None else None if key == WHOLE else near.get(key),
                ),
            )


def _unnamed(id: str, lines: list[bytes], first: int) -> str:
    """Return a name for a conversation without a name; the name contains the position of the conversation in the file."""
    head, _, place = id.rpartition("-")
    if head != "dialogue" or not place.isdecimal() or int(place) >= len(lines) or f'"{id}"'.encode() in lines[int(place)]:
        return id
    return f"dialogue-{first + int(place)}"


def records_of(shard: Shard) -> Records:
    """Read the rows of a shard (a part of a JSON lines or Parquet file with whole conversations).

    Raises:
        CorpusError: the file cannot be read.
    """
    path = shard.source.path
    with reading(path):
        if path.suffix.lower() == ".parquet":
            rows = _open_rows(path, shard.source.modified).take(shard.start, shard.stop or 0)
            lines = [json.dumps(row, default=str).encode("ascii") for row in map(_filled, rows)]
            return Records(lines=lines, numbers=list(range(shard.start + 1, shard.start + len(lines) + 1)), first=shard.first)
        with path.open("rb") as file:
            file.seek(shard.start)
            content = file.read((shard.stop or 0) - shard.start)
        allow(len(content))
        content = content.removeprefix(b"\xef\xbb\xbf") if not shard.start else content
        kept = [(number, line) for number, line in enumerate(content.split(b"\n"), start=shard.first + 1) if line.strip()]
        return Records(lines=[line for _, line in kept], numbers=[number for number, _ in kept], first=shard.first)


def _filled(row: Row) -> Row:
    return {key: value for key, value in row.items() if value is not None and not (isinstance(value, float) and value != value)}


class _Rows:
    """Rows of a Parquet file, read from start to end. Row groups before the first requested row are skipped."""

    def __init__(self, path: Path) -> None:
        self.file, self.at = open_parquet(path), 0
        self.batches: Iterator[Any] = iter(())
        self.rest: Any = None
        self.groups: list[int] = [self.file.metadata.row_group(i).num_rows for i in range(self.file.metadata.num_row_groups)]

    def take(self, start: int, stop: int) -> list[Row]:
        group, begins = self._group(start)
        if self.rest is None or start < self.at or self.at < begins:
            self.at = begins
            self.batches = self.file.iter_batches(batch_size=2048, row_groups=list(range(group, len(self.groups))))
            self.rest = next(self.batches)
        found: list[Row] = []
        while self.at < stop:
            if self.at + self.rest.num_rows <= start:
                self.at += self.rest.num_rows
            else:
                skip, take = max(0, start - self.at), min(self.rest.num_rows, stop - self.at)
                found += self.rest.slice(skip, take - skip).to_pylist()
                self.at += take
                if take < self.rest.num_rows:
                    self.rest = self.rest.slice(take)
                    break
            self.rest = next(self.batches, self.rest.slice(0, 0))
            if not self.rest.num_rows:
                break
        return found

    def _group(self, row: int) -> tuple[int, int]:
        """Return the index of the row group that contains a row, and the index of the first row in this group."""
        begins = 0
        for group, rows in enumerate(self.groups):
            if row < begins + rows:
                return group, begins
            begins += rows
        raise CorpusError(f"row {row}: the file now has only {begins} rows, so it was changed during reading; run the command again")


@lru_cache(maxsize=1)
def _open_rows(path: Path, modified: int) -> _Rows:
    return _Rows(path)
