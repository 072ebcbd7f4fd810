"""Notes for the user. A note is one short sentence on an assumption about a file.

The functions that read files call `note("…")` wherever they make an assumption. `load_corpus` and `load_transcript` collect the notes with
`noting()`. If the file can be read, each note is printed once on standard error. The note is also stored under `notes` in `provenance` of
the corpus. Commands with the option `--json` show these notes. If the file cannot be read, only the error is printed.
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
    """Report an assumption about a file to the user. Outside of a `with noting():` block, `text` is printed immediately."""
    heard = _heard.get()
    if heard is None:
        _say(text)
    elif text not in heard:
        heard.append(text)


@contextmanager
def noting(say: Callable[[str], None] | None = None) -> Iterator[list[str]]:
    """Collect the notes within a `with` block, and print them at the end of the outermost block if no error occurred.

    Args:
        say: Function that prints a note; default: the note is printed on standard error.
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
