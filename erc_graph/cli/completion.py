"""The command `erc-graph completion SHELL`: print a script for tab completion in a shell.

The library shtab writes the script from the parsers of all commands.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Sequence
from typing import Any

from erc_graph.cli.command import Parser, command

SHELLS = ("bash", "zsh", "fish", "powershell")  # shtab's for tcsh knows nothing below the first word
DESCRIPTION = "Print a script for tab completion of commands, options and choices in a shell."
EXAMPLES = """  bash   erc-graph completion bash > \\
             ~/.local/share/bash-completion/completions/erc-graph
  zsh    erc-graph completion zsh > ~/.zfunc/_erc-graph
             and in ~/.zshrc: fpath=(~/.zfunc $fpath); autoload -U compinit
             and then: compinit
  fish   erc-graph completion fish > ~/.config/fish/completions/erc-graph.fish
  powershell
         erc-graph completion powershell >> $PROFILE

Then open a new shell. After an upgrade of erc_graph, print the script again,
because it contains the options of the old version.
"""


def make_parser() -> argparse.ArgumentParser:
    """Return the argument parser of the command `erc-graph completion`."""
    parser = Parser(prog="erc-graph completion", description=DESCRIPTION, examples=EXAMPLES)
    parser.add_argument("shell", choices=SHELLS, help="your shell")
    return parser


@command
def main(argv: Sequence[str]) -> int:
    """Run the command `erc-graph completion` and return its exit code."""
    options = make_parser().parse_args(argv)
    import shtab

    print(shtab.complete(whole_parser(), options.shell))
    return 0


def whole_parser() -> argparse.ArgumentParser:
    """Return the parser of `erc-graph`, with the parsers of all commands as subparsers."""
    from erc_graph.cli.main import COMMANDS

    parsers = {name: importlib.import_module(f"erc_graph.cli.{name}").make_parser for name in COMMANDS}
    root = argparse.ArgumentParser(prog="erc-graph", description="Recognise emotions in conversations with graphs.")
    root.add_argument("--version", action="store_true", help="print the version")
    hang(root, parsers, COMMANDS)
    return root


def hang(parser: argparse.ArgumentParser, parsers: dict[str, Callable[[], argparse.ArgumentParser]], words: dict[str, str]) -> None:
    """Add existing parsers to a parser as its subcommands."""

    def ready(**options: Any) -> argparse.ArgumentParser:
        return parsers[options["prog"].split()[-1]]()

    made: Any = ready  # what argparse calls a class is called to make a parser, and nothing else
    commands = parser.add_subparsers(dest="command", parser_class=made)
    for name in parsers:
        commands.add_parser(name, help=words.get(name, name))
