"""Start or continue a leaderboard in its folder, and write the results."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from erc_graph.data.corpus import Corpus
from erc_graph.data.digest import corpus_sha256
from erc_graph.data.files.load import load_corpus
from erc_graph.data.files.storage import tidy, write_json
from erc_graph.data.printable import count
from erc_graph.errors import ConfigError, ErcGraphError
from erc_graph.experiments.environment import environment
from erc_graph.experiments.experiment import Launch
from erc_graph.experiments.launch import check_launch
from erc_graph.experiments.leaderboard.begun import COMMAND, Begun, read_begun
from erc_graph.experiments.leaderboard.board import Field, field_of, train
from erc_graph.experiments.leaderboard.board_rules import Rules, read_rules
from erc_graph.experiments.leaderboard.board_tables import text, without_settings, write_tables
from erc_graph.experiments.leaderboard.rows import BASELINE, rows_of
from erc_graph.experiments.leaderboard.trials import CONFIG
from erc_graph.experiments.lock import LOCK, alone
from erc_graph.methods import METHODS
from erc_graph.methods.own_file import absolute, find_method, is_own, own_parts, own_sha256, same_method, short_name


def chosen_methods(words: Sequence[str]) -> list[str]:
    """Return the methods given by `--methods`: names, files of a user's own methods, `all`, and kinds such as `kind:graph`.

    Raises:
        ConfigError: a name or kind is unknown, or two methods have the same name.

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
                raise ConfigError(f"--methods: expected after `kind:` one of the kinds of methods ({', '.join(kinds)}), found {kind!r}")
            found += [name for name, method in METHODS.items() if method.family == kind]
        else:
            find_method(word)
            found.append(absolute(word) if is_own(word) else word)
    names = [short_name(method) for method in dict.fromkeys(found)]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError(
            f"--methods: expected methods with different names, found two methods called {twice!r}; rename the class of one of them"
        )
    return list(dict.fromkeys(found))


def begin(
    data: Sequence[str],
    methods: Sequence[str],
    folder: Path,
    launch: Launch,
    *,
    seeds: int | None = None,
    budget: int | None = None,
    rules: str | None = None,
    dry_run: bool = False,
) -> int:
    """Start a leaderboard, and return the exit code.

    Args:
        data: Paths or names of the corpora.
        methods: Methods, in the format of `chosen_methods`.
        folder: Folder of all results.
        launch: Options of the execution.
        seeds: Number of seeds; default: the number in the rules.
        budget: Number of random settings per method; default: the number in the rules.
        rules: A file of rules, or the name of rules of the package; default: the default rules of the package.
        dry_run: Print the planned trainings, and write nothing.

    Raises:
        ErcGraphError: the leaderboard cannot run; nothing is written then.
    """
    check_launch(launch)
    held = read_rules(rules)
    held = replace(held, seeds=held.seeds if seeds is None else seeds, budget=held.budget if budget is None else budget)
    chosen = chosen_methods(methods)
    if BASELINE not in chosen:  # every method is compared with it
        chosen.append(BASELINE)
    corpora = _load(data)
    with alone(folder):
        tidy(folder)
        if other := sorted(path.name for path in folder.iterdir() if path.name != LOCK):
            way = f"continue it with --resume {folder}" if (folder / CONFIG).is_file() else "choose another --out"
            raise ConfigError(f"{folder}: expected an empty or new folder, found {other[0]!r} in it; {way}")
        fields = [field_of(corpus, chosen, held, folder) for corpus in corpora.values()]
        check_fields(fields)
        if dry_run:
            print("\n".join(line for field in fields for line in plan(field)))
            return 0
        names = [corpus.name for corpus in corpora.values()]
        begun = Begun.model_construct(
            data={corpus.name: path for path, corpus in corpora.items()}, methods=[], rules={}, own_sha256={},
            experiments={name: {} for name in names}, left_out={name: {} for name in names},
            data_sha256={corpus.name: corpus_sha256(corpus) for corpus in corpora.values()},
        )  # fmt: skip
        write_json(folder / CONFIG, _with(begun, chosen, held, fields))
        return _run(fields, held, folder, launch)


def plan(field: Field) -> list[str]:
    """Return lines with the number of planned trainings on a corpus, and with the methods that are left out."""
    entries = field.entries
    tried = sum(len(trials) for entry in entries for trials in entry.tried())
    seeds = sum(entry.experiment.run.seeds for entry in entries)
    amount = count(len(entries), "method"), count(tried, "training"), count(seeds, "training")
    lines = [f"{field.corpus.name}: {amount[0]}, {amount[1]} to choose settings, {amount[2]} to evaluate"]
    if finished := sum(not record.get("again") for record in field.done.values()):
        lines[0] += f", {finished} finished"
    if plain := [entry.name for entry in entries if not entry.committed]:
        lines.append(f"  {without_settings(plain, field.corpus.name)}")
    return [*lines, *(f"  {name} is left out: {reason}" for name, reason in field.left_out.items())]


