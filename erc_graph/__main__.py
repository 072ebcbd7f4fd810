"""`python -m erc_graph` runs the same program as the command `erc-graph`."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    try:
        from erc_graph.cli.main import main
    except KeyboardInterrupt:  # before a command is there to answer it
        sys.stderr.write("stopped\n")
        sys.exit(130)
    sys.exit(main())
