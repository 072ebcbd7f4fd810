"""An utterance of a corpus as plain Python values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Utterance:
    """One utterance of a dialogue: speaker, text and label.

    Attributes:
        id: Name of the utterance, unique in its corpus.
        dialogue: Id of the dialogue.
        turn: Position of the utterance in the dialogue, from 0.
        speaker: Name of the speaker.
        text: The transcript; empty if the corpus has no text.
        label: Name of the label; `None` if the utterance is unlabelled, or if the task predicts a score.
        score: The score; `None` if the utterance is unlabelled, or if the task predicts a label.
        start: Start of the utterance in the recording, in seconds; `None` if unknown.
        end: End of the utterance in the recording, in seconds; `None` if unknown.
        time: Time at which the utterance was written, as text copied from the file; `None` if unknown.
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
