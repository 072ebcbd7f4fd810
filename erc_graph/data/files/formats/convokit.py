"""Reader of `utterances.jsonl` of ConvoKit (Chang et al., 2020), with one utterance per line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from erc_graph.data.annotations import Annotations
from erc_graph.data.files.clock import seconds
from erc_graph.data.files.media import split_of_name
from erc_graph.data.files.notes import note
from erc_graph.data.files.utterance_tables import assemble_rows, cell
from erc_graph.data.files.vocabulary import find_columns
from erc_graph.errors import CorpusError

REPLY = ("reply-to", "reply_to")


def read_convokit(content: Any, path: Path, size: int, dataset: str | None = None) -> Annotations | None:
    """Read the utterances of ConvoKit; return `None` if the content has another form.

    The keys of an utterance are `id`, `conversation_id`, `text`, `speaker`, `reply-to`, `timestamp` and `meta`, which contains the label.

    The utterances of a conversation are sorted by time. If times are missing or equal, a reply follows the utterance that it replies to.

    Raises:
        CorpusError: an utterance has no id or text, or an id occurs twice.
    """
    rows = content if isinstance(content, list) else [content]
    if not rows or not all(isinstance(row, dict) and "id" in row and not row.keys().isdisjoint(REPLY) for row in rows):
        return None
    keys = find_columns(dict.fromkeys(key for row in rows for key in row if key not in ("id", "meta", *REPLY)))
    metas = [row.get("meta") if isinstance(row.get("meta"), dict) else {} for row in rows]
    inner = {
        what: key
        for what, key in find_columns(dict.fromkeys(key for meta in metas for key in meta)).items()
        if what in ("label", "sentiment", "score")
    }
    if "text" not in keys:
        raise CorpusError(f"{path}: utterances of ConvoKit without `text`; found {', '.join(rows[0])[:200]}")
    talks: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        talks.setdefault(cell(row.get(keys.get("dialogue", "root"), row.get("root"))) or path.stem, []).append(number)
    if "dialogue" not in keys and not any("root" in row for row in rows):
        note(f"{path.name}: no conversation_id; a single conversation is assumed")
    table, places, timeless = [], [], 0
    for name, own in talks.items():
        order, timed = _ordered(rows, own, keys.get("start"))
        timeless += not timed
        for turn, number in enumerate(order):
            row, meta = rows[number], metas[number]
            speaker = row.get(keys.get("speaker", ""))
            speaker = speaker.get("id") if isinstance(speaker, dict) else speaker
            values = {what: meta.get(key) for what, key in inner.items()} | {
                what: row.get(key) for what, key in keys.items() if what in ("text", "label", "sentiment", "score", "split", "start")
            }
            table.append(
                {what: "" if isinstance(value, dict | list) else cell(value) for what, value in values.items()}
                | {"dialogue": name, "turn": str(turn), "utterance": cell(row["id"]), "speaker": cell(speaker)}
            )
            places.append(f"utterance {cell(row['id'])[:40]!r}")
    if timeless:
        note(
            f"{path.name}: {timeless} conversations have utterances without a time; in these, a reply is placed after the utterance that "
            f"it answers"
        )
    annotations = assemble_rows(table, path, places, "ConvoKit's utterances", dataset)
    split = split_of_name(path)
    if split and not annotations.splits:
        note(f"{path.name}: the split, {split}, is taken from the file's name")
        annotations.splits = {split: list(annotations.dialogue_ids)}
    return annotations


def _ordered(rows: list[dict[str, Any]], own: list[int], start: str | None) -> tuple[list[int], bool]:
    """Return the sorted row numbers of a conversation, and whether all rows have times. Without times, a reply follows its utterance."""
    place = {cell(rows[number]["id"]): number for number in own}
    answers: dict[int | None, list[int]] = {}
    for number in own:
        row = rows[number]
        parent = place.get(cell(next((row[key] for key in REPLY if row.get(key) is not None), None)))
        answers.setdefault(None if parent == number else parent, []).append(number)
    order: list[int] = []
    waiting = answers.get(None, [])[::-1]
    while waiting:  # an answer behind what it answers, answers of the same in the order of the file
        order.append(waiting.pop())
        waiting += answers.get(order[-1], [])[::-1]
    reached = set(order)
    order += [number for number in own if number not in reached]  # answers in a circle
    times = {number: seconds(rows[number].get(start)) if start else None for number in own}
    if any(time is None for time in times.values()):
        return order, False
    return sorted(order, key=lambda number: times[number] or 0.0), True
