"""How far it is: a bar on a terminal; elsewhere one line a minute of all that is under way, and none of what is soon done."""

from __future__ import annotations

import io
import re
import sys
from types import SimpleNamespace

import pytest

from erc_graph.data import progress
from erc_graph.data.progress import Progress


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(Progress, "due", 0.0)
    return clock


def test_a_line_a_minute(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in Progress(range(9), desc="work"):
        clock.now += 25
    lines = capsys.readouterr().err.splitlines()
    assert [re.match(r"work: (\d) of 9 \((\d+)%\), \d\d:\d\d so far, \d\d:\d\d left$", line)[1] for line in lines] == ["3", "6", "9"]  # type: ignore[index]


def test_what_is_done_within_a_minute_says_nothing(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        for _ in Progress(range(5), desc="short"):
            clock.now += 10
        clock.now += 100
    assert capsys.readouterr().err == ""


def test_bars_inside_one_another_say_one_line_a_minute_together(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    for number in Progress(range(3), desc="seeds"):
        inner = Progress(total=30, desc=f"seed {number}")
        for epoch in range(30):
            clock.now += 10
            inner.set_postfix({"wF1": f"{epoch / 100:.3f}"}, refresh=False)
            inner.update()
        inner.close()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 15 and lines[0].startswith("seed 0: 6 of 30 (20%), ") and lines[0].endswith(", wF1=0.050")


def test_many_short_parts_in_a_row_are_one_piece_of_work(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(6):
        for _ in Progress(range(4), desc=f"part {number}"):
            clock.now += 10
    assert [line.partition(":")[0] for line in capsys.readouterr().err.splitlines()] == ["part 1", "part 2", "part 4", "part 5"]


def test_quiet_and_processes_beside_the_first_say_nothing(
    clock: Clock, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(disable: bool | None) -> str:
        for _ in Progress(range(3), desc="work", disable=disable):
            clock.now += 90
        return capsys.readouterr().err

    assert work(True) == "" and work(None).count("\n") == 3
    monkeypatch.setenv("RANK", "1")
    assert work(None) == ""
    monkeypatch.setenv("RANK", "0")
    assert work(None).count("\n") == 3


def test_a_terminal_has_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    for _ in Progress(range(3), desc="work"):
        pass
    assert "\rwork: 100%|" in sys.stderr.getvalue() and "so far" not in sys.stderr.getvalue()  # type: ignore[attr-defined]
