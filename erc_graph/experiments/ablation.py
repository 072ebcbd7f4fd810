"""Ablation tables of papers, from `experiments/tables/<method>.toml`. Each table row changes settings of the method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from erc_graph.data.files.toml import read_toml
from erc_graph.errors import ConfigError
from erc_graph.experiments.experiment import FOLDERS, Experiment
from erc_graph.experiments.published import from_per_cent


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of an ablation table.

    Attributes:
        name: Name of the network in the paper.
        marks: For each column of the table, ✓ or ×, as printed in the paper.
        changes: Key of a setting, such as `training.epochs` → value, for all settings in which the row differs from the full method.
            published: Data set → metric → published result, from 0 to 1. In the TOML file, published results are in percent.
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
    """Return table number → ablation table of a method; the dictionary is empty if the method has no tables.

    Raises:
        ConfigError: a key is missing or unknown, a result is not a percentage, or a row does not have one mark (✓ or ×) per column.
    """
    path = next((p for folder in FOLDERS if (p := folder / "tables" / f"{method}.toml").is_file()), None)
    return parse_tables(read_toml(path), str(path)) if path else {}


def find_table(method: str, number: int | None) -> Table | None:
    """Return the ablation table of a method that has the number `number` in the paper.

    `None` is returned for Table 1 if the method has no Table 1. The caller then trains the method without changed settings.

    Raises:
        ConfigError: the method has no table with this number.
    """
    tables = load_tables(method)
    if number == 1 and number not in tables:
        return None
    if number is None or number not in tables:
        raise ConfigError(
            f"table: expected the number of a table of the method {method} ({', '.join(map(str, sorted({1, *tables})))}), found {number}"
        )
    return tables[number]


def parse_tables(values: Mapping[str, Any], where: str) -> dict[int, Table]:
    """Convert the content of a file of ablation tables to table number → table; `where` names the file in error messages."""
    from pydantic import ConfigDict, ValidationError, create_model

    model = create_model("Tables", __config__=ConfigDict(extra="forbid"), method=(str, ...), table=(list[Table], []))
    try:
        tables = model.model_validate(dict(values)).table  # type: ignore[attr-defined]
    except ValidationError as error:
        problems = [f"{where}: {'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors()]
        raise ConfigError("\n".join(problems)) from None
    for table in tables:
        for row in table.rows:
            if len(row.marks) != len(table.columns):
                raise ConfigError(
                    f"{where}: table {table.number}, row {row.name}: expected one mark (✓ or ×) for each of the {len(table.columns)} "
                    f"columns, found {len(row.marks)} marks"
                )
    return {table.number: _in_one_unit(table, where) for table in tables}


def _in_one_unit(table: Table, where: str) -> Table:
    """Return the table with its published results converted from percent to the range 0 to 1."""
    return replace(
        table,
        rows=tuple(
            replace(
                row, published={corpus: from_per_cent(printed, f"{where}: row {row.name}") for corpus, printed in row.published.items()}
            )
            for row in table.rows
        ),
    )


def row_experiment(experiment: Experiment, row: Row, available: tuple[str, ...]) -> Experiment | str:
    """Return `experiment` with the changes of `row`, or a sentence with the modalities that `row` needs but the corpus lacks."""
    lacking = [name for name in row.changes.get("modalities", ()) if name not in available]
    if lacking:
        return f"not run: the corpus has no {', '.join(lacking)}"
    changes = {**row.changes, "baseline": False}
    if "modalities" in changes:  # what a method reads besides its modalities stays
        inputs, chosen = experiment.inputs, list(changes["modalities"])
        beside = [*experiment.prior.features, *(["speaker"] if inputs.given_speakers else [])]
        if inputs.second_text and "text" in chosen:
            beside.append(inputs.second_text)
        else:  # a row without text has no second text feature either
            changes["inputs.second_text"] = None
        changes["modalities"] = [*chosen, *(name for name in beside if name not in chosen)]
    return experiment.changed(changes)


def folder_name(row: Row) -> str:
    """Return the folder name for a row of an ablation table: `row-` and its name, with special characters replaced by `-`."""
    return "row-" + "".join(c if c.isalnum() or c in "-_" else "-" for c in row.name)
