"""The command `python -m erc_graph.experiments.mfdr`, which trains and evaluates MFDR, a fusion of words with audio."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the experiment, and return the exit code."""
    from erc_graph.experiments.command import main as command

    return command("mfdr", argv)


if __name__ == "__main__":
    sys.exit(main())
