"""The fields of one annotation file, before they are packed into rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(kw_only=True)
class Fields:
    """The fields of one annotation file.

    Attributes:
        path: Path of the file, used in messages.
        size: Size of the file in bytes; the number of utterances must not exceed it.
        format: Name of the recognised format.
        labels: Dialogue → one label (index, name or score) per utterance. The keys of `labels` define the dialogues and their order.
        speakers: Dialogue → speakers as `M`/`F`, names, numbers or one-hot vectors.
        texts: Dialogue → sentences or token lists, or `None`.
        ids: Dialogue → utterance ids, or `None`.
        sentiments: Dialogue → sentiment index, or `None`.
        features: Modality → dialogue → one vector per utterance.
        splits: Split → dialogue keys.
        dataset: Name of the data set, if the layout or the caller determines it.
        maybe_meld: Whether integer keys may be those of MELD. They are if they match the ranges of its splits.
    """

    path: Path
    size: int
    format: str
    labels: Any
    speakers: Any
    texts: Any = None
    ids: Any = None
    sentiments: Any = None
    features: Mapping[str, Any] = field(default_factory=dict)
    splits: Mapping[str, Any] = field(default_factory=dict)
    dataset: str | None = None
    maybe_meld: bool = False
