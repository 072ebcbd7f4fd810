"""Published results in `experiments/published/<corpus>.toml`. Published results are never shown in the same column as measured results."""

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
    """One row of a published table. Metrics are from 0 to 1; a metric is `None` if the paper does not report it.

    Attributes:
        method: Name of the method in the published table.
        protocol: Evaluation protocol of the row, if the table has rows of different protocols.
        features: Features that the row uses in addition to the features of the table.
        epoch_on_test: Whether the public code of the method selects the epoch on the test set.
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
        """Return the name of the method, followed by protocol and additional features of the row.

        >>> PublishedRow(method="MHA", protocol="10-fold", features="with faces", accuracy=0.756).name
        'MHA, 10-fold, with faces'
        """
        return ", ".join(word for word in (self.method, self.protocol, self.features) if word)

    @property
    def figures(self) -> dict[str, float]:
        """Return metric → published result, without metrics that the paper does not report."""
        return {name: value for name in METRICS if (value := getattr(self, name)) is not None}


@dataclass(frozen=True, kw_only=True)
class PublishedTable:
    """A published table with results on one corpus.

    Attributes:
        of: Name of the method that the paper proposes.
        paper: Authors, venue and year.
        table: Number of the table in the paper, or another origin of the results.
        features: Features of the paper's own method.
        rows: Rows of the table.
        note: Note for readers of the results.
    """

    of: str
    paper: str
    table: str
    features: str
    rows: tuple[PublishedRow, ...]
    note: str = ""

    @property
    def source(self) -> str:
        """Return paper, table, features and note, for a heading."""
        return "; ".join(word for word in (f"{self.paper}, {self.table}", self.features, self.note) if word)


def load_published(dataset: str) -> tuple[PublishedTable, ...]:
    """Return all published tables on a corpus; the tuple is empty if the package has no file for the corpus.

    Raises:
        ConfigError: a key is missing or unknown, a row has no result or occurs twice, or a result is not a percentage.
    """
    path = next((p for folder in FOLDERS if (p := folder / "published" / f"{dataset}.toml").is_file()), None)
    return parse_published(read_toml(path), str(path)) if path and Path(dataset).name == dataset else ()


def parse_published(values: Mapping[str, Any], where: str) -> tuple[PublishedTable, ...]:
    """Convert the content of a file of published results to tables; `where` names the file in errors."""
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
                raise ConfigError(f"{here}: expected at least one published result ({', '.join(METRICS)}), found none")
            if (key := (table.paper, table.table, row.name)) in seen:
                raise ConfigError(f"{here}: expected every row of a table once, found this row twice")
            seen.add(key)
            shares: dict[str, Any] = from_per_cent(row.figures, here)
            rows.append(replace(row, **shares))
        found.append(replace(table, rows=tuple(rows)))
    return tuple(found)


def from_per_cent(printed: Mapping[str, float], where: str) -> dict[str, float]:
    """Convert published results from percent to the range 0 to 1.

    >>> from_per_cent({"accuracy": 64.39}, "a file")
    {'accuracy': 0.6439}

    Raises:
        ConfigError: a result is not between 1 and 100.
    """
    for name, value in printed.items():
        if not 1 <= value <= 100:
            raise ConfigError(f"{where}: {name}: expected a percentage from 1 to 100, as papers print it, found {value:g}")
    return {name: round(value / 100, 6) for name, value in printed.items()}


def printed_beside(method: str, dataset: str, task: str) -> list[PublishedTable]:
    """Return the published tables to show next to a run.

    The published tables are from the method's own paper. If this paper has no tables, the method's rows in tables of other papers are
    returned.

    Args:
        method: Name of the method in the registry.
        dataset: Name of the corpus.
        task: Label set of the run. For a label set that is not the default of the corpus, results are read from `<task>.toml`.
    """
    from erc_graph.data.tasks import DEFAULT_TASK

    usual = DEFAULT_TASK.get(dataset) == task
    tables = load_published(dataset) if usual else load_published(task)
    own = [table for table in tables if table.of == method]
    return own or list(_lines_of(method, tables))


def same_name(printed: str, method: str) -> bool:
    """Return whether a published name begins with the name of a method; only letters and digits are compared.

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
