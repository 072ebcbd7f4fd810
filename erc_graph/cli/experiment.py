"""`erc-graph experiment METHOD`: the same as `python -m erc_graph.experiments.METHOD`."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(argv: Sequence[str]) -> int:
    """Run the experiment command of a method; returns the exit code."""
    from erc_graph.pipelines import PIPELINES

    methods = ", ".join(sorted(PIPELINES))
    if not argv or argv[0] in ("-h", "--help"):
        print(
            f"usage: erc-graph experiment METHOD [options]\n\nmethods: {methods}\n\n`erc-graph experiment METHOD --help` shows the options."
        )
        return 0 if argv else 2
    if argv[0] not in PIPELINES:
        print(f"error: expected a method ({methods}), found {argv[0]!r}", file=sys.stderr)
        return 2
    from erc_graph.experiments.command import main as experiment

    return experiment(argv[0], argv[1:])
