from __future__ import annotations

import pytest

from erc_graph import __version__
from erc_graph.cli.main import main


def test_no_command_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "erc-graph experiment pairwise" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"erc_graph {__version__}"


@pytest.mark.parametrize(("arguments", "message"), [(["predikt"], "found 'predikt'"), (["experiment", "magic"], "expected a method")])
def test_unknown_words(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_methods_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["experiment"]) == 2
    assert "methods: bigru, pairwise" in capsys.readouterr().out


def test_an_experiment_gets_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["experiment", "pairwise", "--pipeline.conv.depth", "0", "--dry-run"]) == 2
    assert "conv.depth: expected 1 or more, found 0" in capsys.readouterr().err
    assert main(["experiment", "bigru", "--dry-run"]) == 0
    assert "bigru" in capsys.readouterr().out
