"""`erc-graph`: arguments in, exit code out. What is computed is computed elsewhere."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

# Command → what it does. Each is a file of this folder with `main(argv) -> int`, imported when it is called for.
COMMANDS = {
    "experiment": "train and judge a method on a corpus",
    "predict": "label a new conversation with a trained model",
}

EXAMPLES = """examples:
  erc-graph experiment pairwise             train and judge on the generated sample corpus
  erc-graph experiment pairwise --help      all options of a command
  erc-graph --version
"""


def usage() -> str:
    """The page that `erc-graph --help` shows."""
    commands = "\n".join(f"  {name:<12}{words}" for name, words in COMMANDS.items())
    return f"usage: erc-graph COMMAND ...\n\nEmotion recognition in conversations, done with graphs.\n\ncommands:\n{commands}\n\n{EXAMPLES}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code (0 done, 2 refused, 130 stopped)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage(), end="")
        return 0
    if arguments[0] == "--version":
        from erc_graph import __version__

        print(f"erc_graph {__version__}")
        return 0
    if arguments[0] not in COMMANDS:
        print(f"error: expected a command ({', '.join(COMMANDS)}), found {arguments[0]!r}; see erc-graph --help", file=sys.stderr)
        return 2
    return importlib.import_module(f"erc_graph.cli.{arguments[0]}").main(arguments[1:])


if __name__ == "__main__":
    sys.exit(main())
