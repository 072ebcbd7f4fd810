"""The test result with the epoch selected on the test split, as in many published results. This result is only shown in tables.

Only this module reads the test results after every epoch. Code that selects epochs or settings must not import this module.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from erc_graph.data.files.journal import Journal, Record


def trace_of(record: Record) -> str | None:
    """Return the name of the training of a record with test results after every epoch; `None` for any other record."""
    name, stages = record.get("training"), record.get("stages")
    return name if isinstance(name, str) and isinstance(stages, dict) and all(isinstance(one, dict) for one in stages.values()) else None


def chosen_on_test(traces: Path, trainings: Iterable[str]) -> dict[str, float]:
    """Return the best test result of each training over the epochs of its last stage; trainings without results per epoch are left out."""
    found = {}
    with Journal(traces, trace_of) as journal:
        for name in trainings:
            if (record := journal.get(name)) and (best := _best(record["stages"])) is not None:
                found[name] = best
    return found


def _best(stages: Mapping[str, Mapping[str, float | None]]) -> float | None:
    last = stages[max(stages, key=int)] if stages else {}
    return max((value for value in last.values() if value is not None), default=None)
