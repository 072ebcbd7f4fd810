"""The command `erc-graph`, which runs its subcommands."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from erc_graph.cli.command import command
from erc_graph.data.printable import nearest

# Command → what it does. Each is a file of this folder with `make_parser()` and `main(argv) -> int`, imported when it is called for.
COMMANDS = {
    "corpus": "inspect, check, convert or save a corpus of conversations",
    "features": "compute feature files from raw text, audio and video",
    "graph": "draw conversations: PNG, SVG, GraphML, interactive HTML",
    "experiment": "train and evaluate a method on a corpus",
    "predict": "label conversations with a trained model",
    "serve": "label conversations over HTTP with a trained model",
    "report": "write a page about a run: metrics, errors, conversations",
    "leaderboard": "train and compare many methods on the same features and seeds",
    "compare": "compare finished runs, with paired tests",
    "list": "list known methods, models, recipes, corpora, tasks, formats",
    "completion": "print a script for tab completion in a shell",
}

EXAMPLES = """examples:
  erc-graph corpus inspect corpora/meld     show sizes and labels of a corpus
  erc-graph graph sample --out graph.html   draw the graph of a conversation
  erc-graph experiment pairwise             train on the sample corpus
  erc-graph predict talk.txt                predict emotions of utterances
  erc-graph report runs/meld                show metrics and errors of a run
  erc-graph compare runs/a runs/b           test which run is better
  erc-graph COMMAND --help                  show all options of a command

DATA is always a folder with corpus.toml, a saved corpus, an annotation file,
or a generated corpus: `sample`, or `sample-raw` (words, waveforms and face
frames).

Exit codes: 0 success; 1 `predict --out` could not label some conversations;
2 error; 130 stopped with Ctrl-C.
"""


def usage() -> str:
    """Return the help page of `erc-graph --help`."""
    commands = "\n".join(f"  {name:<13}{words}" for name, words in COMMANDS.items())
    return (
        "usage: erc-graph COMMAND ...\n       erc-graph --version\n\n"
        f"Recognise emotions in conversations with graphs.\n\ncommands:\n{commands}\n\n{EXAMPLES}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code (0 success, 2 error, 130 stopped)."""
    return _main(sys.argv[1:] if argv is None else argv)


@command
def _main(argv: Sequence[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(usage(), end="")
        return 0
    if argv[0] == "--version":
        from erc_graph import __version__

        print(f"erc_graph {__version__}")
        return 0
    if argv[0] not in COMMANDS:
        found = f"{argv[0]!r}{nearest(argv[0], COMMANDS)}"
        print(f"error: expected a command ({', '.join(COMMANDS)}), found {found}; see erc-graph --help", file=sys.stderr)
        return 2
    return int(importlib.import_module(f"erc_graph.cli.{argv[0]}").main(argv[1:]))


if __name__ == "__main__":
    sys.exit(main())
