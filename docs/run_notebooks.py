"""`make notebooks`: run the notebooks of this folder, each in an empty folder, and keep their outputs. Names choose some of them."""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from nbclient import NotebookClient

DOCS = Path(__file__).parent


def main(names: list[str]) -> None:
    """Run all notebooks, or those with these names; an error in a cell ends it, and that notebook stays as it was."""
    for path in sorted(DOCS.glob("*.ipynb")):
        if not names or path.stem in names:
            print(path.name)
            notebook = nbformat.read(path, as_version=4)
            with TemporaryDirectory() as empty:
                NotebookClient(notebook, record_timing=False, resources={"metadata": {"path": empty}}).execute()
            nbformat.write(notebook, path)


if __name__ == "__main__":
    main(sys.argv[1:])
