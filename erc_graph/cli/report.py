"""`erc-graph report RUN`: one page that shows a run."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence

from erc_graph.cli.command import Parser, add_method, command

EXAMPLES = """
  erc-graph report runs/meld               writes runs/meld/report.html; open it
  erc-graph report runs/meld --no-text     without what was said, to pass it on
  erc-graph report runs/meld --all         the explorer has the whole corpus
  erc-graph report runs/meld --json        the headline for machines
"""


def make_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = Parser(
        prog="erc-graph report",
        description="One page that shows a run: figures, curves, confusion, calibration, errors,\n"
        "and an explorer of its conversations and their graphs. It opens offline.",
        examples=EXAMPLES.strip("\n"),
    )
    parser.add_argument("run", metavar="RUN", help="folder of a finished experiment (its --out)")
    parser.add_argument("--no-text", dest="text", action="store_false", help="leave out what was said")
    parser.add_argument("--all", dest="scope", action="store_const", const="all", default="test", help="explore training conversations too")
    add_method(parser)
    parser.add_argument("--json", action="store_true", help="print the headline as JSON")
    return parser


@command
def main(argv: Sequence[str]) -> int:
    """Write the report; returns the exit code (0 done, 2 refused, 130 stopped)."""
    options = make_parser().parse_args(list(argv))
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    from erc_graph.experiments.report import make_report

    made = make_report(options.run, text=options.text, scope=options.scope, method=options.method)
    for note in made.notes:
        print(f"note: {note}", file=sys.stderr)
    if made.licensed:
        print("note: the page carries the corpus' text, for you alone; --no-text makes one to pass on", file=sys.stderr)
    print(json.dumps(made.headline, indent=1) if options.json else f"written to {made.path} ({made.headline['bytes'] / 1e6:.1f} MB)")
    return 0
