"""Nothing is guessed in silence: what a reader assumes about a file is one short note.

A reader calls `note("…")` where it assumes something, however deep in the code that is. `load_corpus` and `load_transcript` collect them
with `noting()`: when the file could be read they are said on standard error, once each, and stand under `notes` in the provenance, which
`--json` shows. Of a file that is refused the error alone is said.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from erc_graph.data.printable import one_line

_heard: ContextVar[list[str] | None] = ContextVar("notes", default=None)
_log = logging.getLogger("erc_graph")


def note(text: str) -> None:
    """Say what is assumed, in one short sentence; outside of `noting` it is said at once."""
    heard = _heard.get()
    if heard is None:
        _say(text)
    elif text not in heard:
        heard.append(text)


@contextmanager
def noting(say: Callable[[str], None] | None = None) -> Iterator[list[str]]:
    """Collect the notes of what is read inside, and say them at the end of the outermost one, where nothing was refused.

    Args:
        say: How they are said; on standard error where left out.
    """
    outer = _heard.get()
    notes: list[str] = []
    token = _heard.set(notes)
    try:
        yield notes
    finally:
        _heard.reset(token)
    if outer is None:
        for text in notes:
            (say or _say)(text)
    else:
        outer.extend(text for text in notes if text not in outer)


def _say(text: str) -> None:
    _log.warning("note: %s", one_line(text, 400))
