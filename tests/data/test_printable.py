from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from erc_graph.data.printable import one_line, printable


def test_one_line() -> None:
    assert one_line("a\r\n b\x1b[31m\u202e c") == "a b [31m c"
    assert one_line("x" * 50, 10) == "x" * 9 + "…"
    assert one_line(3) == "3"


@given(st.text(max_size=60))
def test_nothing_that_controls_a_terminal_is_left(text: str) -> None:
    assert {c for c in printable(text) if unicodedata.category(c)[0] == "C"} <= {"\n"}
    assert len(printable(text)) == len(text)
    line = one_line(text, 12)
    assert len(line) <= 12 and line.strip() == line and not any(unicodedata.category(c)[0] == "C" for c in line)
