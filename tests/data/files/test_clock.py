"""Times as files spell them."""

from __future__ import annotations

import pytest

from erc_graph.data.files.clock import seconds


@pytest.mark.parametrize(
    ("text", "value"),
    [("00:20:57,256", 1257.256), ("0:00:00,0", 0.0), ("1:02", 62.0), ("62.5", 62.5), (7, 7.0), ("99:59:59.9", 359999.9)],
)
def test_seconds(text: object, value: float) -> None:
    assert seconds(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "soon", "nan", "inf", "1:2:3:4:5", None])
def test_no_time(text: object) -> None:
    assert seconds(text) is None
