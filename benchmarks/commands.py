"""`python -m benchmarks.commands`: write the help pages into docs/commands.md.

`--check` writes nothing, and returns exit code 1 if the page is not up to date.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from pathlib import Path

from erc_graph.cli.main import main as erc_graph

PAGE = Path(__file__).resolve().parents[1] / "docs" / "commands.md"
BLOCK = re.compile(r"(```text\n\$ erc-graph ([^\n]*--help)\n)(.*?)(```)", re.S)


def help_of(arguments: str) -> str:
    """Return what `erc-graph <arguments>` prints on a terminal of 80 columns."""
    os.environ["COLUMNS"] = "80"
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        if code := erc_graph(arguments.split()):
            raise SystemExit(f"commands: expected exit code 0 of `erc-graph {arguments}`, found {code}")
    return shown.getvalue()


def rendered(text: str) -> str:
    """Return the text of the page with all help pages updated."""
    return BLOCK.sub(lambda found: found[1] + help_of(found[2]) + found[4], text)


def main() -> int:
    text = PAGE.read_text(encoding="utf-8")
    new = rendered(text)
    if "--check" in sys.argv:
        return int(new != text)
    PAGE.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
