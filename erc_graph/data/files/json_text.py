"""Parsing of JSON and JSON lines."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from erc_graph.errors import CorpusError


def parse_json(text: str, refuse: Callable[[int | None, Exception], CorpusError]) -> Any:
    """Return the value in a text, or the list of the values of its lines.

    Args:
        text: Of the file.
        refuse: Makes the error from the number of the line, counted from 1, and what is wrong with it; from no number and what is wrong
            with the whole, where not even the first line is JSON.

    Raises:
        CorpusError: neither JSON nor JSON lines.

    >>> parse_json('{"a": 1}\\n\\n{"a": 2}', lambda line, problem: CorpusError(f"line {line}"))
    [{'a': 1}, {'a': 2}]
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError, MemoryError) as error:
        whole = error
    values = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            values.append(json.loads(line))
        except (ValueError, RecursionError, MemoryError) as error:
            raise (refuse(number, error) if values else refuse(None, whole)) from None
    return values
