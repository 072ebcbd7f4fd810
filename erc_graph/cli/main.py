"""`erc-graph`: arguments in, exit code out. What is computed is computed elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Sequence

USAGE = """usage: erc-graph experiment METHOD [options]

Emotion recognition in conversations, done with graphs.

  erc-graph experiment pairwise             train and judge on the generated sample corpus
  erc-graph experiment pairwise --help      all options
  erc-graph experiment bigru --data DIR     the baseline alone
  erc-graph --version
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code (0 done, 2 refused, 130 stopped)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0
    if arguments[0] == "--version":
        from erc_graph import __version__

        print(f"erc_graph {__version__}")
        return 0
    if arguments[0] != "experiment":
        print(f"error: expected the command experiment, found {arguments[0]!r}; see erc-graph --help", file=sys.stderr)
        return 2
    from erc_graph.pipelines import PIPELINES

    if len(arguments) < 2 or arguments[1] in ("-h", "--help"):
        print(USAGE + f"\nmethods: {', '.join(sorted(PIPELINES))}")
        return 0 if len(arguments) > 1 else 2
    if arguments[1] not in PIPELINES:
        print(f"error: expected a method ({', '.join(sorted(PIPELINES))}), found {arguments[1]!r}", file=sys.stderr)
        return 2
    from erc_graph.experiments.command import main as experiment

    return experiment(arguments[1], arguments[2:])


if __name__ == "__main__":
    sys.exit(main())
