"""Single values: what counts as text, as a number, as a speaker, as a vector."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from erc_graph.data.files.formats.values import Odd, scalar, speaker_number, spell, vector


@pytest.mark.parametrize(
    ("value", "plain"),
    [("a", "a"), (b"\xe9", "é"), (2, 2), (None, None), (np.float64(1.5), 1.5), (np.array([[3]]), 3), (np.array(["x"]), "x")],
)
def test_text_and_numbers_come_back_plain(value: Any, plain: Any) -> None:
    assert scalar(value) == plain and type(scalar(value)) is type(plain)


@pytest.mark.parametrize("value", [True, {}, [1], np.arange(2), 1j])
def test_anything_else_is_kept_to_be_named(value: Any) -> None:
    found = scalar(value)
    assert isinstance(found, Odd) and found.text == spell(value)


@pytest.mark.parametrize(
    ("value", "number"),
    [(3, 3), (2.0, 2), ([0, 0, 1], 2), (np.array([1.0, 0.0]), 0), (-1, None), (1.5, None), ([1, 1], None), ([0, 2], None), ("M", None)],
)
def test_a_speaker_is_a_whole_number_or_the_place_of_the_one(value: Any, number: int | None) -> None:
    assert speaker_number(value) == number


@pytest.mark.parametrize(
    ("value", "shape"),
    [([1, 2], (2,)), ([], (0,)), (np.ones((1, 4)), (4,)), (np.ones((3, 4)), (3, 4)), ("ab", None), (["a"], None), ([[1], [1, 2]], None)],
)
def test_a_vector_is_numbers_with_or_without_an_axis_of_frames(value: Any, shape: tuple[int, ...] | None) -> None:
    found = vector(value)
    assert (None if found is None else found.shape) == shape
    assert found is None or found.dtype == np.float32


def test_a_message_stays_short_whatever_it_names() -> None:
    assert spell("x" * 500) == repr("x" * 500)[:60] and spell(np.int64(3)) == "3"
    assert spell(np.zeros((2, 3))) == "array of shape (2, 3)" and spell([1] * 9) == "list of 9" and spell(object()) == "object"
