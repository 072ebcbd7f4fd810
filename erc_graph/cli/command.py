"""Command-line parser, error handling and terminal output that all commands share."""

from __future__ import annotations

import argparse
import functools
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NoReturn, TextIO

from erc_graph.data.printable import nearest_option, one_line, open_streams, refusal
from erc_graph.errors import ErcGraphError
from erc_graph.inference.starter import STARTER


class Parser(argparse.ArgumentParser):
    """An argument parser whose help has at most 80 columns and ends with examples, and whose error messages are one line."""

    def __init__(self, *, examples: str = "", **options: Any) -> None:
        if examples:
            options["epilog"] = f"examples:\n{examples.rstrip()}"
        super().__init__(**{"formatter_class": Formatter, "allow_abbrev": False, **options})

    def error(self, message: str) -> NoReturn:
        """Print an error on standard error and end with exit code 2.

        For an unknown option, the message names the most similar option.
        """
        self.exit(2, f"error: {refusal(message)}{nearest_option(message, self._option_string_actions)}; see {self.prog} --help\n")


def add_method(parser: argparse.ArgumentParser) -> None:
    """Add the option `--method`, which names the Python file and class of a user's own method.

    A saved run records the name of this file. For safety, the recorded file is not imported without this option.
    """
    parser.add_argument("--method", metavar="FILE.py:CLASS", help="method of the run, if it is defined in your own file")


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add the options `--model` (default: the starter model) and `--method`."""
    parser.add_argument(
        "--model",
        metavar="RUN",
        default=STARTER,
        help="folder of a run, a saved model, or the name of a model on the Hugging Face hub (default: starter, which comes with the "
        "package)",
    )
    add_method(parser)


class Formatter(argparse.RawDescriptionHelpFormatter):
    """A formatter for help pages of at most 80 columns. Descriptions and examples are not wrapped."""

    def __init__(self, prog: str, **options: Any) -> None:
        width = min(80, shutil.get_terminal_size().columns)
        super().__init__(prog, **{**options, "max_help_position": 26, "width": width})


def command(body: Callable[[Sequence[str]], int]) -> Callable[[Sequence[str]], int]:
    """Convert the function of a command to `main(argv)`, which handles errors.

    After an error, `main` prints one line and returns exit code 2. After Ctrl-C, it returns exit code 130. If the program that reads the
    output has ended (a closed pipe), it returns 0. A full disk is an error.
    """

    @functools.wraps(body)
    def main(argv: Sequence[str]) -> int:
        open_streams()
        try:
            code = body(argv)
            sys.stdout.flush()
            return code
        except ErcGraphError as error:
            print(f"error: {refusal(error)}", file=sys.stderr)
            return 2
        except KeyboardInterrupt as stop:
            print(f"stopped; {stop}" if str(stop) else "stopped", file=sys.stderr)
            return 130
        except SystemExit as stop:  # argparse, after printing
            return stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 2
        except BrokenPipeError:  # whoever read the output had enough
            _drop_output()
            return 0
        except OSError as error:
            print(f"error: {one_line(error.filename or 'standard output', 200)}: {error.strerror or error}", file=sys.stderr)
            _drop_output()
            return 2

    return main


def _drop_output() -> None:
    """Discard the output that could not be written; otherwise Python writes it again at exit, and fails again."""
    with suppress(ValueError, OSError):
        number = sys.stdout.fileno()
        try:
            sys.stdout.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)


def remark(text: object) -> None:
    """Print a note on standard error as one line."""
    print(f"note: {one_line(text, 2000)}", file=sys.stderr)


def red(text: str, stream: TextIO | None = None) -> str:
    """Return the text in red if the stream is a terminal with colours (variable `NO_COLOR` unset, variable `TERM` not `dumb`)."""
    stream = sys.stdout if stream is None else stream
    coloured = stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"
    return f"\x1b[31m{text}\x1b[0m" if coloured else text


def bar(share: float, width: int = 24) -> str:
    """Return a text bar whose length is proportional to a share from 0 to 1; for a share of 1, it has `width` characters.

    For a share above 0, the bar has at least one character. If standard output cannot encode the character `█`, the bar consists of `#`.
    """
    try:
        "█".encode(sys.stdout.encoding or "ascii")
        block = "█"
    except UnicodeEncodeError:
        block = "#"
    return block * max(round(width * share), 1 if share > 0 else 0)
