"""Turning points and totals of a conversation that was counted by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from erc_graph.report.explorer import Conversation
from erc_graph.report.turning_points import speaker_totals, turning_points

CHANCES = np.array([
    [0.7, 0.2, 0.1],  # Ann: joy
    [0.2, 0.5, 0.3],  # Bob: sadness
    [0.1, 0.8, 0.1],  # Ann: sadness; 0.6 has moved from joy to sadness
    [0.3, 0.4, 0.3],  # Bob: sadness still
    [0.5, 0.3, 0.2],  # Ann: joy; 0.4 to joy and 0.1 to neutral
    [0.6, 0.2, 0.2],  # Bob: joy; 0.3 to joy
])  # fmt: skip


def talk(**changes: Any) -> Conversation:
    values: dict[str, Any] = {
        "id": "talk", "split": "", "utterances": tuple("012345"), "speakers": ("Ann", "Bob") * 3, "target": np.full(6, -1),
        "guess": CHANCES.argmax(1), "probabilities": CHANCES,
    }  # fmt: skip
    return Conversation(**{**values, **changes})


def test_turning_points_by_hand() -> None:
    found = turning_points(talk())
    assert [(point.turn, point.before) for point in found] == [(2, 0), (4, 2), (5, 3)]
    assert [point.change for point in found] == pytest.approx([0.6, 0.5, 0.3])
    assert [point.turn for point in turning_points(talk(), most=2)] == [2, 4]
    assert turning_points(talk(speakers=tuple("ABCDEF"))) == []  # nobody speaks twice
    assert turning_points(talk(probabilities=None)) == []


def test_of_equal_changes_the_earlier_comes_first() -> None:
    chances = np.array([[0.9, 0.1], [0.1, 0.9]] * 3)
    found = turning_points(talk(speakers=("Ann",) * 6, probabilities=chances, guess=chances.argmax(1)))
    assert [point.turn for point in found] == [1, 2, 3, 4, 5]


def test_scores_by_hand() -> None:
    scores = np.array([[np.nan, value] for value in (-1.2, 0.4, -0.4, 2.0, 0.3, 0.2)])
    guess = np.array([2, 3, 3, 5, 3, 3])  # of -3 … +3
    found = turning_points(talk(speakers=("Ann", "Bob") * 3, probabilities=None, scores=scores, guess=guess))
    # Ann: -1.2, -0.4, 0.3: from -1 to 0, then 0 still. Bob: 0.4, 2.0, 0.2.
    assert [(point.turn, point.before) for point in found] == [(5, 3), (3, 1), (2, 0)]
    assert [point.change for point in found] == pytest.approx([1.8, 1.6, 0.8])


def test_totals_by_hand() -> None:
    assert speaker_totals(talk(), 3) == {"Ann": [2, 1, 0], "Bob": [1, 2, 0]}
    assert list(speaker_totals(talk(speakers=("Zoe", "Ann") * 3), 3)) == ["Zoe", "Ann"]
