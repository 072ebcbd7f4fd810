"""The content of one annotation file, before features, splits and tasks are added: the interface between file readers and `Corpus`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from erc_graph.data.ragged import Ragged

TIMES = ("start", "end", "time")  # columns that say when an utterance is, not what it is


@dataclass(kw_only=True)
class Annotations:
    """Columns over the utterances of all dialogues, dialogue after dialogue.

    Attributes:
        format: Name of the recognised format, for the user (`IEMOCAP 9-tuple of features`).
        dataset: Known data set (a key of `tasks.DEFAULT_TASK`), or `None` if the file does not identify it.
        dialogue_ids: One per dialogue.
        lengths: Utterances per dialogue.
        utterance_ids: One per utterance; if the file has none, `{dialogue}_{turn}`.
        speakers: One name per utterance.
        texts: One per utterance, or empty.
        columns: `label`, `sentiment`: names; `score`: numbers; `None` where unlabelled. `start`, `end`:
            seconds; `time`: when a message was written, as the file says it.
        labels: Label names in index order, if the file has its own and the data set is unknown.
        splits: `train`/`dev`/`test` → dialogue ids, as far as the file has them.
        features: Modality → `(U, d)` array; rows with NaN, inf or numbers beyond 1e15 are treated as missing later.
        sequences: Modality → one sequence per utterance.
        notes: Notes for the user (repaired or unusual content).
    """

    format: str
    dataset: str | None = None
    dialogue_ids: list[str] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    utterance_ids: list[str] = field(default_factory=list)
    speakers: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    columns: dict[str, list[Any]] = field(default_factory=dict)
    labels: list[str] = field(default_factory=list)
    splits: dict[str, list[str]] = field(default_factory=dict)
    features: dict[str, np.ndarray] = field(default_factory=dict)
    sequences: dict[str, Ragged] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
