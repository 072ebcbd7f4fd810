"""Reader of JSON files such as EmotionLines, EmotionX and RECCON. A conversation is a list of utterances."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from erc_graph.data.annotations import Annotations
from erc_graph.data.files.formats.datasets import SESSION
from erc_graph.data.files.labels import fits
from erc_graph.data.files.media import split_of_name
from erc_graph.data.files.notes import note
from erc_graph.data.files.utterance_tables import assemble_rows, cell
from erc_graph.data.files.vocabulary import find_columns
from erc_graph.data.tasks import DEFAULT_TASK, TASKS
from erc_graph.errors import CorpusError

UNDECIDED = "non-neutral"  # EmotionLines: the annotators did not agree


def read_conversations(content: Any, path: Path, size: int, dataset: str | None = None) -> Annotations | None:
    """Read a list of conversations (EmotionLines, EmotionX), or a dictionary that maps ids to conversations (RECCON).

    A conversation is a list of utterances with the keys `utterance`, `speaker` and `emotion`. The result is `None` if the content has
    another form.

    Raises:
        CorpusError: an utterance lacks the text or has nested values, or an utterance id occurs twice.
    """
    named = _named(content)
    if not named:
        return None
    keys = find_columns(dict.fromkeys(key for _, turns in named for turn in turns for key in turn))
    if "text" not in keys or ("label" not in keys and "speaker" not in keys):
        return None
    split = split_of_name(path)
    prefix = "" if isinstance(content, dict) else f"{split or 'dialogue'}_"
    rows, places, undecided = [], [], 0
    for name, turns in named:
        numbers = [str(turn.get(keys["turn"])) for turn in turns] if "turn" in keys else []
        numbered = len(set(numbers)) == len(turns) and all(map(str.isdecimal, numbers))
        for number, turn in enumerate(turns):
            place = f"dialogue {name}, utterance {number}"
            values = {what: turn.get(key) for what, key in keys.items()}
            if any(isinstance(value, dict | list) for value in values.values()) or not isinstance(values["text"], str):
                raise CorpusError(f"{path}: {place}: expected a text or a number under each of the keys {', '.join(keys.values())}")
            row = {what: cell(value) for what, value in values.items()}
            undecided += row.get("label") == UNDECIDED
            row |= {"label": ""} if row.get("label") == UNDECIDED else {}
            own = {"turn": numbers[number] if numbered else str(number), "split": row.get("split") or split or ""}
            rows.append(row | {"dialogue": f"{prefix}{name}", "speaker": row.get("speaker", ""), **own})
            rows[-1].pop("utterance", None)
            places.append(place)
    if undecided:
        note(f"{path.name}: {undecided} utterances are {UNDECIDED!r}, because annotators did not agree, and get no label")
    if "label" in keys and dataset is None:
        dataset = _data_set([name for name, _ in named], [row["label"] for row in rows], path, nested=not isinstance(content, dict))
    if not any(row["split"] for row in rows):
        note(f"{path.name}: the file name contains no split (train, dev or test); give `splits` in corpus.toml")
    return assemble_rows(
        rows, path, places, f"JSON of conversations ({'RECCON' if isinstance(content, dict) else 'EmotionLines'})", dataset
    )


def _named(content: Any) -> list[tuple[str, list[dict[str, Any]]]]:
    """Return the name and the utterances of every conversation; an empty list if the content has another form."""
    if isinstance(content, list):
        found: Iterable[tuple[str, Any]] = ((str(number), turns) for number, turns in enumerate(content))
    elif isinstance(content, dict):
        pairs = [(str(key), value) for key, value in content.items()]
        if not all(isinstance(value, list) for _, value in pairs):
            return []
        wrapped = [(key, value if value and isinstance(value[0], list) else [value]) for key, value in pairs]
        found = ((key if len(parts) == 1 else f"{key}_{i}", turns) for key, parts in wrapped for i, turns in enumerate(parts))
    else:
        return []
    named = [(name, turns) for name, turns in found if not isinstance(turns, list) or turns]
    if not all(isinstance(turns, list) and all(isinstance(turn, dict) for turn in turns) for _, turns in named):
        return []
    if any({"text", "speaker"} <= turn.keys() for _, turns in named for turn in turns[:1]) and isinstance(content, list):
        return []  # DAG-ERC's
    return named


def _data_set(names: list[str], labels: list[str], path: Path, *, nested: bool) -> str | None:
    """Return the data set whose label set contains all labels. If there are several, return the usual data set for this file layout."""
    if all(SESSION.match(name) for name in names):
        return "iemocap6"
    order = ("emotionlines", "dailydialog") if nested else ("dailydialog", "emotionlines")
    found = next((name for name in order if fits(labels, TASKS[DEFAULT_TASK[name]].labels)), None)
    if found:
        note(f"{path.name}: the labels are those of {found}, so this data set is assumed; to change it, set `dataset` in corpus.toml")
    return found
