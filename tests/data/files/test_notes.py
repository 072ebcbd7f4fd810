"""Notes are said once, when the file could be read, and stand in the provenance."""

from __future__ import annotations

import pytest

from erc_graph.data.files.notes import note, noting


def test_notes_are_collected_once_and_said_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    with noting() as outer:
        note("one")
        with noting() as inner:
            note("one")
            note("two\x1b[31m")
        assert inner == ["one", "two\x1b[31m"] and not caplog.messages
    assert outer == ["one", "two\x1b[31m"]
    assert caplog.messages == ["note: one", "note: two [31m"]


def test_of_what_is_refused_the_error_alone_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ValueError, match="refused"), noting():
        note("one")
        raise ValueError("refused")
    assert not caplog.messages


def test_a_note_outside_is_said_at_once(caplog: pytest.LogCaptureFixture) -> None:
    note("alone")
    assert caplog.messages == ["note: alone"]
