"""Annotation files that users of the field already have, recognised by their content.

`read_annotations` tells the container by its first bytes. Tables (CSV, JSON lines, Parquet) have one layout; what a pickle or a JSON file
holds goes through `READERS`, tried in order. A new layout is one function in a file of this folder and one line in `READERS`.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from erc_graph.data.annotations import Annotations
from erc_graph.data.files.budget import content_of
from erc_graph.data.files.formats.arrays import read_arrays
from erc_graph.data.files.formats.merge import merge_annotations
from erc_graph.data.files.formats.records import read_dialogues, read_dict, read_samples
from erc_graph.data.files.formats.refused import refuse_archive, refuse_known
from erc_graph.data.files.formats.tuples import read_tuple
from erc_graph.data.files.pickles import loads_pickle
from erc_graph.data.files.utterance_tables import NEEDED, flat_row, read_csv, read_json_lines, read_parquet, table_annotations
from erc_graph.errors import CorpusError

__all__ = ["READERS", "merge_annotations", "read_annotations"]

Reader = Callable[[Any, Path, int, str | None], Annotations | None]
"""Takes the opened content, the path for messages, the size of the file in bytes (a bound on what it may claim to hold) and the data set
where the caller knows it; gives `None` where the content is of another layout. It reads plain containers and numpy arrays alone."""

READERS: dict[str, Reader] = {
    "tuples and lists of fields": read_tuple,
    "dict of named fields": read_dict,
    "dict of samples": read_samples,
    "splits of arrays": read_arrays,
    "list of dialogues": read_dialogues,
}

# A pickle of protocol 0 or 1 has no mark; it begins with containers and memo instructions, or with the name of a class.
_OLD_PICKLE = re.compile(rb"\(*(?:[(\]}][ldtq]?[pq(\x00-\x1f\]}]|\([ldt]|c[A-Za-z_][\w.]*\n[\w.]+\n|\(?i[A-Za-z_][\w.]*\n[\w.]+\n)")


def read_annotations(path: str | Path, *, dataset: str | None = None) -> Annotations:
    """Read what an annotation file says: dialogues, speakers, texts, labels, and splits and features where it has them.

    Args:
        path: A pickle, JSON, JSON lines, CSV or Parquet file in one of the known layouts.
        dataset: The data set where the caller knows it (`corpus.toml`); it decides what integer labels mean.

    Raises:
        CorpusError: no such file; damaged, hostile or unknown content; fields that disagree.
    """
    path = Path(path)
    if path.is_dir():
        raise CorpusError(f"{path}: is a folder; expected an annotation file (a folder needs a corpus.toml that names it)")
    try:
        content = content_of(path)
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read ({error.strerror or error}); expected an annotation file") from None
    if not content.strip():
        raise CorpusError(f"{path}: is empty; expected an annotation file")
    if content.startswith(b"\x80") or _OLD_PICKLE.match(content):
        size, value = len(content), loads_pickle(content, path)
        del content  # files of padded sequences have gigabytes
        return _read_object(value, path, size, dataset)
    if content.startswith(b"PAR1"):
        return table_annotations(read_parquet(path), path, "Parquet", dataset=dataset)
    if content.startswith(b"PK\x03\x04"):
        try:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
            names = []
        refuse_archive(names, path)
    if content.startswith((b"\x1f\x8b", b"\x89HDF", b"\x93NUMPY", b"BZh", b"\xfd7zXZ")):
        raise CorpusError(
            f"{path}: compressed, HDF5 or numpy content; expected a pickle, CSV, JSON, JSON lines or Parquet file (unpack it)"
        )
    start = content[:64].removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    if start == b"[" or (start == b"{" and not _is_lines(content)):
        return _read_json(content, path, dataset)
    if start == b"{":
        rows, lines = read_json_lines(content.removeprefix(b"\xef\xbb\xbf"), path)
        return table_annotations(rows, path, "JSON lines", lines=lines, dataset=dataset)
    rows, lines, notes = read_csv(content, path)
    annotations = table_annotations(rows, path, "CSV", lines=lines, dataset=dataset)
    annotations.notes.extend(notes)
    return annotations


def _read_object(content: Any, path: Path, size: int, dataset: str | None) -> Annotations:
    for read in READERS.values():
        annotations = read(content, path, size, dataset)
        if annotations is not None:
            return annotations
    refuse_known(content, path)
    found = f"{type(content).__name__} of {len(content)}" if isinstance(content, dict | list | tuple | set) else type(content).__name__
    keys = f" with the keys {', '.join(str(key)[:30] for key in list(content)[:6])}" if isinstance(content, dict) else ""
    raise CorpusError(
        f"{path}: a {found}{keys}, none of the known layouts (tuples of 6, 7 and 9-14 fields, DnR's dict, CORECT's samples, MMSA's arrays, "
        f"DAG-ERC's dialogues); write a table with the columns {', '.join(NEEDED)}"
    )


def _is_lines(content: bytes) -> bool:
    """Whether the first line is a whole JSON object."""
    try:
        return isinstance(json.loads(content.removeprefix(b"\xef\xbb\xbf").lstrip().split(b"\n", 1)[0]), dict)
    except (ValueError, RecursionError):
        return False


def _read_json(content: bytes, path: Path, dataset: str | None) -> Annotations:
    try:
        value = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError, MemoryError) as error:
        raise CorpusError(f"{path}: truncated or corrupt JSON ({str(error)[:120]})") from None
    if isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
        rows = [flat_row(row, path, f"row {number}") for number, row in enumerate(value, start=1)]
        return table_annotations(rows, path, "JSON", dataset=dataset)
    return _read_object(value, path, len(content), dataset)
