"""Export of a corpus as a table that `load_corpus` and spreadsheet programs can read. Features are not exported."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

from erc_graph.data.annotations import TIMES
from erc_graph.data.corpus import Corpus
from erc_graph.data.files.storage import atomic_write
from erc_graph.errors import ConfigError

TABLES = (".csv", ".jsonl")


def turns(corpus: Corpus) -> list[dict[str, Any]]:
    """Return one row per utterance: `dialogue`, `turn`, `speaker`, `text`, `utterance`, and further columns if the corpus has them.

    The further columns are `label`, `sentiment`, `start` and `end` (seconds), `time` (exactly as in the file), and `split`.

    The column `label` contains the labels of the annotation files, not the classes of the task. Any task can therefore be chosen when the
    table is loaded. If the corpus has scores, the column `sentiment` contains the scores. If the task has sentiment classes, the column
    `sentiment` contains the class names instead.
    """
    scored = "score" in corpus.annotations and corpus.task.column != "sentiment"
    sources = {"label": "label", "sentiment": "score" if scored else "sentiment", **{name: name for name in TIMES}}
    columns = {name: corpus.annotations[key] for name, key in sources.items() if corpus.annotations.get(key)}
    split_of = {dialogue: split for split, ids in corpus.splits.items() for dialogue in ids}
    rows: list[dict[str, Any]] = []
    for dialogue, start, end in zip(corpus.dialogue_ids, corpus.ptr[:-1].tolist(), corpus.ptr[1:].tolist(), strict=True):
        for row in range(start, end):
            values = {
                "dialogue": dialogue,
                "turn": row - start,
                "speaker": corpus.speakers[row],
                "text": corpus.texts[row] if corpus.texts else "",
                "utterance": corpus.utterance_ids[row],
                **{name: column[row] for name, column in columns.items()},
            }
            rows.append(values | ({"split": split_of.get(dialogue)} if split_of else {}))
    return rows


def write_turns(corpus: Corpus, path: str | os.PathLike[str]) -> Path:
    """Write the rows that `turns` returns for a corpus to a CSV or JSON lines file, atomically.

    Raises:
        ConfigError: the file name ends in neither `.csv` nor `.jsonl`.
        StorageError: the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in TABLES:
        raise ConfigError(f"{path}: expected a file name ending in {' or '.join(TABLES)}, found {path.suffix or 'no ending'!r}")
    rows = turns(corpus)
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8", errors="replace") as file:
        if path.suffix.lower() == ".jsonl":
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        else:
            writer = csv.DictWriter(file, list(rows[0]) if rows else [])
            writer.writeheader()
            writer.writerows(rows)
    return path
