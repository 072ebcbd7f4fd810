"""The parser of `erc-graph experiment METHOD`: every field of the method's configuration is an option."""

from __future__ import annotations

import argparse
import inspect
import shutil
import sys
import textwrap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

EPILOG = """examples:
  {program}
      train on a generated corpus; this takes a few minutes at most
  {program} --data corpora/iemocap \\
      --seeds 5 --out runs/iemocap
      train on your own corpus, with five seeds
  {program} --data corpora/meld \\
      --training.epochs 30 --training.learning_rate 1e-3
      train with other hyperparameters
  {program} --resume runs/iemocap
      continue an interrupted run
"""
GRAPH = """  {program} --graph window
      train with another graph; --graph is short for --pipeline.graph
"""


TABLES = ("search", "record")  # of a file, without options of the same meaning
LAUNCH = ("workers", "launcher", "track")
SHORT = {"--graph": "--pipeline.graph"}
COMMAND_ONLY = ("config", "out", "resume", "table", "dry_run", "method", "dataset", *LAUNCH, *TABLES)


def description(method: str) -> str:
    """Return the first paragraphs of the help page of a method: its paper, and the corpus and settings of a run without options."""
    from erc_graph.experiments.experiment import default_data
    from erc_graph.methods.own_file import find_method, is_own, short_name

    kind, name = find_method(method), short_name(method)
    words = (inspect.getdoc(sys.modules[kind.__module__]) or "").partition("\n\n")[0]
    what = f"{name}: {kind.paper}." if kind.paper else f"{name}. {words}"
    raw = default_data(method) == "sample-raw"
    sample = "raw sample corpus: words, audio, face frames" if raw else "sample corpus"
    committed = f"the committed settings for that corpus (experiments/{name}/CORPUS.toml) if they exist, otherwise the defaults below"
    settings = "the defaults below" if is_own(method) else committed
    how = (
        f"Without options, the command trains on the generated {sample}. With --data, it uses {settings}, for the modalities of the corpus."
        " Options override these settings."
    )
    paragraphs = (" ".join(f"Train and evaluate {what}".split()), how)
    return "\n\n".join(textwrap.fill(text, 78, break_on_hyphens=False) for text in paragraphs)


def make_parser(method: str) -> ArgumentParser:
    """Return the parser of a method, with an option for every field of the configuration."""
    from jsonargparse import ActionYesNo

    from erc_graph.experiments.experiment import Launch, RunConfig, default_data
    from erc_graph.experiments.options import OptionParser
    from erc_graph.methods.inputs import InputsConfig
    from erc_graph.methods.own_file import find_method
    from erc_graph.methods.prior import PriorConfig
    from erc_graph.training.config import TrainingConfig

    kind = find_method(method)
    program = f"erc-graph experiment {method}"
    parser = OptionParser(
        prog=program,
        description=description(method),
        epilog=EPILOG.format(program=program) + (GRAPH.format(program=program) if hasattr(kind.Config, "graph") else ""),
        usage="%(prog)s [options]",
        formatter_class=_Formatter,
        unwritten=COMMAND_ONLY,
    )
    parser.add_argument("--config", action="config", help="TOML file with any of the options below.")
    parser.add_argument("--out", metavar="DIR", help="Folder for the results (default: runs/METHOD-CORPUS).")
    parser.add_argument("--resume", metavar="DIR", help="Continue the interrupted run in DIR, with the settings of its first start.")
    parser.add_argument(
        "--table",
        type=int,
        metavar="N",
        help="Train the rows of Table N of the paper, and print measured and published results. If there are no rows for Table 1, "
        "--table 1 trains the main result.",
    )
    parser.add_argument(
        "--search",
        type=int,
        default=0,
        metavar="N",
        help="First do a hyperparameter search: draw N settings from the ranges in [search], and evaluate them on the development split.",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="Print the planned trainings (with --table: of each row), without training and without writing files.",
    )
    parser.add_class_arguments(Launch)
    parser.add_class_arguments(RunConfig, skip={"strict", "baseline"})
    parser.add_argument(
        "--strict",
        action=ActionYesNo(no_prefix="no-"),
        help="Report features with NaN, inf or numbers beyond 1e15 as an error instead of treating them as missing.",
    )
    parser.add_argument(
        "--baseline",
        action=ActionYesNo(no_prefix="no-"),
        default=True,
        help="Also train the baseline BiGRU on the same features, folds and seeds.",
    )
    parser.add_class_arguments(InputsConfig, "inputs")
    parser.add_class_arguments(kind.Config, "pipeline")
    parser.add_class_arguments(PriorConfig, "prior")
    parser.add_class_arguments(TrainingConfig, "training")
    parser.set_defaults({"data": default_data(method)})
    for hidden in ("method", "dataset"):
        parser.add_argument(f"--{hidden}", help=argparse.SUPPRESS)
    return parser


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """A formatter for help pages of at most 80 columns. Every option is printed with its type and default value.

    Descriptions and examples are not wrapped.
    """

    def __init__(self, prog: str, **options: Any) -> None:
        width = min(80, shutil.get_terminal_size().columns)
        super().__init__(prog, **{**options, "max_help_position": 28, "width": width})

    def start_section(self, heading: str | None) -> None:
        """Begin a group of options, with its title wrapped to the width of the page."""
        super().start_section(textwrap.fill(heading, self._width - 2) if heading else heading)

    def _get_default_metavar_for_optional(self, action: argparse.Action) -> str:
        kind: Any = getattr(action, "_typehint", None) or action.type
        return {bool: "BOOL", int: "INT", float: "FLOAT", str: "TEXT"}.get(kind, "VALUE")

    def _get_help_string(self, action: argparse.Action) -> str:
        said, default = action.help or "", action.default
        if default in (None, argparse.SUPPRESS) or default in ("", [], {}) or not action.option_strings or "(default" in said:
            return said
        words = str(default).lower() if isinstance(default, bool) else str(default).replace("%", "%%")
        return f"{said.removesuffix('.')} (default: {words})."
