"""Opening of annotation files: bytes are converted to lists and dicts, a table or text, before the format is recognised.

Pickles and JSON files become lists and dicts, and JSON lines become a list. Parquet and Excel files become a `Table`. Any other text
becomes a string.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

from erc_graph.data.files.encoding import decode
from erc_graph.data.files.formats.refused import refuse_archive, refuse_foreign
from erc_graph.data.files.json_text import parse_json
from erc_graph.data.files.pickles import loads_pickle
from erc_graph.data.files.utterance_tables import read_parquet
from erc_graph.data.files.workbooks import is_workbook, read_workbook
from erc_graph.errors import CorpusError

# A pickle of protocol 0 or 1 has no mark; it begins with containers and memo instructions, or with the name of a class.
_OLD_PICKLE = re.compile(rb"\(*(?:[(\]}][ldtq]?[pq(\x00-\x1f\]}]|\([ldt]|c[A-Za-z_][\w.]*\n[\w.]+\n|\(?i[A-Za-z_][\w.]*\n[\w.]+\n)")
_JSON = re.compile(r"\s*(?:\{|\[\s*[\[{\"\]])")  # not the `[00:12]` or `[6.29 - 8.23]` that lines of a transcript begin with


def open_content(content: bytes, path: Path) -> Any:
    """Return the content of a file, given its bytes.

    Raises:
        CorpusError: the file is empty, damaged, malicious, or of a kind without annotations, such as PDF. The message names the kind.
    """
    if not content.strip():
        raise CorpusError(f"{path}: is empty; expected an annotation file")
    if content.startswith(b"\x80") or _OLD_PICKLE.match(content):
        return loads_pickle(content, path)
    if content.startswith(b"PAR1"):
        return read_parquet(path)
    if content.startswith(b"PK\x03\x04"):
        try:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
            names = []
        if is_workbook(names):
            return read_workbook(path)
        refuse_archive(names, path)
    refuse_foreign(content, path)
    text = decode(content, path)
    return _json(text, path) if _JSON.match(text) else text


def _json(text: str, path: Path) -> Any:
    def refused(line: int | None, problem: Exception) -> CorpusError:
        if line is None:
            return CorpusError(f"{path}: truncated or corrupt JSON ({str(problem)[:120]})")
        return CorpusError(f"{path}: line {line}: not valid JSON; expected one object per line")

    return parse_json(text, refused)
