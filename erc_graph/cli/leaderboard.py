"""The command `erc-graph leaderboard`: train all methods on the same corpora, features and seeds, and compare their results."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from erc_graph.cli.command import Parser, command
from erc_graph.errors import ConfigError

DESCRIPTION = """Train many methods on the same features and seeds, and compare the results in
one table per corpus.

If the package has settings of a method for the corpus, the method is trained
with these settings; otherwise, with its default settings. With --budget N, N
further settings per method are evaluated. They are drawn from ranges that are
the same for all methods. Settings and epochs are chosen on development data or
on held-out training data. The test split is evaluated once per seed. Every
method is compared with the BiGRU and with the first method of the table, by
tests over seeds and over dialogues with Holm's correction.
"""
EXAMPLES = """  erc-graph leaderboard --methods bigru,pairwise,dialoguegcn
      train three methods on the generated sample corpus
  erc-graph leaderboard --data corpora/mine --workers 2 --out runs/board
      train all methods on your own features
  erc-graph leaderboard --data corpora/meld --methods kind:graph --budget 8
      train all graph methods, and evaluate eight further settings of each
  erc-graph leaderboard --resume runs/board
      continue after an interruption; finished trainings are not repeated
"""


def make_parser() -> argparse.ArgumentParser:
    """Return the argument parser of the command `erc-graph leaderboard`."""
    parser = Parser(prog="erc-graph leaderboard", description=DESCRIPTION, examples=EXAMPLES, usage="%(prog)s [options]")
    parser.add_argument("--data", nargs="+", metavar="CORPUS", help="one corpus or several (default: sample)")
    parser.add_argument(
        "--methods",
        nargs="+",
        metavar="NAME",
        help="`all`, names of methods, your own methods (my_method.py:Own), or all methods of a kind: kind:graph, kind:recurrent, "
        "kind:transformer, kind:fusion or 'kind:language model'; with commas or spaces in between (default: all)",
    )
    parser.add_argument(
        "--seeds", type=int, metavar="N", help="number of trainings per method, each with another seed (default: from the rules, 5)"
    )
    parser.add_argument(
        "--budget", type=int, metavar="N", help="number of further settings per method, drawn from ranges (default: from the rules, 0)"
    )
    parser.add_argument(
        "--rules",
        metavar="FILE.toml",
        help="file with your own rules, or `standard`: rules for the usual features of the field (RoBERTa, openSMILE and DenseNet) "
        "(default: leaderboard.toml)",
    )
    parser.add_argument("--workers", type=int, metavar="N", help="number of trainings at the same time (default: one)")
    parser.add_argument(
        "--launcher", choices=("local", "ray"), help="where trainings run: on this machine, or on a Ray cluster (default: local)"
    )
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="folder of all results (default: runs/leaderboard)")
    parser.add_argument("--dry-run", action="store_true", help="print what would be trained, without training")
    parser.add_argument("--resume", type=Path, metavar="FOLDER", help="continue an interrupted leaderboard, or add --seeds or --methods")
    return parser


@command
def main(argv: Sequence[str]) -> int:
    """Run the command `erc-graph leaderboard` and return its exit code."""
    options = make_parser().parse_args(argv)

    from erc_graph.experiments.experiment import Launch
    from erc_graph.experiments.leaderboard.standings import begin, go_on

    methods = [name for word in options.methods or () for name in word.split(",") if name.strip()]
    launch = Launch(workers=options.workers, launcher=options.launcher or "local")
    if options.resume:
        others = ("budget", "rules", "out")
        if options.dry_run or any(getattr(options, name) is not None for name in others):
            raise ConfigError(
                "--resume: expected no other options than --seeds, --methods (to add methods, and to name your own files again), --data "
                "(for corpora that have moved), --workers and --launcher; leave out the others, because --resume keeps their first values"
            )
        return go_on(options.resume, launch, data=options.data, methods=methods, seeds=options.seeds)
    return begin(
        options.data or ["sample"], methods or ["all"], options.out or Path("runs") / "leaderboard", launch,
        seeds=options.seeds, budget=options.budget, rules=options.rules, dry_run=options.dry_run,
    )  # fmt: skip
