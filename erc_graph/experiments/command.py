"""The command line of an experiment: `python -m erc_graph.experiments.<method>`."""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from erc_graph.data.printable import open_streams
from erc_graph.errors import CheckpointError, ConfigError, ErcGraphError

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

    from erc_graph.data.corpus import Corpus
    from erc_graph.experiments.experiment import Experiment, Launch

DESCRIPTION = {
    "pairwise": """Train and judge pairwise fusion over conversation graphs (Fan et al., 2024).

Without options it runs on the generated sample corpus. With --data it takes the
committed settings for that data set, if there are some
(experiments/pairwise_<dataset>.toml), else the defaults below, for the
modalities that the corpus has. Every option overrides them.
""",
    "hff": """Train and judge hierarchical feature fusion (Xie, Zhou and Zhu, 2025), with
the conversation around the utterance or (--graph none) without it.

Without options it runs on the generated raw sample corpus: words, sound, faces.
With --data it takes the committed settings for that data set, if there are some
(experiments/hff_<dataset>.toml), else the defaults below. Every option
overrides them.
""",
    "wavfusion": """Train and judge WavFusion (Li et al., 2025): sound, words and faces of an utterance
in the deep layers of wav2vec 2.0, then the graph of the conversation.

Without options it runs on the generated corpus `sample-raw`. A pretrained model
is named with --pipeline.wav2vec.folder DIR. With --graph none it is the paper's
own model, one utterance at a time.
""",
    "mfdr": """Train and judge MFDR (Zhao et al., Interspeech 2024): words that take up the sound
of their windows, with the conversation graph behind them or (--graph none) alone.

Without options it runs on the generated sample corpus of words and waveforms.
""",
    "bigru": "Train and judge the baseline of every table: a plain two-layer BiGRU over the concatenated features.",
}

EPILOG = """examples:
  {program}
      a generated corpus, a few minutes at most
  {program} --data corpora/iemocap \\
      --seeds 5 --out runs/iemocap
      a corpus of your own, five seeds
  {program} --data corpora/meld \\
      --training.epochs 30 --training.learning_rate 1e-3
      other epochs, another rate
  {program} --resume runs/iemocap
      continue a run that was stopped
"""
GRAPH = """  {program} --graph window
      another graph; short for --pipeline.graph
"""


def main(method: str, argv: Sequence[str] | None = None) -> int:
    """Run the command of `method`; returns the exit code (0 done, 2 refused, 130 stopped by Ctrl-C)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    open_streams()
    try:
        return _main(method, arguments)
    except ErcGraphError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print(f"stopped; {stop}" if str(stop) else "stopped; nothing was trained yet", file=sys.stderr)
        return 130
    except SystemExit as stop:  # jsonargparse, after printing
        return int(stop.code or 0)
    except BrokenPipeError:  # whoever read the output had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        print(f"error: cannot write: {error}", file=sys.stderr)
        return 2


def make_parser(method: str) -> ArgumentParser:
    """The parser: every field of the configuration is an option."""
    from jsonargparse import ActionYesNo

    from erc_graph.experiments.experiment import Launch, RunConfig, default_data
    from erc_graph.experiments.options import OptionParser
    from erc_graph.methods import PIPELINES
    from erc_graph.training.config import TrainingConfig

    own = find_spec(f"erc_graph.experiments.{method}") is not None
    program = f"python -m erc_graph.experiments.{method}" if own else f"erc-graph experiment {method}"
    parser = OptionParser(
        prog=program,
        description=DESCRIPTION.get(method, f"Train and judge {method}."),
        epilog=EPILOG.format(program=program) + (GRAPH.format(program=program) if hasattr(PIPELINES[method].Config, "graph") else ""),
        usage="%(prog)s [options]",
        formatter_class=_Formatter,
        unwritten=COMMAND_ONLY,
    )
    parser.add_argument("--config", action="config", help="TOML file with any of the options below.")
    parser.add_argument("--out", metavar="DIR", help="Folder of the results (default: runs/METHOD-DATASET).")
    parser.add_argument("--resume", metavar="DIR", help="Continue the run in DIR, in place, with its own settings.")
    parser.add_argument("--table", type=int, metavar="N", help="Run the rows of the paper's Table N and print measured beside published.")
    parser.add_argument(
        "--tune",
        type=int,
        default=0,
        metavar="N",
        help="First search N settings in the ranges of [search], on the development split.",
    )
    parser.add_argument("--dry-run", action="store_true", help="Say what would be run; train nothing, write nothing.")
    parser.add_class_arguments(Launch)
    parser.add_class_arguments(RunConfig, skip={"strict", "baseline"})
    parser.add_argument(
        "--strict", action=ActionYesNo(no_prefix="no-"), help="Refuse features with NaN or inf instead of treating them as missing."
    )
    parser.add_argument(
        "--baseline",
        action=ActionYesNo(no_prefix="no-"),
        default=True,
        help="Also train the plain BiGRU on the same features, folds and seeds.",
    )
    parser.add_class_arguments(PIPELINES[method].Config, "pipeline")
    parser.add_class_arguments(TrainingConfig, "training")
    parser.set_defaults({"data": default_data(method)})
    for hidden in ("method", "dataset"):
        parser.add_argument(f"--{hidden}", help=argparse.SUPPRESS)
    for hidden in TABLES:
        parser.add_argument(f"--{hidden}", type=dict[str, Any], help=argparse.SUPPRESS)
    return parser


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Help of at most 80 columns, description and examples as written."""

    def __init__(self, prog: str, **options: Any) -> None:
        width = min(80, shutil.get_terminal_size().columns)
        super().__init__(prog, **{**options, "max_help_position": 28, "width": width})


