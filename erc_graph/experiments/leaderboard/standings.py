"""A leaderboard in its folder: begin it or go on with it, and write what stands."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from erc_graph.data.corpus import Corpus
from erc_graph.data.digest import corpus_sha256
from erc_graph.data.files.load import load_corpus
from erc_graph.data.files.storage import tidy, write_json
from erc_graph.errors import ConfigError
from erc_graph.experiments.environment import environment
from erc_graph.experiments.experiment import Launch
from erc_graph.experiments.launch import check_launch
from erc_graph.experiments.leaderboard.behaviour import behaviour
from erc_graph.experiments.leaderboard.board import Field, field_of, train
from erc_graph.experiments.leaderboard.board_rules import Rules, read_rules, rules_from
from erc_graph.experiments.leaderboard.board_tables import text, write_tables
from erc_graph.experiments.leaderboard.rows import rows_of
from erc_graph.experiments.lock import LOCK, alone
from erc_graph.experiments.run import schema
from erc_graph.experiments.settings import read_object
from erc_graph.methods import METHODS
from erc_graph.methods.own_file import absolute, find_method, is_own, short_name

CONFIG, COMMAND = "config.json", "leaderboard"


def chosen_methods(words: Sequence[str]) -> list[str]:
    """Names of methods, from names, files of a user's own, `all` and `kind:graph`.

    Raises:
        ConfigError: an unknown name or kind, or one method twice.

    >>> chosen_methods(["bigru", "hff"])
    ['bigru', 'hff']
    """
    kinds = sorted({method.family for method in METHODS.values()})
    found: list[str] = []
    for word in map(str.strip, words):
        if word == "all":
            found += METHODS
        elif word.startswith("kind:"):
            if (kind := word.removeprefix("kind:")) not in kinds:
                raise ConfigError(f"--methods: expected a kind ({', '.join(kinds)}), found {kind!r}")
            found += [name for name, method in METHODS.items() if method.family == kind]
        else:
            find_method(word)
            found.append(absolute(word) if is_own(word) else word)
    names = [short_name(method) for method in dict.fromkeys(found)]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError(f"--methods: expected every name once, found {twice!r} for two methods")
    return list(dict.fromkeys(found))


def begin(
    data: Sequence[str],
    methods: Sequence[str],
    folder: Path,
    launch: Launch,
    *,
    seeds: int | None = None,
    budget: int | None = None,
    rules: Path | None = None,
    dry_run: bool = False,
) -> int:
    """Begin a leaderboard; returns the exit code.

    Args:
        data: Corpora.
        methods: As `chosen_methods` takes them.
        folder: Where everything goes.
        launch: How trainings are carried out.
        seeds: In the place of the rules' number.
        budget: In the place of the rules' number.
        rules: A file of rules; unset: those of the package.
        dry_run: Say what would be trained, and write nothing.

    Raises:
        ErcGraphError: what cannot run; nothing is written then.
    """
    check_launch(launch)
    held = read_rules(rules)
    held = replace(held, seeds=held.seeds if seeds is None else seeds, budget=held.budget if budget is None else budget)
    chosen = chosen_methods(methods)
    corpora = _load(data)
    with alone(folder):
        tidy(folder)
        if other := sorted(path.name for path in folder.iterdir() if path.name != LOCK):
            way = f"go on with it: --resume {folder}" if (folder / CONFIG).is_file() else "choose another --out"
            raise ConfigError(f"{folder}: expected an empty or new folder, found {other[0]!r} in it; {way}")
        fields = [field_of(corpus, path, chosen, held, folder) for path, corpus in corpora.items()]
        _check(fields)
        if dry_run:
            print("\n".join(line for field in fields for line in plan(field)))
            return 0
        write_json(
            folder / CONFIG,
            {
                "command": COMMAND, "data": list(corpora), "methods": chosen, "rules": held.as_dict(),
                "data_sha256": {corpus.name: corpus_sha256(corpus) for corpus in corpora.values()},
            },
        )  # fmt: skip
        return _run(fields, held, folder, launch)


def plan(field: Field) -> list[str]:
    """What is trained on a corpus, in a few lines."""
    entries = field.entries
    tried = sum(len(trials) for entry in entries for trials in entry.tried())
    seeds = sum(entry.experiment.run.seeds for entry in entries)
    lines = [f"{field.corpus.name}: {len(entries)} methods, {tried} trainings that choose settings, {seeds} that are judged"]
    return [*lines, *(f"  {name} is left out: {reason}" for name, reason in field.left_out.items())]


def go_on(folder: Path, launch: Launch) -> int:
    """Go on with a leaderboard that was stopped, or write its tables anew; returns the exit code.

    Raises:
        ErcGraphError: no leaderboard there, or its corpora have changed.
    """
    check_launch(launch)
    if not (folder / CONFIG).is_file():
        raise ConfigError(f"--resume {folder}: expected the folder of a leaderboard, found no {CONFIG} in it")
    config = read_object(folder / CONFIG)
    if config.get("command") != COMMAND:
        raise ConfigError(f"--resume {folder}: expected the folder of a leaderboard, found that of an experiment; see erc-graph experiment")
    rules = rules_from(config["rules"], str(folder / CONFIG))
    corpora = _load(config["data"])
    for corpus in corpora.values():
        if corpus_sha256(corpus) != config["data_sha256"].get(corpus.name):
            raise ConfigError(f"--resume {folder}: {corpus.name} is not what it was when the leaderboard began; begin another with --out")
    with alone(folder):
        tidy(folder)
        fields = [field_of(corpus, path, config["methods"], rules, folder) for path, corpus in corpora.items()]
        return _run(fields, rules, folder, launch)


def _load(data: Sequence[str]) -> dict[str, Corpus]:
    """Path → corpus.

    Raises:
        ConfigError: two of one name.
    """
    found = {str(Path(path).resolve()) if Path(path).exists() else path: load_corpus(path) for path in dict.fromkeys(data)}
    names = [corpus.name for corpus in found.values()]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError(f"--data: expected corpora of different names, found two called {twice!r}; give one `name` in its corpus.toml")
    return found


def _check(fields: Sequence[Field]) -> None:
    for field in fields:
        if not field.entries:
            name, reason = next(iter(field.left_out.items()))
            raise ConfigError(f"{field.corpus.name}: expected a method that fits it, found none of {len(field.left_out)}; {name}: {reason}")


def _run(fields: Sequence[Field], rules: Rules, folder: Path, launch: Launch) -> int:
    train(fields, folder, launch)
    boards = [standing(field, rules) for field in fields]
    for board in boards:
        write_json(folder / board["dataset"] / "leaderboard.json", board)
    write_tables(boards, folder)
    for board in boards:
        print(text(board))
    print(f"\nwritten to {folder}: {', '.join(sorted(path.name for path in folder.iterdir() if path.name != LOCK))}")
    return 0


def standing(field: Field, rules: Rules) -> dict[str, Any]:
    """Everything that is known on a corpus, as plain values."""
    corpus, own = field.corpus, rules.of(field.corpus.name)
    rows = rows_of(field, rules)
    by_name = {short_name(entry.method): entry for entry in field.entries}
    for row in rows:
        entry = by_name[row["method"]]
        changed = entry.experiment.changed(row["changes"]) if row["changes"] else entry.experiment
        reads = schema(changed, corpus)
        row["settings"] = {name: value for name, value in changed.as_dict().items() if name in ("pipeline", "training")}
        row["reads"] = {"widths": reads.widths, "sequences": {name: list(item) for name, item in reads.sequences.items()}}
        row["behaviour"] = behaviour(entry.method, changed.as_dict()["pipeline"], reads)
    held: Mapping[str, Any] = {"seeds": rules.seeds, "budget": rules.budget, "members": rules.members, "criterion": rules.criterion}
    return {
        "dataset": corpus.name,
        "task": corpus.task.name,
        "labels": list(corpus.task.labels),
        "modalities": own.modalities or list(corpus.modalities),
        "rules": {**held, **dataclasses.asdict(own)},
        "rows": rows,
        "left_out": field.left_out,
        "data_sha256": corpus_sha256(corpus),
        "environment": environment(),
    }
