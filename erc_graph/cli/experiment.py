"""`erc-graph experiment METHOD`: the same as `python -m erc_graph.experiments.METHOD`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial

from erc_graph.cli.command import Parser, command

DESCRIPTION = "Train and judge a method on a corpus, beside the majority class and a BiGRU."
EXAMPLES = """  erc-graph experiment pairwise
      the generated sample corpus, under a minute
  erc-graph experiment pairwise --data corpora/meld --seeds 5 --out runs/meld
      a corpus of your own, five seeds
  erc-graph experiment pairwise --resume runs/meld
      continue a run that was stopped
  erc-graph experiment pairwise --help
      all options of a method
"""


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command, with those of all methods in it."""
    from erc_graph.cli.completion import hang
    from erc_graph.cli.list import methods
    from erc_graph.experiments.command import make_parser as of_method

    words = methods()
    parser = Parser(prog="erc-graph experiment", description=DESCRIPTION)
    hang(parser, {name: partial(of_method, name) for name in words}, words)
    return parser


def page() -> str:
    """What `erc-graph experiment --help` shows: no method's own parser is made for it, which takes seconds."""
    from erc_graph.cli.list import methods

    parser = Parser(prog="erc-graph experiment", description=DESCRIPTION, examples=EXAMPLES, usage="%(prog)s METHOD [options]")
    kinds = parser.add_subparsers(title="methods", metavar="METHOD")
    for name, words in methods().items():
        kinds.add_parser(name, help=words)
    return parser.format_help()


@command
def main(argv: Sequence[str]) -> int:
    """Run the experiment command of a method; returns the exit code."""
    from erc_graph.methods import PIPELINES

    if argv and argv[0] in ("-h", "--help"):
        print(page(), end="")
        return 0
    if not argv or argv[0] not in PIPELINES:
        found = repr(argv[0]) if argv else "none"
        print(f"error: expected a method ({', '.join(PIPELINES)}), found {found}; see erc-graph experiment --help", file=sys.stderr)
        return 2
    from erc_graph.experiments.command import main as experiment

    return experiment(argv[0], argv[1:])
