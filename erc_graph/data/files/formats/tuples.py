"""Reader of tuples and lists without names: their elements (fields) are dicts of labels, speakers, features and so on.

A layout lists the fields of a tuple in order. The layout of a file is recognised by the number of its fields and by the first utterance of
every field. For example, there are 9-tuples of IEMOCAP and of MELD.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from erc_graph.data.annotations import Annotations
from erc_graph.data.files.formats.fields import Fields
from erc_graph.data.files.formats.packing import pack
from erc_graph.data.files.formats.values import spell
from erc_graph.errors import CorpusError

_ROBERTA = "roberta1 roberta2 roberta3 roberta4"


@dataclass(frozen=True)
class Layout:
    """A known layout of tuples: its name, and the names of the tuple elements in order, such as `speakers` and `labels`."""

    name: str
    fields: tuple[str, ...]


def _layout(name: str, fields: str) -> Layout:
    return Layout(name, tuple(fields.split()))


LAYOUTS: tuple[Layout, ...] = (
    # bc-LSTM, DialogueRNN, DialogueGCN, MMGCN, COGMEN, GA2MIF; AVEC and GraphSmile's MOSEI with scores as labels.
    _layout("9-tuple of features (MMGCN, DialogueRNN, COGMEN)", "ids speakers labels text audio visual sentences train test"),
    _layout("MELD 9-tuple of features, no visual (DialogueRNN)", "ids speakers labels text audio sentences train test sentiments"),
    _layout("MELD 10-tuple of features (MMGCN, MM-DFN, M3NET)", "ids speakers labels text audio visual sentences train test extra"),
    _layout("MOSEI 10-tuple of features (COGMEN)", "ids speakers labels text audio visual sentences train dev test"),
    _layout("RoBERTa 10-list (COSMIC)", f"speakers labels {_ROBERTA} sentences train test dev"),
    _layout("MELD RoBERTa 11-list (COSMIC)", f"speakers labels sentiments {_ROBERTA} sentences train test dev"),
    _layout("12-tuple of features (SDT, CFN-ESA, GraphSmile)", f"ids speakers labels {_ROBERTA} audio visual sentences train test"),
    _layout("MELD 13-tuple of features (SDT)", f"ids speakers labels {_ROBERTA} audio visual sentences train test extra"),
    _layout(
        "MELD 14-tuple of features (GraphSmile)",
        f"ids speakers labels sentiments {_ROBERTA} audio visual sentences train test extra",
    ),
    _layout("6-list without features (COSMIC)", "speakers labels sentences train test dev"),
    _layout("MELD 7-list without features (COSMIC)", "speakers labels sentiments sentences train test dev"),
    _layout("6-list with utterance ids (GCNet)", "ids labels speakers sentences train test"),
    _layout("7-list with utterance ids (GCNet)", "ids labels speakers sentences train dev test"),
)

_KINDS = {
    "ids": {"text", "number"},
    "speakers": {"text", "number", "one-hot"},
    "labels": {"number", "text"},
    "sentiments": {"number"},
    "sentences": {"text", "tokens"},
    "train": {"keys"},
    "dev": {"keys"},
    "test": {"keys"},
}
_VECTOR = {"vector", "one-hot", "frames"}


def read_tuple(content: Any, path: Path, size: int, dataset: str | None = None) -> Annotations | None:
    """Read annotations from a tuple or list whose elements are dicts of labels, speakers and so on; return `None` for other content.

    Raises:
        CorpusError: the tuple has none of the known layouts, or its elements contradict each other.
    """
    if not isinstance(content, list | tuple) or not any(isinstance(part, dict) for part in content):
        return None
    if isinstance(content, list) and all(isinstance(part, dict) and any(_is_plain(value) for value in part.values()) for part in content):
        return None  # rows of a table
    kinds = [_kind(part) for part in content]
    layout = _match(kinds)
    if layout is None:
        raise CorpusError(f"{path}: {_unknown(content, kinds)}")
    part = dict(zip(layout.fields, content, strict=True))
    if "extra" in part:
        extra = part.pop("extra")
        if _looks_like_sentiments(extra, part["labels"]):
            part.setdefault("sentiments", extra)
    meld = "MELD" in layout.name
    features = {name: part[name] for name in layout.fields if name not in _KINDS and name in part}
    return pack(
        Fields(
            path=path,
            size=size,
            format=layout.name,
            labels=part["labels"],
            speakers=part["speakers"],
            texts=part["sentences"],
            ids=part.get("ids"),
            sentiments=part.get("sentiments"),
            features=features,
            splits={split: part[split] for split in ("train", "dev", "test") if split in part},
            dataset=dataset,
            maybe_meld=meld,
        )
    )


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float)


def _match(kinds: list[str]) -> Layout | None:
    for layout in LAYOUTS:
        if len(layout.fields) == len(kinds) and all(_fits(kind, name) for kind, name in zip(kinds, layout.fields, strict=True)):
            return layout
    return None


def _fits(kind: str, name: str) -> bool:
    if name == "extra":
        return kind != "keys"
    return kind == "empty" or kind in _KINDS.get(name, _VECTOR)


def _kind(part: Any) -> str:
    """Return the kind of values in an element of a tuple, from its first utterance; `keys` for a split, `empty` without utterances."""
    if isinstance(part, list | tuple | set | frozenset | np.ndarray):
        return "keys"
    if not isinstance(part, dict):
        return type(part).__name__
    for values in part.values():
        if not isinstance(values, list | tuple | np.ndarray):
            return f"dict of {type(values).__name__}"
        if not (isinstance(values, np.ndarray) and values.ndim == 0) and len(values):
            return _kind_of_value(values[0])
    return "empty"


def _kind_of_value(value: Any) -> str:
    if isinstance(value, str | bytes):
        return "text"
    if isinstance(value, bool | int | float | np.generic) or (isinstance(value, np.ndarray) and value.size == 1 and value.ndim < 2):
        return "number"
    if isinstance(value, list | tuple | np.ndarray):
        if isinstance(value, np.ndarray) and value.ndim > 1:
            return "frames"
        if len(value) and all(isinstance(token, str) for token in value):
            return "tokens"
        if len(value) and isinstance(value[0], list | tuple | np.ndarray):
            return "frames"
        if len(value) <= 16 and sorted(n if isinstance(n, int | float | np.integer | np.floating) else -1 for n in value)[:-1] == [0] * (
            len(value) - 1
        ):
            return "one-hot"
        return "vector"
    return type(value).__name__


def _looks_like_sentiments(extra: Any, labels: Any) -> bool:
    """Return whether `extra` (the last element of a tuple, of unknown content) has one sentiment index per utterance."""
    if not isinstance(extra, dict) or not isinstance(labels, dict) or set(extra) != set(labels) or _kind(extra) != "number":
        return False
    try:
        return all(
            isinstance(values, list | tuple | np.ndarray) and len(values) == len(labels[key]) and set(map(float, values)) <= {0.0, 1.0, 2.0}
            for key, values in extra.items()
        )
    except (TypeError, ValueError, OverflowError):  # something among them that is no number
        return False


def _unknown(content: Any, kinds: list[str]) -> str:
    length = len(kinds)
    if length == 9 and "keys" not in kinds:
        return "nine dicts: COSMIC's commonsense (COMET) features, no annotations; read `…_features_roberta.pkl` instead"
    if length == 3 and isinstance(content, list):
        return "three dicts: MELD's official feature file (train, dev, test), no annotations; read the `…_sent_emo.csv` files instead"
    shape = f"found a {type(content).__name__} of {length}: " + ", ".join(f"{i} {kind}" for i, kind in enumerate(kinds))
    same = [layout for layout in LAYOUTS if len(layout.fields) == length]
    if length in (7, 8) and ("dict of int" in kinds or "vector" in kinds):
        return f"{shape}; a DailyDialog tuple of word indices is not read: export a table with dialogue, turn, speaker, text, label"
    if not same:
        lengths = sorted({len(layout.fields) for layout in LAYOUTS})
        known = "; ".join(f"{len(layout.fields)}: {layout.name}" for layout in LAYOUTS)
        return f"{shape}; known lengths are {', '.join(map(str, lengths))} ({known})"
    best = max(same, key=lambda layout: sum(_fits(kind, name) for kind, name in zip(kinds, layout.fields, strict=True)))
    wrong = [
        f"element {i} ({name}) should be {' or '.join(sorted(_KINDS.get(name, _VECTOR)))}, is {spell(kind)}"
        for i, (kind, name) in enumerate(zip(kinds, best.fields, strict=True))
        if not _fits(kind, name)
    ]
    return f"{shape}; the most similar known format is the {best.name}, but {'; '.join(wrong)}"
