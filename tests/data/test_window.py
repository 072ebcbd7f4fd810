from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from erc_graph.data.window import Window


@settings(max_examples=40, deadline=None)
@given(past=st.none() | st.integers(0, 60), pushes=st.integers(1, 200))
def test_it_holds_the_newest_rows_in_order(past: int | None, pushes: int) -> None:
    window, rows = Window(past), torch.randn(pushes, 2, 3)
    for i in range(pushes):
        first = 0 if past is None else max(0, i - past)
        assert torch.equal(window.push(rows[i]), rows[first : i + 1])


@pytest.mark.parametrize("past", [0, 1, 7, 8, 9, 100])
def test_a_bounded_window_stops_growing(past: int) -> None:
    window, sizes = Window(past), []
    assert window.nbytes == 0
    for i in range(1000):
        window.push(torch.tensor(float(i)))
        sizes.append(window.nbytes)
    assert set(sizes[8 * past + 16 :]) == {sizes[-1]}
    assert sizes[-1] < 4 * (4 * past + 17)


def test_an_unbounded_window_grows_with_the_conversation() -> None:
    window = Window(None)
    for i in range(1000):
        rows = window.push(torch.tensor(float(i)))
    assert len(rows) == 1000
    assert 4 * 1000 <= window.nbytes <= 8 * 1024
