"""The command line of an experiment: `erc-graph experiment METHOD`."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import tomli_w

from erc_graph.data.printable import open_streams, refusal
from erc_graph.errors import CheckpointError, ConfigError, ErcGraphError
from erc_graph.experiments.moved import arguments_up_to_date, say, up_to_date
from erc_graph.experiments.parser import COMMAND_ONLY, LAUNCH, SHORT, TABLES, make_parser
from erc_graph.experiments.session import check_folder, held, main_process, run_session, search_folder

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

    from erc_graph.data.corpus import Corpus
    from erc_graph.experiments.experiment import Experiment, Launch


def main(method: str, argv: Sequence[str] | None = None) -> int:
    """Run `erc-graph experiment METHOD`, and return the exit code: 0 for success, 2 for an error, 130 after Ctrl-C."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    open_streams()
    try:
        return _main(method, arguments)
    except ErcGraphError as error:
        print(f"error: {refusal(error)}", file=sys.stderr)
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
        print(f"error: cannot write: {refusal(error)}", file=sys.stderr)
        return 2


def _main(method: str, arguments: list[str]) -> int:
    from erc_graph.methods.own_file import find_method, short_name

    kind = find_method(method)
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for option in ("data", "task", "resume", *LAUNCH):
        early.add_argument(f"--{option}")
    early.add_argument("--config", action="append", default=[])
    if any(argument.partition("=")[0] in SHORT for argument in arguments) and not hasattr(kind.Config, "graph"):
        raise ConfigError(
            f"--graph: expected a method that builds a graph, found the method {short_name(method)}, which builds none; leave out --graph"
        )
    arguments = [SHORT.get(name := argument.partition("=")[0], name) + argument[len(name) :] for argument in arguments]
    arguments, notes = arguments_up_to_date(arguments, kind)
    known, others = early.parse_known_args(arguments)
    if "-h" in arguments or "--help" in arguments:
        make_parser(method).print_help()
        return 0
    if known.resume is not None:
        if others or known.config or known.data is not None or known.task is not None:
            but = ", ".join(f"--{name}" for name in LAUNCH)
            raise ConfigError(
                f"--resume: expected no other options than {but}; a run continues with the settings with which it was started"
            )
        return _resume(method, Path(known.resume), {name: value for name in LAUNCH if (value := getattr(known, name)) is not None})

    from erc_graph.data.files.toml import read_toml
    from erc_graph.experiments.experiment import default_data, experiment_file, from_dict, settings_name

    values: dict[str, Any] = {}
    files: list[dict[str, Any]] = []
    for file in known.config:
        content, moved = up_to_date(read_toml(file), kind, file)
        notes += moved
        from_dict(method, content, file)  # every mistake in the file at once
        values |= content
        files.append(content)
    say(notes)
    strict = next((a == "--strict" for a in reversed(arguments) if a in ("--strict", "--no-strict")), values.get("strict", False))
    data = values.get("data", default_data(method)) if known.data is None else known.data
    if not data:
        raise ConfigError(
            "--data: expected a corpus (folder, file, or `sample`), found an empty value; check whether a shell variable is empty"
        )
    corpus = _load(data, values.get("task") if known.task is None else known.task, strict)
    committed = None if known.config else experiment_file(method, corpus.name) or experiment_file(method, "default")
    if committed:
        values = read_toml(committed)
        from_dict(method, values, settings_name(committed))
        arguments, files = ["--config", str(committed), *arguments], [values]
    parser = make_parser(method)
    with _written(arguments, files) as arguments:
        options = parser.parse_args(arguments)
    experiment, launch = _experiment(method, parser, options, values), _launch(options)
    if (experiment.run.data, experiment.run.strict) != (data, strict):
        raise ConfigError(
            f"--data: expected one corpus, found the value {data!r} in the arguments and {experiment.run.data!r} in the "
            "options; give --data once"
        )
    folder = Path(options.out or Path("runs") / f"{short_name(method)}-{corpus.name}")
    if options.table is not None and options.search:
        raise ConfigError(
            "--table and --search: expected only one of these options; search first, then train the table with the best "
            "settings, given with --config"
        )
    if options.dry_run:
        from erc_graph.experiments.dry_run import dry_run

        settings = [settings_name(committed)] if committed else known.config
        return dry_run(experiment, corpus, folder, settings, table=options.table, trials=options.search)
    if options.search and not main_process():
        raise ConfigError(
            "--search: expected one process, found several, as `accelerate launch` starts them; run the search in one "
            "process, then train in several"
        )
    with held(folder):
        if main_process():
            check_folder(folder)
        if options.search:
            from erc_graph.experiments.hyperparameters import search

            experiment = search(experiment, corpus, search_folder(folder), options.search)
        return run_session(experiment, corpus, folder, launch, table=options.table)


@contextmanager
def _written(arguments: list[str], files: Sequence[Mapping[str, Any]]) -> Iterator[list[str]]:
    """Yield the arguments with every file of `--config` replaced by a temporary file.

    In a temporary file, renamed keys have their current names. The file omits the tables in `TABLES`, which have no command-line option.
    """
    if not files:
        yield arguments
        return
    with TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{i}.toml" for i in range(len(files))]
        for path, content in zip(paths, files, strict=True):
            path.write_text(tomli_w.dumps({key: content[key] for key in content if key not in TABLES}), encoding="utf-8")
        left, found, after = iter(paths), [], False
        for argument in arguments:
            whole = argument.startswith("--config=")
            found.append(f"--config={next(left)}" if whole else str(next(left)) if after else argument)
            after = argument == "--config"
        yield found


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
    from erc_graph.methods.own_file import own_sha256, same_method

    path = folder / "config.json"
    if not path.exists():
        raise CheckpointError(
            f"{path}: expected the settings file of the run that --resume continues, found no such file; start the run without --resume"
        )
    stored = read_settings(folder)
    if not same_method(stored.method, method):
        raise CheckpointError(f"{path}: expected a run of the method {method}, which you named, found a run of the method {stored.method}")
    if stored.method_sha256 is not None and own_sha256(method) != stored.method_sha256:
        raise CheckpointError(
            f"{folder}: the file of the method {method} has changed since this run began; restore the earlier file, or start a new run"
        )
    experiment = from_dict(method, stored.values, str(path))
    options = [f"--{name}={value}" for name, value in {**stored.launch, **given}.items()]
    launch = _launch(make_parser(method).parse_args(options))
    corpus = _load(experiment.run.data, experiment.run.task, experiment.run.strict)
    if corpus_sha256(corpus) != stored.data_sha256:
        raise CheckpointError(
            f"{folder}: the corpus {experiment.run.data} has changed since this run began (its SHA-256 differs); restore the "
            "corpus, or start a new run"
        )
    with held(folder):
        return run_session(experiment, corpus, folder, launch, table=stored.table, resume=True)
