"""The settings that a run keeps in its folder (`config.json`): what `--resume` continues with, and what a report asks for."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from erc_graph.errors import CheckpointError

FILE = "config.json"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What stands in a run's `config.json`.

    Attributes:
        method: Its method.
        command: `run` or `table`.
        table: Number of the table, of the latter.
        launch: How it was launched, as options that were given.
        data_sha256: Of its corpus.
        values: The experiment, as plain values for `from_dict`.
    """

    method: str
    command: str
    table: int | None
    launch: dict[str, Any]
    data_sha256: str
    values: dict[str, Any]


def read_settings(folder: Path) -> Settings:
    """The settings of a run.

    Raises:
        CheckpointError: absent, damaged, or not the settings of a run.
    """
    path = folder / FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        command, number, method, digest = values.pop("command"), values.pop("table", None), values.pop("method"), values.pop("data_sha256")
        if command not in ("run", "table") or not isinstance(number, int if command == "table" else type(None)):
            raise ValueError(f"command {command!r}, table {number!r}")
        launch = {name: value for name, value in dict(values.pop("launch", {})).items() if value is not None}
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path}: expected the settings of a run, found something else ({error})") from None
    return Settings(method=method, command=command, table=number, launch=launch, data_sha256=digest, values=values)
