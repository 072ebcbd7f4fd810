"""`python -m erc_graph` is `erc-graph`."""

from __future__ import annotations

import sys

from erc_graph.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
