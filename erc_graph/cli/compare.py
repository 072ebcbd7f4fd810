"""The command `erc-graph compare`: compare finished runs with paired significance tests."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

from erc_graph.cli.command import Parser, command, red
from erc_graph.data.printable import printable

DESCRIPTION = """Compare finished runs: mean and standard deviation over the seeds that all runs
have, differences in protocol or data, and two paired tests.

Each run is compared with the first run, by two tests:
  over seeds      Would other seeds give the same result? This is an exact
                  sign-flip permutation test. With five seeds, p is at least
                  0.0625; with six seeds, p can be below 0.05.
  over dialogues  Would other conversations give the same result? This is a
                  bootstrap of whole dialogues. It uses predictions.csv of each
                  run's first seed.
All p-values have Holm's correction for the number of comparisons in the table.
With fewer metrics, there are fewer comparisons. The tables contain no published
results.
"""
EXAMPLES = """  erc-graph compare runs/pairwise-meld runs/pairwise-meld/bigru
      compare a method with the BiGRU that was trained in the same run
  erc-graph compare runs/a runs/b runs/c --all-pairs --metric weighted_f1
      compare every pair of runs in one metric
  erc-graph compare runs/a runs/b --format latex > table.tex
      write a LaTeX table for a paper (it needs the package booktabs)
"""


def make_parser() -> argparse.ArgumentParser:
    """Return the argument parser of the command `erc-graph compare`."""
    parser = Parser(prog="erc-graph compare", description=DESCRIPTION, examples=EXAMPLES, usage="%(prog)s RUN RUN ... [options]")
    parser.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="folder of a finished run, its folder bigru, or a result.json")
    parser.add_argument(
        "--metric",
        nargs="+",
        metavar="NAME",
        help="names of metrics in result.json, for example f1/joy (default: the metrics that a run prints)",
    )
    parser.add_argument("--all-pairs", action="store_true", help="compare every pair of runs, not only each run with the first run")
    parser.add_argument(
        "--format", choices=("text", "markdown", "latex", "csv"), default="text", help="format of the tables (default: text)"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write to this file instead of standard output")
    parser.add_argument("--json", action="store_true", help="print one JSON object with all results")
    return parser


@command
def main(argv: Sequence[str]) -> int:
    """Run the command `erc-graph compare` and return its exit code."""
    options = make_parser().parse_args(argv)

    from erc_graph.experiments.compare import compare_runs
    from erc_graph.experiments.comparison_tables import WRITERS, as_text, as_values

    comparison = compare_runs([os.fspath(run) for run in options.runs], metrics=options.metric, all_pairs=options.all_pairs)
    if options.json:
        text = json.dumps(as_values(comparison), ensure_ascii=False, indent=1)
    elif options.format == "text" and options.out is None:
        text = as_text(comparison, lambda line: red(printable(line)))
    else:
        text = WRITERS[options.format](comparison)
    if options.out is None:
        print(text if options.format == "text" and not options.json else printable(text))
        return 0
    from erc_graph.data.files.storage import atomic_write

    with atomic_write(options.out) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8", errors="replace")
    print(f"written: {options.out}")
    return 0
