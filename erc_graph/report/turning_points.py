"""What a conversation comes to: how often each speaker has which emotion, and where a speaker's emotion changes most.

An utterance is a turning point where its label differs from that of the same speaker's utterance before it. The change is the probability
that has moved to other labels, from 0 to 1; of scores it is their difference::

    change = 1/2 Σ_k |p_t(k) - p_s(k)|      or      |v_t - v_s|,      s: the same speaker's utterance before t
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from erc_graph.report.explorer import Conversation

MOST = 5  # of a conversation


@dataclass(frozen=True)
class TurningPoint:
    """A change of a speaker's emotion.

    Attributes:
        turn: Where it has changed.
        before: The same speaker's utterance before it.
        change: How much; see the module.
    """

    turn: int
    before: int
    change: float


def turning_points(c: Conversation, most: int = MOST) -> list[TurningPoint]:
    """Return the largest changes, the largest first; of equal ones the earlier first.

    Args:
        c: A conversation with speakers and predictions.
        most: How many at most.
    """
    values = c.probabilities if c.scores is None else 2 * c.scores[:, 1:]  # twice, for half of the difference is taken
    if values is None:
        return []
    last: dict[str, int] = {}
    found = []
    for turn, name in enumerate(c.speakers):
        before = last.get(name)
        last[name] = turn
        if before is not None and c.guess[turn] != c.guess[before]:
            found.append(TurningPoint(turn, before, float(np.abs(values[turn] - values[before]).sum() / 2)))
    return sorted(found, key=lambda point: -point.change)[:most]


def speaker_totals(c: Conversation, labels: int) -> dict[str, list[int]]:
    """Return how many utterances of every speaker have which predicted label, in the order in which they first speak.

    Args:
        c: A conversation with speakers and predictions.
        labels: How many there are.
    """
    counts = {name: [0] * labels for name in dict.fromkeys(c.speakers)}
    for name, guess in zip(c.speakers, c.guess.tolist(), strict=True):
        counts[name][guess] += 1
    return counts
