"""There is something to test: every method, every combination of it that is not refused, and every settings file."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from erc_graph.data.files.toml import read_toml
from erc_graph.errors import ConfigError
from erc_graph.methods import METHODS
from erc_graph.methods.prior import PriorConfig
from erc_graph.methods.schema import Schema
from tests.laws.cases import MODALITIES, REFUSED, SETTINGS, THREE, WIDTHS, cases_of, defaults, every_case, small


@pytest.mark.slow
def test_nothing_is_left_out() -> None:
    """Of every method {default, causal} × {all, each alone} and ensembles are cases, or refused in words."""
    names = {case.name for case in every_case()}
    wanted = {
        f"{method}: {label}{heard}"
        for method in METHODS
        for label in defaults(method)
        for heard in ("", ", ensemble", *(f", {name} alone" for name in MODALITIES))
    }
    assert len(wanted) >= 5 * len(METHODS) and wanted <= names | set(REFUSED)
    files = {path for path in SETTINGS.rglob("*.toml") if {"method", "training"} <= set(read_toml(path))}
    assert len(files) == sum(case.kind == "settings" for case in every_case()) > 0


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_method_reads_all_modalities_or_one_of_them(method: str) -> None:
    plain = [case for case in cases_of(method) if case.kind == "plain"]
    for label in defaults(method):
        assert any(case.name.startswith(f"{method}: {label}") for case in plain)
    assert any(case.kind == "form" for case in cases_of(method)) == (len(METHODS[method].reads) > 1)


def test_what_is_refused_is_refused_in_one_line() -> None:
    every_case()
    for name, reason in REFUSED.items():
        assert ("\n" not in reason and ": expected " in reason) or "modalities: " in reason, name


@pytest.mark.parametrize("method", METHODS)
def test_a_method_says_whether_it_can_be_causal(method: str) -> None:
    kind = METHODS[method]
    asked = any(one.name == "causal" for one in fields(kind.Config))
    schema = cases_of(method)[0].schema
    if not kind.can_be_causal:
        with pytest.raises(ConfigError, match=kind.__name__):
            kind(schema, replace(small(kind.Config()), causal=True))
    assert kind.can_be_causal == any(case.build().causal for case in cases_of(method) if case.whole)
    assert asked or kind(schema, small(kind.Config())).causal  # one that always is needs no word for it


@pytest.mark.parametrize("method", [method for method, kind in METHODS.items() if "features" not in kind.reads])
def test_a_method_of_sequences_refuses_vectors(method: str) -> None:
    schema = Schema(widths={"said": 3}, sequences={name: (WIDTHS[name],) for name in MODALITIES}, task=THREE)
    if not METHODS[method].narrow(schema).widths:  # it leaves them out itself
        return
    with pytest.raises(ConfigError, match="reads no vectors, found vectors of said"):
        METHODS[method](schema, small(METHODS[method].Config()), prior=PriorConfig(features=["said"], stream=True))
