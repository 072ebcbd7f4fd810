"""The content of one annotation file: the interface between the file readers and `Corpus`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from erc_graph.data.ragged import Ragged

TIMES = ("start", "end", "time")  # columns that say when an utterance is, not what it is


@dataclass(kw_only=True)
class Annotations:
    """The columns of one annotation file. Their rows are the utterances of all dialogues, one dialogue after another.

    Attributes:
        format: Name of the recognised format as shown to the user, for example `IEMOCAP 9-tuple of features`.
        dataset: Name of a known data set (a key of `tasks.DEFAULT_TASK`); `None` if the file does not identify one.
        dialogue_ids: One id per dialogue.
        lengths: Number of utterances of each dialogue.
        utterance_ids: One id per utterance. If the file has no ids, they are `{dialogue}_{turn}`.
        speakers: One name per utterance.
        texts: One transcript per utterance; an empty sequence if the file has no text.
        columns: Name → one value per utterance. `label` and `sentiment` hold names, `score` holds numbers; `None` means unlabelled. `start`
            and `end` are in seconds; `time` is when a message was written, as text of the file.
        labels: Label names in index order, if the data set is unknown and the file defines labels.
        splits: `train`, `dev` or `test` → dialogue ids; only the splits that the file has.
        features: Modality → `(U, d)` array; rows with NaN, inf or numbers beyond ±1e15 are later treated as missing.
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
