"""Every benchmark can be started: what it imports is still there, and its help says what it measures."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

import benchmarks
from benchmarks import operators

NAMES = sorted(path.stem for path in Path(benchmarks.__file__).parent.glob("*.py") if path.stem != "__init__")


def test_there_are_benchmarks() -> None:
    assert {"angular_conv", "epoch", "graph_build", "long_conversation", "operators", "stream"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_can_be_started(name: str) -> None:
    module = importlib.import_module(f"benchmarks.{name}")
    assert module.__doc__ and callable(module.main)


@pytest.mark.parametrize("case", operators.CASES)
def test_every_method_of_an_operator_runs(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operators, "LENGTHS", (4, 2, 1))
    for method in (*operators.methods_of(case), *(["floor"] if case.endswith("complete") else [])):
        if method == "dgl":
            pytest.importorskip("dgl")
        operators.prepare(case, method)()
