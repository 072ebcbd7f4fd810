"""`erc-graph`: arguments in, exit code out. What is computed is computed elsewhere."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from erc_graph.cli.command import command

# Command → what it does. Each is a file of this folder with `make_parser()` and `main(argv) -> int`, imported when it is called for.
COMMANDS = {
    "corpus": "look at conversations, check them, convert and save them",
    "features": "from raw text, sound and pictures to feature files",
    "graph": "draw conversations: PNG, SVG, GraphML, interactive HTML",
    "experiment": "train and judge a method on a corpus",
    "predict": "label conversations with a trained model",
    "serve": "answer requests over HTTP with a trained model",
    "report": "a run as one page: figures, errors, an explorer of conversations",
    "leaderboard": "many methods under the same rules, in one table",
    "compare": "finished runs side by side, with paired tests",
    "list": "methods, models, recipes, corpora, tasks, formats that are known",
    "completion": "a script that lets the shell complete all this",
}

EXAMPLES = """examples:
  erc-graph corpus inspect corpora/meld     what is in these files?
  erc-graph graph sample --out graph.html   explore a conversation in a browser
  erc-graph experiment pairwise             train and judge on the sample corpus
  erc-graph predict talk.txt                what do they feel, turn by turn
  erc-graph report runs/meld                what did it learn, where is it off?
  erc-graph compare runs/a runs/b           which is better, and is that chance?
  erc-graph COMMAND --help                  all options of a command

DATA is everywhere a folder with corpus.toml, a saved corpus, an annotation
file, or a generated corpus: `sample`, or `sample-raw` of words, waveforms and
face frames. Exit codes: 0 done, 1 done but for what `predict --out` lists as
refused, 2 refused, 130 stopped.
"""


def usage() -> str:
    """The page that `erc-graph --help` shows."""
    commands = "\n".join(f"  {name:<13}{words}" for name, words in COMMANDS.items())
    return (
        "usage: erc-graph COMMAND ...\n       erc-graph --version\n\n"
        f"Emotion recognition in conversations, done with graphs.\n\ncommands:\n{commands}\n\n{EXAMPLES}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code (0 done, 2 refused, 130 stopped)."""
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
        print(f"error: expected a command ({', '.join(COMMANDS)}), found {argv[0]!r}; see erc-graph --help", file=sys.stderr)
        return 2
    return int(importlib.import_module(f"erc_graph.cli.{argv[0]}").main(argv[1:]))


if __name__ == "__main__":
    sys.exit(main())
