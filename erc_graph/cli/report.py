"""The command `erc-graph report RUN`: write an HTML page about a run."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence

from erc_graph.cli.command import Parser, add_method, command

EXAMPLES = """
  erc-graph report runs/meld               write runs/meld/report.html
  erc-graph report runs/meld --no-text     leave out the texts of the corpus
  erc-graph report runs/meld --all         include training conversations
  erc-graph report runs/meld --json        also print the main metrics as JSON
"""


def make_parser() -> argparse.ArgumentParser:
    """Return the argument parser of the command `erc-graph report`."""
    parser = Parser(
        prog="erc-graph report",
        description="Write an HTML page about a run: metrics, curves, confusion matrix, calibration,\n"
        "errors, and an explorer of conversations and their graphs. A browser can open\n"
        "the page offline.",
        examples=EXAMPLES.strip("\n"),
    )
    parser.add_argument("run", metavar="RUN", help="folder of a finished experiment (--out of `erc-graph experiment`)")
    parser.add_argument("--no-text", dest="text", action="store_false", help="leave out the texts of the conversations")
    parser.add_argument(
        "--all", dest="scope", action="store_const", const="all", default="test", help="include training conversations in the explorer"
    )
    add_method(parser)
    parser.add_argument("--json", action="store_true", help="print the main metrics as JSON")
    return parser


@command
def main(argv: Sequence[str]) -> int:
    """Write the report and return the exit code of the command: 0 success, 2 error, 130 stopped."""
    options = make_parser().parse_args(list(argv))
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    from erc_graph.experiments.report import make_report

    made = make_report(options.run, text=options.text, scope=options.scope, method=options.method)
    for note in made.notes:
        print(f"note: {note}", file=sys.stderr)
    if made.licensed:
        print(
            "note: the page contains the texts of the corpus; keep it private, or use --no-text",
            file=sys.stderr,
        )
    print(json.dumps(made.headline, indent=1) if options.json else f"written to {made.path} ({made.headline['bytes'] / 1e6:.1f} MB)")
    return 0
