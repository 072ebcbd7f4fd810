"""The paper's tables: Table 1 is the method among the published ones, the others are rows of configuration changes in `experiments/tables`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from erc_graph.errors import ConfigError
from erc_graph.experiments.config import FOLDERS, Experiment, read_toml


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of an ablation table.

    Attributes:
        name: The paper's name of the network.
        marks: One per column of the table, ✓ or ×.
        changes: Dotted key → value, against the full method.
        published: Data set → metric → printed figure, per cent.
    """

    name: str
    marks: tuple[str, ...]
    changes: Mapping[str, Any] = field(default_factory=dict)
    published: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Table:
    """One ablation table of a paper."""

    number: int
    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


def load_tables(method: str) -> dict[int, Table]:
    """Tables of a method by number; empty where it has none.

    Raises:
        ConfigError: a key that is missing or unknown, or a row with another number of marks than the table has columns.
    """
    path = next((p for folder in FOLDERS if (p := folder / "tables" / f"{method}.toml").is_file()), None)
    return parse_tables(read_toml(path), str(path)) if path else {}


def parse_tables(values: Mapping[str, Any], where: str) -> dict[int, Table]:
    """Tables from plain values; see `load_tables`."""
    from pydantic import ConfigDict, TypeAdapter, ValidationError

    found = {}
    for table in values.get("table", []):
        entry = {("rows" if key == "row" else key): value for key, value in table.items()}
        try:
            checked = TypeAdapter(Table, config=ConfigDict(extra="forbid")).validate_python(entry)
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors())
            raise ConfigError(f"{where}: table {table.get('number', '?')}: {problems}") from None
        for row in checked.rows:
            if len(row.marks) != len(checked.columns):
                raise ConfigError(
                    f"{where}: table {checked.number}, row {row.name}: expected {len(checked.columns)} marks, one per column, found {len(row.marks)}"
                )
        found[checked.number] = checked
    return found


def row_experiment(experiment: Experiment, row: Row, available: tuple[str, ...]) -> Experiment | str:
    """The experiment of a row; a sentence instead where the corpus lacks what it needs."""
    lacking = [name for name in row.changes.get("modalities", ()) if name not in available]
    if lacking:
        return f"not run: the corpus has no {', '.join(lacking)}"
    return experiment.changed({key: value for key, value in row.changes.items()} | {"baseline": False})


def folder_name(row: Row) -> str:
    """Folder of a row's run: its name with anything unusual replaced."""
    return "row-" + "".join(c if c.isalnum() or c in "-_" else "-" for c in row.name)


def published_rows(experiment: Experiment) -> list[dict[str, Any]]:
    """Table 1 as printed: one entry per method, `name` and figures in per cent."""
    return list(experiment.published.get("row", []))


def table_file(folder: Path, number: int) -> Path:
    """Where the measured table goes."""
    return folder / f"table-{number}.json"
