"""The command `erc-graph experiment METHOD`: train and evaluate a method on a corpus."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial

from erc_graph.cli.command import Parser, command
from erc_graph.errors import ConfigError

DESCRIPTION = "Train and evaluate a method on a corpus, and compare it with two baselines:\nthe majority class and a BiGRU."
EXAMPLES = """  erc-graph experiment pairwise
      train on the generated sample corpus; this takes less than a minute
  erc-graph experiment pairwise --data corpora/meld --seeds 5 --out runs/meld
      train on your own corpus, with five seeds
  erc-graph experiment pairwise --resume runs/meld
      continue an interrupted run
  erc-graph experiment --method my_method.py:Own --data corpora/meld
      train your own method: the class Own in my_method.py
  erc-graph experiment pairwise --help
      show all options of a method
"""


def make_parser() -> argparse.ArgumentParser:
    """Return the argument parser of the command `erc-graph experiment`, with the parsers of all methods."""
    from erc_graph.cli.completion import hang
    from erc_graph.cli.list import methods
    from erc_graph.experiments.parser import make_parser as of_method

    words = methods()
    parser = Parser(prog="erc-graph experiment", description=DESCRIPTION)
    hang(parser, {name: partial(of_method, name) for name in words}, words)
    return parser


def page() -> str:
    """Return the help page of `erc-graph experiment`. The parsers of the methods are slow to build, and are not built."""
    from erc_graph.methods import METHODS

    parser = Parser(prog="erc-graph experiment", description=DESCRIPTION, examples=EXAMPLES, usage="%(prog)s METHOD [options]")
    kinds: dict[str, list[str]] = {}
    for name, method in METHODS.items():
        kinds.setdefault(method.family, []).append(name)
    title = "METHOD is one of these names; `erc-graph list methods` shows the papers"
    group = parser.add_argument_group(title)
    for kind, names in kinds.items():
        group.add_argument(kind, help=", ".join(names), nargs="?")
    return parser.format_help()


@command
def main(argv: Sequence[str]) -> int:
    """Run the experiment command of a method and return the exit code."""
    from erc_graph.experiments.command import main as experiment

    method, others = named(argv)
    if method is None and ("-h" in argv or "--help" in argv):
        print(page(), end="")
        return 0
    from erc_graph.methods.own_file import find_method

    if method is None:
        raise ConfigError(
            "method: expected the name of a method, or --method FILE.py:CLASS, found neither; `erc-graph list methods` lists the names"
        )
    find_method(method)  # an unknown one is refused before its options are read
    return experiment(method, others)


def named(argv: Sequence[str]) -> tuple[str | None, list[str]]:
    """Return the name of the method (from the first argument or from the option `--method`) and the remaining arguments.

    Raises:
        ConfigError: the arguments name two methods.
    """
    found = [argv[0]] if argv and not argv[0].startswith("-") else []
    others: list[str] = []
    words = iter(argv[len(found) :])
    for word in words:
        option, equals, value = word.partition("=")
        if option != "--method":
            others.append(word)
        elif value or not equals:
            found.append(value if equals else next(words, ""))
    if len(found) > 1:
        raise ConfigError(f"method: expected one method, found {found[0]!r} and {found[1]!r}")
    return (found[0] if found else None), others
