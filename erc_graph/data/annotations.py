"""The content of one annotation file. File readers return this content, and a `Corpus` is built from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from erc_graph.data.ragged import Ragged

TIMES = ("start", "end", "time")  # columns that say when an utterance is, not what it is


@dataclass(kw_only=True)
class Annotations:
    """The columns of one annotation file. Each row is an utterance, and the dialogues follow one after another.

    Attributes:
        format: Name of the recognised format that is shown to the user, for example `IEMOCAP 9-tuple of features`.
        dataset: Name of a known data set (a key of `tasks.DEFAULT_TASK`); `None` if the data set is unknown.
        dialogue_ids: One id per dialogue.
        lengths: Number of utterances of each dialogue.
        utterance_ids: One id per utterance. If the file has no ids, the id is `{dialogue}_{turn}`.
        speakers: One name per utterance.
        texts: One transcript per utterance; an empty sequence if the file has no text.
        columns: Column name → one value per utterance. `label` and `sentiment` contain names, `score` contains numbers; `None` means
            unlabelled. `start` and `end` are in seconds. `time` is the time at which a message was written, as text copied from the file.
        labels: Label names in the order of their indices. Empty if the data set is known, or if the file defines no labels.
        splits: `train`, `dev` or `test` → dialogue ids; only splits that the file defines.
        features: Modality → `(U, d)` array of `U` vectors. Vectors with NaN, inf or numbers beyond ±1e15 are later treated as missing.
        sequences: Modality → one sequence per utterance.
        notes: Notes for the user about repaired or unusual content.
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