def go_on(folder: Path, launch: Launch, *, data: Sequence[str] | None = None, methods: Sequence[str] = (), seeds: int | None = None) -> int:
    """Continue a stopped leaderboard with its recorded settings, and return the exit code.

    Args:
        folder: Folder of the leaderboard.
        launch: Options of the execution.
        data: Current paths of the corpora; default: the recorded paths.
        methods: Methods to add, in the format of `chosen_methods`. The user's own methods of the leaderboard must be named again, because
            recorded paths are never imported.
        seeds: New number of seeds, to add seeds; default: the recorded number.

    Raises:
        ErcGraphError: the folder has no leaderboard, a corpus or a user's own method has changed, or a user's own method is not named
            again.
    """
    check_launch(launch)
    if not (folder / CONFIG).is_file():
        raise ConfigError(f"--resume {folder}: expected the folder of a leaderboard, found no file {CONFIG} in it")
    begun = read_begun(folder)
    rules = begun.held if seeds is None else replace(begun.held, seeds=seeds)
    known = [_named_again(method, methods, folder, begun.own_sha256) for method in begun.methods]
    added = [method for method in chosen_methods(methods) if not any(same_method(method, one) for one in begun.methods)]
    rules = replace(rules, tuned=[*rules.tuned, *(name for name in read_rules().tuned if name in added)])
    corpora = _found_again(data, begun, folder)
    with alone(folder):
        tidy(folder)
        fields = [field_of(corpus, [*known, *added], rules, folder, begun.experiments[corpus.name], added) for corpus in corpora]
        for field in fields:
            field.left_out = {**begun.left_out[field.corpus.name], **field.left_out}
        check_fields(fields)
        if added or seeds is not None:
            write_json(folder / CONFIG, _with(begun, added, rules, fields))
        return _run(fields, rules, folder, launch)


def _with(begun: Begun, added: Sequence[str], rules: Rules, fields: Sequence[Field]) -> dict[str, Any]:
    """Return the content of `config.json` with added methods and new rules; recorded settings do not change."""
    values = begun.model_dump()
    for field in fields:
        name = field.corpus.name
        values["experiments"][name] = {entry.name: entry.experiment.as_dict() for entry in field.entries} | values["experiments"][name]
        values["left_out"][name] = field.left_out | values["left_out"][name]
    values["own_sha256"] |= {method: own_sha256(method) for method in added if is_own(method)}
    return {"command": COMMAND, **values, "methods": [*begun.methods, *added], "rules": rules.as_dict()}


def _found_again(data: Sequence[str] | None, begun: Begun, folder: Path) -> list[Corpus]:
    """Load the corpora of a leaderboard, and check that they have not changed."""
    try:
        corpora = {corpus.name: corpus for corpus in _load(data or list(begun.data.values())).values()}
    except ErcGraphError as error:
        raise type(error)(f"{error}; give the current paths of the corpora of {folder} with --data") from None
    if corpora.keys() != begun.data.keys():
        raise ConfigError(
            f"--data: expected the corpora of the leaderboard in {folder} ({', '.join(begun.data)}), found {', '.join(corpora)}"
        )
    for corpus in corpora.values():
        if corpus_sha256(corpus) != begun.data_sha256[corpus.name]:
            raise ConfigError(
                f"--resume {folder}: the corpus {corpus.name} has changed since the leaderboard was started; start a new "
                "leaderboard with --out"
            )
    return [corpora[name] for name in begun.data]


def _named_again(method: str, named: Sequence[str], folder: Path, digests: Mapping[str, str]) -> str:
    """Return the name of a method of a leaderboard; for a user's own method, return its current file and class."""
    if not is_own(method):
        return method
    found = next((one for one in named if same_method(one, method)), None)
    if found is None:
        raise ConfigError(
            f"--resume {folder}: the method {short_name(method)} is your own method {method}; name it again with --methods "
            f"{method}, because recorded files are never imported"
        )
    if own_sha256(found) != digests.get(method):
        raise ConfigError(
            f"--resume {folder}: the file {own_parts(found)[0]} of a method has changed since the leaderboard was started; "
            "start a new leaderboard with --out"
        )
    return absolute(found)


def _load(data: Sequence[str]) -> dict[str, Corpus]:
    """Load corpora, and return path → corpus.

    Raises:
        ConfigError: two corpora have the same name.
    """
    found = {path: load_corpus(path) for path in dict.fromkeys(data)}
    names = [corpus.name for corpus in found.values()]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError(
            f"--data: expected corpora with different names, found two corpora called {twice!r}; set another `name` in the "
            "corpus.toml of one of them"
        )
    return found


def check_fields(fields: Sequence[Field]) -> None:
    """Check that at least one method can be trained on every corpus.

    Raises:
        ConfigError: no method can be trained on a corpus; the message has the reason for the first method.
    """
    for field in fields:
        if not field.entries:
            name, reason = next(iter(field.left_out.items()))
            raise ConfigError(
                f"{field.corpus.name}: expected a method that can be trained on this corpus, found none among "
                f"{len(field.left_out)} methods; reason for {name}: {reason}"
            )


def _run(fields: Sequence[Field], rules: Rules, folder: Path, launch: Launch) -> int:
    print("\n".join(line for field in fields for line in plan(field)), file=sys.stderr, flush=True)
    try:
        train(fields, launch)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"the last complete epoch is kept, --resume {folder} continues from it") from None
    boards = [standing(field, rules) for field in fields]
    for board in boards:
        write_json(folder / board["dataset"] / "leaderboard.json", board)
    write_tables(boards, folder)
    for board in boards:
        print(text(board))
    print(f"\nwritten to {folder}: {', '.join(sorted(path.name for path in folder.iterdir() if path.name != LOCK))}")
    return 0


def standing(field: Field, rules: Rules) -> dict[str, Any]:
    """Return the content of `leaderboard.json` for a corpus: rules, rows of the table, and methods that are left out."""
    corpus, own = field.corpus, rules.of(field.corpus.name)
    rows = rows_of(field, rules)
    held: Mapping[str, Any] = {"seeds": rules.seeds, "budget": rules.budget, "members": rules.members, "tuned": rules.tuned}
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
