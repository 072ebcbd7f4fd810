from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from erc_graph.data.printable import one_line
from erc_graph.report.pen import Pen, ink_on, letter, shortened, width, wrapped


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.parametrize("text", ["monolith", "WWWWWW", "iiiiii", "名前", "🙂 ok", "שלום"])
@pytest.mark.parametrize("size", [6.5, 8, 12])
def test_width_is_that_of_the_drawn_text(text: str, size: float) -> None:
    figure = Figure(figsize=(4, 1), dpi=150)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, 4), ylim=(1, 0))
    Pen(axes).text(0.5, 0.5, text, size)
    drawn = axes.texts[0].get_window_extent(FigureCanvasAgg(figure).get_renderer()).width / 150
    assert drawn <= width([text], size) + 0.02
    assert width([text], size) <= 1.25 * drawn + 0.02
    assert width([], size) == 0


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=80), room=st.floats(0.4, 2), most=st.integers(1, 3))
def test_wrapped_text_stays_in_its_room(text: str, room: float, most: int) -> None:
    lines = wrapped(text, 6.5, room, most)
    assert len(lines) <= most
    assert all(width([line], 6.5) <= room for line in lines if len(line) > 1)
    found, plain = ("".join("".join(parts).split()) for parts in (lines, one_line(text, 200)))
    assert found == plain or (found.endswith("…") and plain.startswith(found[:-1]))


def test_whole_words_are_kept_and_a_cut_is_marked() -> None:
    assert wrapped("one two three", 8, 10, 3) == ["one two three"]
    assert wrapped("one two three", 8, width(["one two"], 8) + 0.01, 3) == ["one two", "three"]
    cut = wrapped("one two three four five", 8, width(["one two"], 8) + 0.01, 2)
    assert cut[0] == "one two" and cut[1].endswith("…") and len(cut) == 2
    assert wrapped("", 8, 1, 3) == [] and wrapped("\x00\n", 8, 1, 3) == []
    assert "".join(wrapped("x" * 30, 8, 0.5, 9)) == "x" * 30


@pytest.mark.parametrize("room", [0.3, 1.0, 3.0])
def test_shortened_fits(room: float) -> None:
    assert width([shortened("a long name of a person", 8, room)], 8) <= room
    assert shortened("short", 8, 3.0) == "short"
    assert shortened("W" * 300, 8, room).endswith("…")


def test_letters_and_ink() -> None:
    assert [letter(code) for code in (0, 25, 26, 99)] == ["A", "Z", "27", "100"]
    assert [ink_on(colour) for colour in ("#000000", "#006699", "#F0BE00", "#FFFFFF")] == ["#FFFFFF", "#FFFFFF", "#16181C", "#16181C"]
