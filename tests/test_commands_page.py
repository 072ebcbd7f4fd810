from __future__ import annotations

import pytest

from benchmarks.commands import BLOCK, PAGE, help_of
from erc_graph.cli.main import COMMANDS

TEXT = PAGE.read_text(encoding="utf-8")
SHOWN = {found[2]: found[3] for found in BLOCK.finditer(TEXT)}


def test_every_command_has_its_help() -> None:
    assert set(SHOWN) == {"--help", *(f"{name} --help" for name in COMMANDS)}


@pytest.mark.parametrize("arguments", SHOWN)
def test_the_page_shows_the_help_of_today(arguments: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    # Versions of Python break the lines of argparse differently.
    assert SHOWN[arguments].split() == help_of(arguments).split(), "stale: python -m benchmarks.commands"
