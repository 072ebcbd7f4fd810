"""Reader of EmoryNLP (Zahiri and Choi, 2018): the CSV files that are distributed with MELD, and the official JSON files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from erc_graph.data.annotations import Annotations
from erc_graph.data.files.media import split_of_name
from erc_graph.data.files.notes import note
from erc_graph.data.files.utterance_tables import Table, assemble_rows, cell
from erc_graph.errors import CorpusError

COLUMNS = ("Utterance", "Speaker", "Emotion", "Scene_ID", "Utterance_ID", "Season", "Episode")
_NAME = re.compile(r"'([^']*)'|\"([^\"]*)\"")

Row = dict[str, str]


def read_emorynlp(content: Any, path: Path, size: int, dataset: str | None = None) -> Annotations | None:
    """Read EmoryNLP as CSV, or as JSON: `{"episodes": [{"scenes": [{"scene_id", "utterances": […]}]}]}`.

    A dialogue is a scene of an episode of a season, such as `s01_e02_c03`. Its utterances are numbered, such as `s01_e02_c03_u004`. Several
    simultaneous speakers count as one speaker with a joint name. The split is taken from the file name.

    Raises:
        CorpusError: a number is invalid, or a scene is incomplete.
    """
    if isinstance(content, Table) and {*COLUMNS} <= {*content.columns}:
        rows, places, form = list(_of_table(content, path)), content.places, "CSV"
    elif isinstance(content, dict) and isinstance(content.get("episodes"), list):
        rows, form = list(_of_json(content["episodes"], path)), "JSON"
        places = [row["utterance"] for row in rows]
    else:
        return None
    split = split_of_name(path)
    if split is None:
        note(f"{path.name}: the file name contains no split (train, dev or test); give `splits` in corpus.toml")
    if several := sum(", " in row["speaker"] for row in rows):
        note(f"{path.name}: {several} utterances have several simultaneous speakers, which count as one further speaker")
    return assemble_rows([{**row, "split": split or ""} for row in rows], path, places, f"EmoryNLP ({form})", "emorynlp")


def _of_table(table: Table, path: Path) -> Iterator[Row]:
    for row, place in zip(table.rows, table.places, strict=True):
        numbers = {}
        for name in ("Season", "Episode", "Scene_ID", "Utterance_ID"):
            found = re.fullmatch(r"\s*[a-z]?0*(\d{1,6})(?:\.0)?\s*", cell(row[name]))
            if found is None:
                raise CorpusError(f"{path}: {place}: {name} {cell(row[name])[:40]!r} is not an integer")
            numbers[name] = int(found[1])
        dialogue = f"s{numbers['Season']:02d}_e{numbers['Episode']:02d}_c{numbers['Scene_ID']:02d}"
        said = cell(row["Speaker"]).strip()
        names = [one or other for one, other in _NAME.findall(said)] if said.startswith("[") else [said]
        yield {
            "dialogue": dialogue,
            "turn": str(numbers["Utterance_ID"]),
            "utterance": f"{dialogue}_u{numbers['Utterance_ID']:03d}",
            "speaker": ", ".join(name.strip() for name in names),
            "text": cell(row["Utterance"]),
            "label": cell(row["Emotion"]),
            "start": cell(row.get("Start_Time")),
            "end": cell(row.get("End_Time")),
        }


def _of_json(episodes: list[Any], path: Path) -> Iterator[Row]:
    number = 0
    for episode in episodes:
        for scene in _list(episode, "scenes", path):
            name = scene.get("scene_id") if isinstance(scene, dict) else None
            for turn, utterance in enumerate(_list(scene, "utterances", path)):
                number += 1
                if not isinstance(name, str) or not isinstance(utterance, dict) or not isinstance(utterance.get("transcript"), str):
                    raise CorpusError(f"{path}: utterance {number}: expected `scene_id` and `transcript` as text")
                if not utterance["transcript"].strip():
                    continue  # what is seen, not said
                names, emotion = utterance.get("speakers"), utterance.get("emotion")
                yield {
                    "dialogue": name,
                    "turn": str(turn),
                    "utterance": str(utterance.get("utterance_id") or f"{name}_u{turn + 1:03d}"),
                    "speaker": ", ".join(str(one) for one in names) if isinstance(names, list) else str(names or ""),
                    "text": utterance["transcript"],
                    "label": emotion if isinstance(emotion, str) else "",
                }


def _list(value: Any, key: str, path: Path) -> list[Any]:
    found = value.get(key) if isinstance(value, dict) else None
    if not isinstance(found, list):
        raise CorpusError(f"{path}: JSON of EmoryNLP in which {key!r} is missing or not a list; expected episodes, scenes and utterances")
    return found
