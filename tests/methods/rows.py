"""Rows of the papers' ablation tables, as changes of a method's options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tomllib

TABLES = Path(__file__).parents[2] / "experiments" / "tables"


@dataclass(frozen=True)
class Row:
    """One row: its table, its name, and dotted option → value."""

    number: int
    name: str
    changes: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.number}-{self.name}"


def rows_of(method: str) -> list[Row]:
    """All rows of all tables of a method."""
    tables = tomllib.loads((TABLES / f"{method}.toml").read_text())["table"]
    return [Row(table["number"], row["name"], row.get("changes", {})) for table in tables for row in table["rows"]]


def changed(config: Any, changes: Mapping[str, Any]) -> Any:
    """A method's options with the changes `pipeline.…` of a row, all at once."""
    return _with(config, {key.removeprefix("pipeline."): value for key, value in changes.items() if key.startswith("pipeline.")})


def _with(config: Any, changes: Mapping[str, Any]) -> Any:
    inner: dict[str, dict[str, Any]] = {}
    own: dict[str, Any] = {}
    for key, value in changes.items():
        name, dot, rest = key.partition(".")
        if dot:
            inner.setdefault(name, {})[rest] = value
        else:
            own[name] = value
    return replace(config, **own, **{name: _with(getattr(config, name), deeper) for name, deeper in inner.items()})