TABLES = ("search", "published", "record")
LAUNCH = ("workers", "launcher", "track")
SHORT = {"--graph": "--pipeline.graph"}
COMMAND_ONLY = ("config", "out", "resume", "table", "tune", "dry_run", "method", "dataset", *LAUNCH, *TABLES)


def _main(method: str, arguments: list[str]) -> int:
    from erc_graph.methods import PIPELINES

    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for option in ("data", "task", "resume", *LAUNCH):
        early.add_argument(f"--{option}")
    early.add_argument("--config", action="append", default=[])
    if any(argument.partition("=")[0] in SHORT for argument in arguments) and not hasattr(PIPELINES[method].Config, "graph"):
        raise ConfigError(f"--graph: {method} has no graph; leave --graph out")
    arguments = [SHORT.get(name := argument.partition("=")[0], name) + argument[len(name) :] for argument in arguments]
    known, others = early.parse_known_args(arguments)
    if "-h" in arguments or "--help" in arguments:
        make_parser(method).print_help()
        return 0
    if known.resume is not None:
        if others or known.config or known.data is not None or known.task is not None:
            but = ", ".join(f"--{name}" for name in LAUNCH)
            raise ConfigError(f"--resume: takes no other options but {but}; a run is continued with the settings it was started with")
        return _resume(method, Path(known.resume), {name: value for name in LAUNCH if (value := getattr(known, name)) is not None})

    from erc_graph.data.files.toml import read_toml
    from erc_graph.data.tasks import DEFAULT_TASK
    from erc_graph.experiments.experiment import default_data, experiment_file, from_dict

    values: dict[str, Any] = {}
    for file in known.config:
        content = read_toml(file)
        from_dict(method, content, file)  # every mistake in the file at once
        values |= content
    strict = next((a == "--strict" for a in reversed(arguments) if a in ("--strict", "--no-strict")), values.get("strict", False))
    data = values.get("data", default_data(method)) if known.data is None else known.data
    if not data:
        raise ConfigError("--data: expected a corpus (folder, file, or `sample`), found nothing; is a shell variable empty?")
    corpus = _load(data, values.get("task") if known.task is None else known.task, strict)
    committed = None if known.config else experiment_file(method, corpus.name)
    if committed:
        values = read_toml(committed)
        from_dict(method, values, committed.name)
        if corpus.task.name != DEFAULT_TASK.get(corpus.name):
            values.pop("published", None)  # of another task
        arguments = ["--config", str(committed), *arguments]
    parser = make_parser(method)
    options = parser.parse_args(arguments)
    experiment, launch = _experiment(method, parser, options, values), _launch(options)
    if (experiment.run.data, experiment.run.strict) != (data, strict):
        raise ConfigError(f"--data: read {data!r} from the arguments, but the options say {experiment.run.data!r}; name it once")
    folder = Path(options.out or Path("runs") / f"{method}-{corpus.name}")
    if options.table is not None and options.tune:
        raise ConfigError("--table and --tune: expected one of them; tune first, then run the table with --config")
    if options.dry_run:
        return _dry_run(experiment, corpus, folder, committed, options.table)
    if options.tune and not main_process():
        raise ConfigError("--tune: expected one process; tune alone, then train with several")
    with _held(folder):
        if main_process():
            _check_folder(folder)
        if options.table is not None:
            return _table(experiment, corpus, folder, options.table, launch, resume=False)
        if options.tune:
            from erc_graph.experiments.tuning import search

            experiment = search(experiment, corpus, folder / "tune", options.tune)
        return _run(experiment, corpus, folder, launch, resume=False)


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Run in a folder that no other command runs in; Ctrl-C says how to go on."""
    from erc_graph.experiments.lock import alone

    with alone(folder) if main_process() else nullcontext():
        try:
            yield
        except KeyboardInterrupt:
            raise KeyboardInterrupt(_way_on(folder)) from None


def _check_folder(folder: Path) -> None:
    """Refuse a folder that has something: a run is never written over."""
    names = _names(folder)
    if "config.json" in names:
        raise ConfigError(f"{folder}: already has a run; continue it with --resume {folder}, or choose another --out")
    if [name for name in names if name != "tune"]:
        raise ConfigError(f"{folder}: expected an empty or new folder, found {names[0]!r} in it; choose another --out")


def _names(folder: Path) -> list[str]:
    """What is in the folder of a run, without the lock of this command."""
    from erc_graph.experiments.lock import LOCK

    return sorted(path.name for path in folder.iterdir() if path.name != LOCK)


def _way_on(folder: Path) -> str:
    """What to do after Ctrl-C."""
    if (folder / "config.json").exists():
        return f"the last whole epoch is kept, --resume {folder} continues from it"
    return "the same command goes on with the trials that are done" if (folder / "tune").exists() else ""


def _experiment(method: str, parser: ArgumentParser, options: Any, file: Mapping[str, Any]) -> Experiment:
    from erc_graph.experiments.experiment import from_dict

    values = json.loads(parser.dump(options, format="json", skip_validation=True))
    chosen = {key: value for key, value in values.items() if key not in COMMAND_ONLY and value is not None}
    tables = {key: file[key] for key in TABLES if key in file}  # as they stand: their keys are names of fields, not options
    return from_dict(method, chosen | tables, "options")


def _load(data: str, task: str | None, strict: bool) -> Corpus:
    from erc_graph.data.files.load import load_corpus

    corpus = load_corpus(data, task=task, strict=strict)
    if main_process():
        for line in (str(corpus), *(f"  note: {note}" for note in corpus.provenance.get("notes", ()))):
            print(line, file=sys.stderr)
    return corpus


def _start(experiment: Experiment, corpus: Corpus, folder: Path, launch: Launch, **command: Any) -> None:
    """Write the settings that `--resume` continues with; what cannot run is refused before anything is written."""
    from erc_graph.data.digest import corpus_sha256
    from erc_graph.data.files.storage import write_json
    from erc_graph.experiments.run import check

    check(experiment, corpus)
    values = {"launch": vars(launch), **experiment.as_dict()}
    if Path(experiment.run.data).exists():
        values["data"] = str(Path(experiment.run.data).resolve())  # so that the run can be continued from any folder
    if main_process():
        write_json(folder / "config.json", {**command, "method": experiment.method, "data_sha256": corpus_sha256(corpus), **values})


def main_process() -> bool:
    """Whether this is the only process, or the first of several started by `accelerate launch`: the one that writes and prints."""
    return os.environ.get("RANK", "0") == "0"


def _run(experiment: Experiment, corpus: Corpus, folder: Path, launch: Launch, *, resume: bool) -> int:
    from erc_graph.experiments.display import print_result
    from erc_graph.experiments.launch import run_all
    from erc_graph.experiments.result import write_result
    from erc_graph.experiments.run import Plan, baseline_of

    if not resume:
        _start(experiment, corpus, folder, launch, command="run")
    plans = [Plan(experiment=experiment, folder=folder)]
    if experiment.run.baseline and experiment.method != "bigru":
        plans.append(Plan(experiment=baseline_of(experiment, corpus), folder=folder / "bigru", name="BiGRU"))
    outcome, *others = run_all(plans, corpus, folder, launch=launch, resume=resume)
    if not main_process():
        return 0
    print_result(write_result(folder, outcome, others[0] if others else None), experiment.published)
    print(f"\nwritten to {folder}: {', '.join(_names(folder))}")
    return 0


def _table(experiment: Experiment, corpus: Corpus, folder: Path, number: int | None, launch: Launch, *, resume: bool) -> int:
    from erc_graph.experiments.ablation import find_table
    from erc_graph.experiments.display import print_table
    from erc_graph.experiments.tables import run_table

    chosen = find_table(experiment.method, number)
    if chosen is None:
        return _run(experiment, corpus, folder, launch, resume=resume)
    if not resume:
        _start(experiment, corpus, folder, launch, command="table", table=chosen.number)
    table = run_table(experiment, corpus, folder, chosen, launch=launch, resume=resume, write=main_process())
    if not main_process():
        return 0
    print_table(table)
    print(f"\nwritten to {folder}: {', '.join(_names(folder))}")
    return 0


def _launch(options: Any) -> Launch:
    from erc_graph.experiments.experiment import Launch
    from erc_graph.experiments.launch import check_launch

    launch = Launch(**{name: getattr(options, name) for name in LAUNCH})
    check_launch(launch)
    return launch


def _resume(method: str, folder: Path, given: Mapping[str, str]) -> int:
    from erc_graph.data.digest import corpus_sha256
    from erc_graph.experiments.experiment import from_dict
    from erc_graph.experiments.settings import read_settings

    path = folder / "config.json"
    if not path.exists():
        raise CheckpointError(f"{path}: expected the settings of a run to continue, found no such file; start it without --resume")
    stored = read_settings(folder)
    if stored.method != method:
        raise CheckpointError(f"{path}: expected a run of {method}, found one of {stored.method}")
    experiment = from_dict(method, stored.values, str(path))
    options = [f"--{name}={value}" for name, value in {**stored.launch, **given}.items()]
    launch = _launch(make_parser(method).parse_args(options))
    corpus = _load(experiment.run.data, experiment.run.task, experiment.run.strict)
    if corpus_sha256(corpus) != stored.data_sha256:
        raise CheckpointError(f"{folder}: {experiment.run.data} is not the corpus that this run was started with; its SHA-256 differs")
    with _held(folder):
        if stored.command == "table":
            return _table(experiment, corpus, folder, stored.table, launch, resume=True)
        return _run(experiment, corpus, folder, launch, resume=True)


def _dry_run(experiment: Experiment, corpus: Corpus, folder: Path, committed: Path | None, number: int | None) -> int:
    from erc_graph.data.splits import folds
    from erc_graph.experiments.ablation import find_table
    from erc_graph.experiments.run import build, check

    table = None if number is None else find_table(experiment.method, number)
    check(experiment, corpus)
    pipeline = build(experiment, corpus, 0)
    divisions = folds(corpus, experiment.run.protocol)
    print(f"method      {experiment.method}, {sum(p.numel() for p in pipeline.parameters()):,} parameters")
    print(f"settings    {'experiments/' + committed.name if committed else 'defaults and options'}")
    print(f"modalities  {', '.join(pipeline.schema.modalities)}")
    print(f"stages      {', '.join(stage.name for stage in pipeline.stages())}")
    print(f"protocol    {experiment.run.protocol}, epoch chosen on: {experiment.training.selection}")
    for fold in divisions:
        print(f"  {fold.name:<16} {len(fold.train)} / {len(fold.dev)} / {len(fold.test)} dialogues for train / dev / test")
    print(f"seeds       {experiment.run.seeds}" + (f", {experiment.run.members} networks each" if experiment.run.members > 1 else ""))
    if table is not None:
        print(f"table       {table.number}: {table.title} ({len(table.rows)} rows)")
    print(f"output      {folder}")
    return 0
