"""The contents of one annotation file (labels, speakers and others), before they are converted to one row per utterance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(kw_only=True)
class Fields:
    """The contents of one annotation file, as dictionaries with one list of values per dialogue.

    Attributes:
        path: Path of the file, used in messages.
        size: Size of the file in bytes; the number of utterances must not exceed this number.
        format: Name of the recognised format.
        labels: Dialogue → one label (index, name or score) per utterance. The keys of `labels` define the dialogues and their order.
        speakers: Dialogue → one speaker per utterance: `M` or `F`, a name, a number or a one-hot vector.
        texts: Dialogue → one sentence or token list per utterance, or `None`.
        ids: Dialogue → one id per utterance, or `None`.
        sentiments: Dialogue → one sentiment index per utterance, or `None`.
        features: Modality → dialogue → one vector per utterance.
        splits: Split → dialogue keys.
        dataset: Name of the data set, if it is given or known from the file layout.
        maybe_meld: Whether the dialogue keys may be those of MELD. If True, `datasets.recognise` compares the keys with those of MELD.
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
