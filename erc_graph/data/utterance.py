"""An utterance of a corpus as plain Python values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Utterance:
    """One utterance of a dialogue: speaker, text and label.

    Attributes:
        id: Name of the utterance, unique in its corpus.
        dialogue: Id of the dialogue.
        turn: Position in the dialogue, from 0.
        speaker: Name of the speaker.
        text: The transcript; empty if the corpus has no text.
        label: Name of the label; `None` if the utterance is unlabelled or the task is a score.
        score: The score, for a score task; `None` if the utterance is unlabelled.
        start: Start in seconds of the recording, if the file has times.
        end: End in seconds of the recording, if the file has times.
        time: When the utterance was written, exactly as in the file.
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
