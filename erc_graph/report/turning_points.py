"""Summary of a conversation: the number of utterances per speaker and emotion, and the largest changes of a speaker's emotion.

An utterance is a turning point if its label differs from the label of the same speaker's previous utterance. The change is the probability
mass that moves to other labels, from 0 to 1, or the difference of two scores (`p_t`: probabilities, `v_t`: score of utterance `t`)::

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
        turn: Position of the utterance.
        before: Position of the same speaker's previous utterance.
        change: Size of the change, as defined in the module docstring.
    """

    turn: int
    before: int
    change: float


def turning_points(c: Conversation, most: int = MOST) -> list[TurningPoint]:
    """Return the turning points with the largest changes, largest first; of two equal changes, the earlier change is first.

    Args:
        c: A conversation with speakers and predictions.
        most: Largest number of turning points.
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
    """Return speaker → number of utterances per predicted label, with speakers in the order of their first utterance.

    Args:
        c: A conversation with speakers and predictions.
        labels: Number of labels.
    """
    counts = {name: [0] * labels for name in dict.fromkeys(c.speakers)}
    for name, guess in zip(c.speakers, c.guess.tolist(), strict=True):
        counts[name][guess] += 1
    return counts
