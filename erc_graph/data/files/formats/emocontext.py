"""Reader of EmoContext (SemEval 2019, task 3): three utterances per row, with the emotion of the last utterance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from erc_graph.data.annotations import Annotations
from erc_graph.data.files.media import split_of_name
from erc_graph.data.files.notes import note
from erc_graph.data.files.utterance_tables import Table, assemble_rows, cell

TURNS = ("turn1", "turn2", "turn3")


def read_emocontext(content: Any, path: Path, size: int, dataset: str | None = None) -> Annotations | None:
    """Read the rows of EmoContext, with `id`, `turn1`, `turn2`, `turn3` and `label`; return `None` if the content has another form.

    A row is a conversation of two speakers; only its last utterance is labelled.

    Raises:
        CorpusError: an `id` is empty or occurs twice.
    """
    if not isinstance(content, Table) or not {"id", *TURNS} <= {*content.columns}:
        return None
    split = split_of_name(path) or ""
    rows, places = [], []
    for row, place in zip(content.rows, content.places, strict=True):
        for number, name in enumerate(TURNS):
            label = cell(row.get("label")) if number == 2 else ""
            rows.append(
                {
                    "dialogue": cell(row["id"]), "turn": str(number), "speaker": "ABA"[number], "text": cell(row[name]), "label": label,
                    "split": split,
                }
            )  # fmt: skip
            places.append(place)
    note(f"{path.name}: EmoContext labels only the last of three utterances; the first two are context")
    return assemble_rows(rows, path, places, "EmoContext", dataset)
