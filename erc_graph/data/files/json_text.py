"""Parsing of JSON and JSON lines."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from erc_graph.errors import CorpusError


def parse_json(text: str, refuse: Callable[[int | None, Exception], CorpusError]) -> Any:
    """Parse a text as JSON or, if the text is not JSON, as JSON lines. For JSON lines, the result is the list of their values.

    Args:
        text: Content of the file.
        refuse: Function that creates the error. Its arguments are the number of the invalid line, from 1, and the parsing error. If line 1
            is invalid, the arguments are `None` and the parsing error of the whole text.

    Raises:
        CorpusError: the text is neither JSON nor JSON lines.

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
