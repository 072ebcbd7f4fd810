"""The utterances read from a transcript, and their conversion to a corpus. Notes to the user that all formats share are written here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from erc_graph.data.annotations import TIMES, Annotations
from erc_graph.data.corpus import Corpus
from erc_graph.data.files.assembly import assemble
from erc_graph.data.files.notes import note
from erc_graph.data.numbers import UNFIT, fit
from erc_graph.data.printable import count, one_line
from erc_graph.data.tasks import Task
from erc_graph.errors import CorpusError

EXPECTED = "expected `Speaker: text` lines, or JSON, JSON lines or CSV with `speaker` and `text`"
TASK = Task(name="unlabelled")
NOBODY = "speaker"  # who speaks where no name is given


@dataclass(kw_only=True, slots=True)
class Turn:
    """One utterance of a conversation, as in the file.

    Attributes:
        text: Text of the utterance.
        speaker: Name of the speaker; empty if the file names no speaker.
        start: Start in seconds from the beginning of the recording.
        end: End in seconds from the beginning of the recording.
        time: Time at which the utterance was written, exactly as in the file.
        dialogue: Name of the conversation; empty if the file names no conversation.
        number: Number of the utterance in the conversation, if the file has numbers.
        features: Modality → vector, if a JSON file contains features.
    """

    text: str
    speaker: str = ""
    start: float | None = None
    end: float | None = None
    time: str = ""
    dialogue: str = ""
    number: int | None = None
    features: Any = None


@dataclass(kw_only=True)
class Talk:
    """The utterances that were read from a transcript, and their format.

    Attributes:
        form: Name of the recognised format.
        turns: The utterances in the order of the file.
        alone: Whether the format normally has one conversation per file. If not, the user gets a note when a single conversation is
            assumed.
        found: Names of the columns of a table.
    """

    form: str
    turns: list[Turn]
    alone: bool = True
    found: Sequence[str] = ()


def are(number: int) -> str:
    """Return the verb for a number of subjects: `is` or `are`."""
    return "is" if number == 1 else "are"


def left_out(service: int, media: int) -> None:
    """Tell the user in a note how many messages were left out as service or media messages."""
    parts = [count(number, f"{kind} message") for kind, number in (("service", service), ("media", media)) if number]
    if parts:
        note(f"{' and '.join(parts)} {are(service + media)} left out")


def moment(seconds: float) -> str:
    """Convert a time since 1970 in seconds, milliseconds or microseconds to a date (UTC); return an empty text for any other number.

    >>> moment(1577186580000), moment(1683301691.1)
    ('2019-12-24T11:23:00', '2023-05-05T15:48:11.100000')
    """
    for unit in (1, 1e3, 1e6):
        if 1e8 <= seconds / unit < 1e10:
            return datetime.fromtimestamp(seconds / unit, timezone.utc).replace(tzinfo=None).isoformat()
    return ""


def to_corpus(talk: Talk, path: Path, name: str, most: int | None = None) -> Corpus:
    """Build a corpus from the utterances of a transcript, with notes to the user on assumed speakers, conversations and order.

    Raises:
        CorpusError: there are no utterances or more than `most`, two utterances of a conversation have the same number, or features are not
            lists of numbers.
    """
    turns = talk.turns
    if not turns:
        raise CorpusError(f"{path}: contains no utterances ({talk.form}); {EXPECTED}")
    if most is not None and len(turns) > most:
        raise CorpusError(f"{path}: {len(turns)} utterances; expected at most {most}; divide the file")
    dialogues: dict[str, list[int]] = {}
    for number, turn in enumerate(turns):
        dialogues.setdefault(turn.dialogue.strip() or name or "conversation", []).append(number)
    order = [number for dialogue, own in dialogues.items() for number in _ordered(turns, own, dialogue, path)]
    _say(talk, dialogues)
    features, remarks = _features([turns[number].features for number in order], order, path)
    for remark in remarks:
        note(remark)
    width = len(str(len(order)))
    annotations = Annotations(
        format=f"conversation ({talk.form})",
        dialogue_ids=list(dialogues),
        lengths=[len(own) for own in dialogues.values()],
        utterance_ids=[f"{name}_{number:0{width}d}" for number in order],
        speakers=[turns[number].speaker.strip() or NOBODY for number in order],
        texts=[turns[number].text for number in order],
        features=features,
    )
    corpus = assemble(annotations, task=TASK, name=name)
    times = {what: tuple(None if (value := getattr(turns[number], what)) == "" else value for number in order) for what in TIMES}
    kept = {what: values for what, values in times.items() if any(value is not None for value in values)}
    return replace(corpus, annotations={**corpus.annotations, **kept})


def _say(talk: Talk, dialogues: dict[str, list[int]]) -> None:
    turns = talk.turns
    nobody = [number for number, turn in enumerate(turns) if not turn.speaker.strip()]
    if len(nobody) == len(turns):
        found = f"; columns: {', '.join(one_line(name) for name in talk.found[:12])}" if talk.found else ""
        note(f"no speakers are named ({talk.form}{found}), so all utterances belong to one speaker")
    elif nobody:
        count_as = "1 utterance has no speaker and belongs" if len(nobody) == 1 else f"{len(nobody)} utterances have no speaker and belong"
        note(f"{count_as} to a further speaker, {NOBODY!r} (first: utterance {nobody[0]})")
    names = {turn.speaker for turn in turns}
    if len(turns) >= 6 and len(names) == len(turns) > 1:
        note(f"every utterance has another speaker (such as {one_line(turns[0].speaker)!r}); check whether these are names")
    if not talk.alone and len(turns) > 1 and not any(turn.dialogue.strip() for turn in turns):
        note(f"no dialogues are named, so all {len(turns)} utterances are one conversation")
    if empty := sum(not turn.dialogue.strip() for turn in turns) if len(dialogues) > 1 else 0:
        note(f"{count(empty, 'utterance')} without a dialogue name {are(empty)} read as a separate conversation")


def _ordered(turns: list[Turn], own: list[int], dialogue: str, path: Path) -> list[int]:
    """Return the utterances of one conversation, sorted by number, or by time if the newest utterance is first in the file."""
    numbers: dict[int, int] = {}
    for row in own:
        number = turns[row].number
        if number is None:
            break
        if number in numbers:
            raise CorpusError(
                f"{path}: turn {number} of dialogue {one_line(dialogue)!r} occurs twice (rows {numbers[number]} and {row}); "
                "give each utterance its own number"
            )
        numbers[number] = row
    else:
        return [numbers[number] for number in sorted(numbers)]
    times = [_instant(turns[row]) for row in own]
    known = [time[1] for time in times if time is not None]
    kinds = {time[0] for time in times if time is not None}
    if len(known) == len(times) and len(kinds) == 1 and known != sorted(known):
        if known == sorted(known, reverse=True) and (len(own) > 2 or kinds != {"recording"}):
            note("the newest utterance is first, so utterances are sorted by time")
            return own[::-1]
        note("times are not in order, so utterances stay in the order of the file")
    return own


def _instant(turn: Turn) -> tuple[str, float] | None:
    """Return the kind of time (recording, date with or without time zone) and the time in seconds; `None` without a date."""
    if turn.start is not None:
        return "recording", turn.start
    try:
        date = datetime.fromisoformat(turn.time.replace("Z", "+00:00"))
        if date.tzinfo is None:
            return "unknown zone", date.replace(tzinfo=timezone.utc).timestamp()
        return "known zone", date.timestamp()
    except (ValueError, OverflowError):
        return None


def _features(given: list[Any], order: list[int], path: Path) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return a dictionary modality → features `(U, d)`, NaN if missing, and messages about invalid vectors."""
    vectors: dict[str, dict[int, list[float]]] = {}
    for row, (turn, features) in enumerate(zip(order, given, strict=True)):
        if features is None or features == "":
            continue
        if not isinstance(features, dict):
            raise CorpusError(
                f"{path}: utterance {turn}: features: expected an object of modality → list of numbers, found {features!r:.40}"
            )
        for name, vector in features.items():
            if vector is None:
                continue
            if not isinstance(vector, list) or not vector or not all(type(number) in (int, float) for number in vector):
                raise CorpusError(f"{path}: utterance {turn}: features.{name[:40]}: expected a list of numbers, found {vector!r:.40}")
            first = next(iter(vectors.setdefault(name, {}).values()), vector)
            if len(vector) != len(first):
                raise CorpusError(
                    f"{path}: utterance {turn}: features.{name[:40]}: {len(vector)} numbers, but {len(first)} in other utterances"
                )
            vectors[name][row] = vector
    arrays, remarks = {}, []
    for name, found in vectors.items():
        array = np.full((len(given), len(next(iter(found.values())))), np.nan)
        try:
            array[list(found)] = list(found.values())
        except OverflowError:
            raise CorpusError(f"{path}: features.{name[:40]}: a number is too large for a 64-bit floating-point number") from None
        arrays[name] = array
        fine = np.logical_and.reduce(fit(array), axis=1)
        if wrong := sorted(order[row] for row in found if not fine[row]):
            turns = f"1 utterance with {UNFIT} counts" if len(wrong) == 1 else f"{len(wrong)} utterances with {UNFIT} count"
            remarks.append(f"features.{name[:40]}: {turns} as missing (first: utterance {wrong[0]})")
    return arrays, remarks


def finite(value: Any) -> float | None:
    """Return a JSON value as a number, if it is a number or the text of a number; `None` for other values, NaN and inf."""
    try:
        number = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
