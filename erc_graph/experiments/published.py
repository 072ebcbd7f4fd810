"""Figures that papers print, in `experiments/published/<corpus>.toml`; they are shown beside measured ones, never mixed with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from erc_graph.data.files.toml import read_toml
from erc_graph.errors import ConfigError
from erc_graph.experiments.experiment import FOLDERS

METRICS = ("accuracy", "unweighted_accuracy", "acc7", "weighted_f1", "acc2_nonzero", "f1_nonzero")


@dataclass(frozen=True, kw_only=True)
class PublishedRow:
    """One printed line; figures from 0 to 1 (in the files per cent, as papers print them), unset where the paper has none.

    Attributes:
        method: Its name as it is printed.
        protocol: Where it is not that of the table.
        features: What the line has beside the features of the table.
        epoch_on_test: Whether the method's public code chooses the epoch on the test set.
    """

    method: str
    protocol: str = ""
    features: str = ""
    epoch_on_test: Literal["yes", "no", "unknown"] = "unknown"
    accuracy: float | None = None
    unweighted_accuracy: float | None = None
    acc7: float | None = None
    weighted_f1: float | None = None
    acc2_nonzero: float | None = None
    f1_nonzero: float | None = None

    @property
    def name(self) -> str:
        """Return the method with what is special about the line.

        >>> PublishedRow(method="MHA", protocol="10-fold", features="with faces", accuracy=0.756).name
        'MHA, 10-fold, with faces'
        """
        return ", ".join(word for word in (self.method, self.protocol, self.features) if word)

    @property
    def figures(self) -> dict[str, float]:
        """Return the printed figures by metric."""
        return {name: value for name in METRICS if (value := getattr(self, name)) is not None}


@dataclass(frozen=True, kw_only=True)
class PublishedTable:
    """A table of a paper on one corpus.

    Attributes:
        of: The method whose paper it is.
        paper: Authors, venue and year.
        table: Number of the table.
        features: Of the paper's own method.
        rows: Its lines.
        note: What a reader of its figures has to know.
    """

    of: str
    paper: str
    table: str
    features: str
    rows: tuple[PublishedRow, ...]
    note: str = ""

    @property
    def source(self) -> str:
        """Return paper, table and features, for a heading."""
        return "; ".join(word for word in (f"{self.paper}, {self.table}", self.features, self.note) if word)


def load_published(dataset: str) -> tuple[PublishedTable, ...]:
    """Return everything that is printed on a corpus; empty where nothing is known.

    Raises:
        ConfigError: a key that is missing or unknown, a row without a figure, one that is listed twice, or a figure that is no percentage.
    """
    path = next((p for folder in FOLDERS if (p := folder / "published" / f"{dataset}.toml").is_file()), None)
    return parse_published(read_toml(path), str(path)) if path and Path(dataset).name == dataset else ()


def parse_published(values: Mapping[str, Any], where: str) -> tuple[PublishedTable, ...]:
    """Return the tables of plain values; see `load_published`."""
    from pydantic import ConfigDict, ValidationError, create_model

    model = create_model("Published", __config__=ConfigDict(extra="forbid"), dataset=(str, ...), table=(list[PublishedTable], []))
    try:
        tables = tuple(model.model_validate(dict(values)).table)  # type: ignore[attr-defined]
    except ValidationError as error:
        problems = [f"{where}: {'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors()]
        raise ConfigError("\n".join(problems)) from None
    seen, found = set(), []
    for table in tables:
        rows = []
        for row in table.rows:
            here = f"{where}: {table.paper}, {table.table}: {row.name}"
            if not row.figures:
                raise ConfigError(f"{here}: expected a figure ({', '.join(METRICS)}), found none")
            if (key := (table.paper, table.table, row.name)) in seen:
                raise ConfigError(f"{here}: expected every printed line once, found it twice")
            seen.add(key)
            shares: dict[str, Any] = from_per_cent(row.figures, here)
            rows.append(replace(row, **shares))
        found.append(replace(table, rows=tuple(rows)))
    return tuple(found)


def from_per_cent(printed: Mapping[str, float], where: str) -> dict[str, float]:
    """Return printed figures in the unit of measured ones.

    >>> from_per_cent({"accuracy": 64.39}, "a file")
    {'accuracy': 0.6439}

    Raises:
        ConfigError: a figure that is not from 1 to 100.
    """
    for name, value in printed.items():
        if not 1 <= value <= 100:
            raise ConfigError(f"{where}: {name}: expected per cent, 1 to 100, as papers print it, found {value:g}")
    return {name: round(value / 100, 6) for name, value in printed.items()}


def printed_beside(method: str, dataset: str, task: str) -> list[PublishedTable]:
    """Return what is shown beside a run: the table of the method's own paper; for another method its lines in all tables.

    Args:
        method: Name in the registry.
        dataset: Name of the corpus.
        task: What is predicted; where it is not the usual one of the corpus, figures on the corpus do not count.
    """
    from erc_graph.data.tasks import DEFAULT_TASK

    usual = DEFAULT_TASK.get(dataset) == task
    tables = load_published(dataset) if usual else load_published(task)
    own = [table for table in tables if table.of == method]
    return own or list(_lines_of(method, tables))


def same_name(printed: str, method: str) -> bool:
    """Return whether a printed line is of a method: its name, with or without more behind it.

    >>> same_name("bc-LSTM+Att", "bc-lstm"), same_name("DialogueRNN", "dialoguegcn")
    (True, False)
    """
    plain = ["".join(c for c in name.lower() if c.isalnum()) for name in (printed, method)]
    return plain[0].startswith(plain[1])


def _lines_of(method: str, tables: tuple[PublishedTable, ...]) -> Iterator[PublishedTable]:
    def plain(name: str) -> str:
        return "".join(c for c in name.lower() if c.isalnum())

    for table in tables:
        rows = tuple(row for row in table.rows if plain(row.method) == plain(method))
        if rows:
            yield PublishedTable(of=table.of, paper=table.paper, table=table.table, features=table.features, rows=rows, note=table.note)
