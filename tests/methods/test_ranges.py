"""Ranges of options by annotation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from erc_graph.errors import ConfigError
from erc_graph.methods.ranges import Checked, Even, Fraction, Graph, Positive, Share, Size, Weight, Widths


@dataclass(frozen=True, kw_only=True)
class Options(Checked):
    share: Share = 0.0
    size: Size = 1
    fraction: Fraction = 0.0
    positive: Positive = 1.0
    widths: Widths = field(default_factory=dict)
    even: Even = 2
    weight: Weight = 0.0
    graph: Graph = "window"
    maybe: Size | None = None
    name: str = "anything"


def test_the_ends_of_the_ranges_are_allowed() -> None:
    assert Options(share=0.99, size=10**6, even=10, weight=1e9, name="").even == 10


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("share", 1.0, r"pipeline\.share: expected a number in \[0, 1\), found 1\.0"),
        ("share", -0.1, r"pipeline\.share: expected a number in \[0, 1\), found -0\.1"),
        ("size", 0, r"pipeline\.size: expected 1 or more, found 0"),
        ("fraction", 1.1, r"pipeline\.fraction: expected a number from 0 to 1, found 1\.1"),
        ("positive", 0.0, r"pipeline\.positive: expected a number above 0, found 0\.0"),
        ("widths", {"text": 0}, r"pipeline\.widths: expected widths of 1 or more, found \{'text': 0\}"),
        ("even", 3, r"pipeline\.even: expected an even number of 2 or more .*, found 3"),
        ("even", 0, r"pipeline\.even: expected an even number of 2 or more .*, found 0"),
        ("weight", -1.0, r"pipeline\.weight: expected a number of 0 or more, found -1\.0"),
        ("maybe", 0, r"pipeline\.maybe: expected 1 or more, found 0"),
        ("graph", "none", r"pipeline\.graph: expected a recipe, which the method needs, found 'none'"),
    ],
)
def test_impossible_values_are_refused(name: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Options(**{name: value})


def test_all_problems_are_in_one_message() -> None:
    with pytest.raises(ConfigError, match=r"(?s)pipeline\.share.*\npipeline\.size"):
        Options(share=2.0, size=0)
