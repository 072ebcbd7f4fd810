"""One utterance of a corpus, as plain values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Utterance:
    """What is said in one turn of a dialogue.

    Attributes:
        id: The utterance's name, unique in its corpus.
        dialogue: The dialogue's id.
        turn: Position in the dialogue, from 0.
        speaker: Who speaks.
        text: What is said; empty where the corpus has no text.
        label: Name of the label; `None` where unlabelled, and for a score task.
        score: Of a score task; `None` where unlabelled.
        start: Seconds from the beginning of the recording, where the file has times.
        end: The same, of its end.
        time: When it was written, in the words of the file.
    """

    id: str
    dialogue: str
    turn: int
    speaker: str
    text: str
    label: str | None = None
    score: float | None = None
    start: float | None = None
    end: float | None = None
    time: str | None = None
