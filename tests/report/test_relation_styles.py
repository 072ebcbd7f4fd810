from __future__ import annotations

import re

import pytest

from erc_graph.report import interactive
from erc_graph.report.relation_styles import ACROSS, COLOURS, DASHES, MOST, looks


def within(*names: str) -> list[tuple[str, str, str]]:
    return [("text", name, "text") for name in names]


@pytest.mark.parametrize("count", [1, 2, 6, 7, MOST])
def test_relations_differ_in_colour_or_pattern(count: int) -> None:
    found, index = looks(within(*(f"r{chr(ord('a') + i)}" for i in range(count))))
    assert len({(look.colour, look.dash) for look in found}) == count == len(index)


def test_two_properties_are_a_colour_and_a_pattern() -> None:
    names = ("same_past", "other_past", "other_future", "same_future")
    found, index = looks(within(*names))
    look = {name: found[index[name]] for name in names}
    assert look["same_past"].colour == look["same_future"].colour != look["other_past"].colour == look["other_future"].colour
    assert look["same_past"].dash == look["other_past"].dash != look["same_future"].dash == look["other_future"].dash


def test_on_grey_paper_relations_differ_in_pattern_as_far_as_there_are_patterns() -> None:
    found, _ = looks(within("a", "b", "c", "d"))
    assert len({look.dash for look in found}) == len(DASHES)


def test_speaker_pairs_share_a_look_and_further_relations_the_last() -> None:
    pairs = [f"{rule}_{s}_{t}" for rule in ("past", "future") for s in range(9) for t in range(9)]
    found, index = looks(within(*pairs))
    assert [look.name for look in found] == ["past (81 speaker pairs)", "future (81 speaker pairs)"]
    assert all(found[index[name]].name.startswith(name[:4]) for name in pairs)
    found, index = looks(within(*(f"r{chr(ord('a') + i)}" for i in range(20))))
    assert len(found) == MOST and found[-1].name == "9 more relations" and max(index.values()) == MOST - 1


def test_a_relation_that_only_joins_streams_is_grey() -> None:
    found, index = looks([("text", "cross", "audio"), ("text", "context", "text"), ("audio", "any", "text"), ("text", "any", "text")])
    assert [found[index[name]].paint for name in ("cross", "context", "any")] == [ACROSS, COLOURS[0], COLOURS[1]]
    assert looks([]) == ([], {})


def test_the_page_has_the_same_colours() -> None:
    text = interactive._PAGE.read_text(encoding="utf-8")
    light = text[: text.index("prefers-color-scheme: dark")]
    assert [re.search(rf"--r{i}: (#\w+)", light)[1].upper() for i in range(len(COLOURS))] == list(COLOURS)  # type: ignore[index]
    assert re.search(r"--across: (#\w+)", light)[1].upper() == ACROSS  # type: ignore[index]
