"""The data of the explorer, the view of conversations in a report page, in a compact form.

A conversation with its predictions and the strongest edges of its graph is one JSON object with short keys and rounded numbers:

| key | content |
|---|---|
| `i`, `d` | id and split (empty: no split) |
| `n`, `s` | names of the speakers, in the order of their first utterance on the page; index of the speaker per utterance |
| `t` | text per utterance (absent without text) |
| `w` | time as text per utterance (absent without times) |
| `y`, `p` | index of the true and of the predicted class per utterance, -1: no class |
| `q` | probability of every class in percent, utterance by utterance (absent for a score) |
| `u` | unsure utterances (absent without a threshold) |
| `v` | true and predicted score, utterance by utterance (scores only) |
| `h` | present streams (modalities) per utterance, one bit per stream (absent without a graph) |
| `e` | per utterance `[target stream · S + source stream, source turn, weight ‰, …]` for `S` streams, strongest first; -1: no weight |
| `m` | weight of every modality in percent, utterance by utterance (absent if the method has no such weights) |
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_EDGES = 4  # per turn, stream and source stream
# What ends an element or a line, turns the reading direction, or is no character of a page.
_UNFIT = re.compile("[<>&\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufffe\uffff]")


@dataclass(frozen=True, eq=False, kw_only=True)
class Edges:
    """The `E` edges between utterances of one conversation.

    Attributes:
        source: `(E, 2)` utterance and stream of the source node.
        target: `(E, 2)` utterance and stream of the target node.
        weight: `(E,)` edge weight; NaN if the graph has no weights.
    """

    source: NDArray[np.int64]
    target: NDArray[np.int64]
    weight: NDArray[np.float64]

    def strongest(self, most: int = MOST_EDGES) -> Edges:
        """Return the `most` strongest edges to every node from each stream, the strongest edge first, without self-loops."""
        other = (self.source != self.target).any(1)
        source, target, weight = self.source[other], self.target[other], self.weight[other]
        group = np.column_stack([target, source[:, 1]])
        distance = np.abs(source[:, 0] - target[:, 0])  # among equals the nearest
        order = np.lexsort((distance, -np.nan_to_num(weight, nan=-1.0), group[:, 2], group[:, 1], group[:, 0]))
        new = np.ones(len(order), dtype=bool)
        new[1:] = (group[order][1:] != group[order][:-1]).any(1)
        start = np.flatnonzero(new)
        rank = np.arange(len(order)) - np.repeat(start, np.diff(np.append(start, len(order))))
        kept = order[rank < most]
        kept = kept[np.lexsort((-np.nan_to_num(weight[kept], nan=-1.0), target[kept, 1], target[kept, 0]))]
        return Edges(source=source[kept], target=target[kept], weight=weight[kept])


@dataclass(frozen=True, eq=False, kw_only=True)
class Conversation:
    """One conversation of `T` utterances for the explorer.

    Attributes:
        id: Id of the conversation.
        split: `train`, `dev`, `test` or `unused`; empty: no split.
        utterances: `T` ids of utterances.
        speakers: `T` names of speakers; empty: unknown.
        texts: `T` texts; empty: no text.
        times: `T` times as text; empty: no times.
        target: `(T,)` index of the true class; -1: unlabelled.
        guess: `(T,)` index of the predicted class; -1: no prediction.
        probabilities: `(T, C)` class probabilities; `None` for a score task.
        scores: `(T, 2)` true and predicted score, NaN if unknown; `None` for a classification.
        unsure: `(T,)` mask of predictions with a probability below the threshold; `None` without a threshold.
        present: `(T, S)` mask of the present modalities for the `S` streams of the graph; `None` without a graph.
        edges: All or the strongest edges of the graph; `None` without a graph.
        trust: Modality → `(T,)` weight of the modality in an utterance; empty if the method has no such weights.
    """

    id: str
    split: str
    utterances: tuple[str, ...]
    speakers: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    times: tuple[str, ...] = ()
    target: NDArray[np.int64]
    guess: NDArray[np.int64]
    probabilities: NDArray[np.float64] | None = None
    scores: NDArray[np.float64] | None = None
    unsure: NDArray[np.bool_] | None = None
    present: NDArray[np.bool_] | None = None
    edges: Edges | None = None
    trust: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.target)


def pack(conversations: Sequence[Conversation], labels: Sequence[str], streams: Sequence[str], *, text: bool = True) -> dict[str, Any]:
    """Return the data for the script of the page as JSON values; the module docstring lists the keys.

    Args:
        conversations: Conversations in the order of the list on the page.
        labels: Names of the classes.
        streams: Names of the streams of the graph; empty without a graph.
        text: Whether the texts of the utterances are included.
    """
    trust = next((tuple(c.trust) for c in conversations if c.trust), ())
    order = {name: place for place, name in enumerate(dict.fromkeys(name for c in conversations for name in c.speakers))}
    return {
        "labels": list(labels),
        "streams": list(streams),
        "trust": list(trust),
        "conversations": [_packed(conversation, order, streams, trust, text) for conversation in conversations],
    }


def _packed(c: Conversation, order: Mapping[str, int], streams: Sequence[str], trust: Sequence[str], text: bool) -> dict[str, Any]:
    names = sorted(set(c.speakers), key=order.__getitem__)  # the same side in every conversation, where two speak
    place = {name: i for i, name in enumerate(names)}
    found: dict[str, Any] = {"i": c.id, "d": c.split, "y": c.target.tolist(), "p": c.guess.tolist()}
    if names:
        found |= {"n": names, "s": [place[name] for name in c.speakers]}
    if text and any(c.texts):
        found["t"] = list(c.texts)
    if any(c.times):
        found["w"] = list(c.times)
    if c.probabilities is not None:
        found["q"] = _rounded(100 * c.probabilities)
    if c.unsure is not None:
        found["u"] = np.flatnonzero(c.unsure).tolist()
    if c.scores is not None:
        found["v"] = [None if np.isnan(value) else round(value, 1) for value in c.scores.ravel().tolist()]
    if c.present is not None:
        found["h"] = (c.present @ (1 << np.arange(len(streams)))).tolist()
    if c.edges is not None:
        edges = c.edges.strongest()
        code = edges.target[:, 1] * len(streams) + edges.source[:, 1]
        triples = np.column_stack([code, edges.source[:, 0], np.round(np.nan_to_num(1000 * edges.weight, nan=-1))]).astype(np.int64)
        ends = np.searchsorted(edges.target[:, 0], np.arange(len(c) + 1)).tolist()
        flat = triples.ravel().tolist()
        found["e"] = [flat[3 * a : 3 * b] for a, b in pairwise(ends)]
    if c.trust:
        found["m"] = _rounded(100 * np.column_stack([c.trust[name] for name in trust]))
    return found


def _rounded(values: NDArray[np.float64]) -> list[int]:
    return np.round(np.nan_to_num(values)).astype(np.int64).ravel().tolist()


def json_block(value: Any) -> str:
    r"""Return a value as JSON for a `<script type="application/json">` element; characters that could end the element are escaped.

    >>> json_block("</script>&\u2028")
    '"\\u003c/script\\u003e\\u0026\\u2028"'
    """
    text = json.dumps(value, separators=(",", ":"), allow_nan=False, ensure_ascii=False)  # a page may be of any language, and stays small
    return _UNFIT.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
