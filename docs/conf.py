"""Pages from docs/ and from the docstrings: `make docs`. Docstrings are reST with a few habits of Markdown, mended here."""

from __future__ import annotations

import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

with suppress(ImportError):
    import fastapi  # noqa: F401  autodoc imports modules as a type checker reads them, which this one does not bear

project = "erc_graph"
release = version = re.search(r'__version__ = "(.+)"', (ROOT / "erc_graph" / "__init__.py").read_text(encoding="utf-8"))[1]
extensions = ["myst_nb", "sphinx.ext.apidoc", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"erc_graph {version}"
html_copy_source = False

nb_execution_mode = "off"  # notebooks are committed with their outputs; `make notebooks` runs them
myst_heading_anchors = 3
default_role = "code"  # `name` in a docstring is code

apidoc_modules = [
    {
        "path": str(ROOT / "erc_graph"),
        "destination": "reference",
        "exclude_patterns": [str(ROOT / "erc_graph" / "__main__.py")],
        "separate_modules": True,
        "module_first": True,
        "max_depth": 2,
    }
]
# Every name is documented where it is defined, not again where a package hands it on.
autodoc_default_options = {"members": True, "ignore-module-all": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_google_docstring, napoleon_numpy_docstring = True, False
napoleon_use_ivar = True


def _list_table(rows: list[str]) -> list[str]:
    """A Markdown table as a reST list-table."""
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", row.strip().strip("|"))] for row in rows]
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in (cells[0], *cells[2:]):
        lines += [f"   {'*' if i == 0 else ' '} - {cell}" for i, cell in enumerate(row)]
    return ["", *lines, ""]


def mend(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Markdown tables become reST tables, and lists get the empty line in front that reST wants."""
    mended: list[str] = []
    table: list[str] = []
    for line in [*lines, ""]:
        if re.match(r"\s*\|.*\|\s*$", line):
            table.append(line)
            continue
        if table:
            mended += _list_table(table)
            table = []
        if re.match(r"- ", line) and mended and mended[-1].strip() and not re.match(r"(- |  )", mended[-1]):
            mended.append("")
        mended.append(line)
    lines[:] = mended


def setup(app: Any) -> None:
    """Called by Sphinx."""
    from benchmarks.method_pages import write_pages

    app.connect("autodoc-process-docstring", mend)
    app.connect("builder-inited", lambda _: write_pages(ROOT / "docs" / "methods"))
