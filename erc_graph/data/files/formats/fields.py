"""The fields of one annotation file, as its layout names them, before they are packed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(kw_only=True)
class Fields:
    """The fields of one file, unpacked.

    Attributes:
        path: The file, for messages.
        size: Its bytes: nothing in it can have more utterances than that.
        format: What was recognised, in words.
        labels: Dialogue → labels (index, name or score); its keys, in stored order, are the dialogues.
        speakers: Dialogue → `M`/`F`, names, numbers or one-hot vectors.
        texts: Dialogue → sentences or token lists, or `None`.
        ids: Dialogue → utterance ids, or `None`.
        sentiments: Dialogue → sentiment index, or `None`.
        features: Modality → dialogue → one vector per utterance.
        splits: Split → dialogue keys.
        dataset: The data set where the layout or the caller knows it.
        maybe_meld: Integer keys are MELD's, if they agree with the ranges of its splits.
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
