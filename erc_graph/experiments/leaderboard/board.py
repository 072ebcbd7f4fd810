"""The trainings of a leaderboard, their order, and the choice of a setting (hyperparameter values) for each method.

Settings are chosen by metrics on the development split or on held-out training and development dialogues, never on the test split.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from erc_graph.data.corpus import Corpus
from erc_graph.data.files.journal import Journal, Record
from erc_graph.data.progress import Progress
from erc_graph.data.splits import Fold, folds, held_out
from erc_graph.errors import ConfigError, ErcGraphError
from erc_graph.experiments.checks import check
from erc_graph.experiments.experiment import Experiment, Launch, from_dict
from erc_graph.experiments.launch import RunGone, train_all
from erc_graph.experiments.leaderboard.board_rules import CRITERION, Rules
from erc_graph.experiments.leaderboard.candidates import candidates, committed, settings_file
from erc_graph.experiments.leaderboard.inflation import trace_of
from erc_graph.experiments.leaderboard.trials import (
    ANSWERS,
    CONFIG,
    TRACES,
    TRAININGS,
    WORK,
    Parts,
    Trial,
    answers_of,
    carry_out,
    record_of,
)
from erc_graph.methods.own_file import short_name


@dataclass(kw_only=True)
class Entry:
    """A method on one corpus, with its candidate settings and trainings.

    Attributes:
        name: Name of the method's row in the leaderboard.
        method: Name of the method, or file and class of a user's own method.
        experiment: Settings of the method from its settings file or its defaults, overridden by the rules of the leaderboard.
        committed: Whether the package has a settings file of the method for the corpus. If not, `experiment` has the defaults.
        settings: Candidate settings (sets of hyperparameter values), each as changes of `experiment`. The first candidate has no changes.
        folder: Folder of the unfinished trainings.
        choice: Folds, without test dialogues, on which the candidate settings are compared.
        official: Official split, on which the chosen setting is evaluated.
        done: Name of a training → its recorded results, for all finished trainings on the corpus.
        parts: Subsets of the test utterances that are also evaluated separately.
    """

    name: str
    method: str
    experiment: Experiment
    committed: bool
    settings: Sequence[Mapping[str, Any]]
    folder: Path
    choice: Sequence[Fold]
    official: Fold
    done: Mapping[str, Record]
    parts: Parts

    def tried(self) -> list[list[Trial]]:
        """Return for each candidate setting its trainings, one per fold of `choice`; the list is empty if there is only one setting."""
        if len(self.settings) == 1:
            return []
        return [
            [
                self._trial(f"setting-{number}-part-{part}", number, fold, 0, {"part": fold.name})
                for part, fold in enumerate(self.choice)
                if isinstance(made, Experiment)
            ]
            for number, made in enumerate(self.made)
        ]

    @cached_property
    def made(self) -> list[Experiment | ErcGraphError]:
        """Return for each candidate setting its experiment, or an error if the setting is invalid for the method."""
        found: list[Experiment | ErcGraphError] = []
        for changes in self.settings:
            try:
                found.append(self.experiment.changed(changes) if changes else self.experiment)
            except ErcGraphError as refusal:
                found.append(refusal)
        return found

    @cached_property
    def records(self) -> list[list[dict[str, Any]]]:
        """Return for each candidate setting the recorded results of its trainings, all of which must be finished."""
        return [[self.done[trial.key] for trial in trials] for trials in self.tried()]

    @property
    def figures(self) -> list[float | None]:
        """Compute for each candidate setting the mean weighted F1 over the folds of `choice`; `None` if a training failed."""
        found: list[float | None] = []
        for records in self.records:
            values = [record["held_out"][CRITERION] for record in records if "held_out" in record]
            found.append(sum(values) / len(values) if values and len(values) == len(records) else None)
        return found

    @property
    def failed(self) -> dict[int, str]:
        """Return index of a candidate setting → error, for settings that are invalid or whose training failed."""
        found = {number: str(made) for number, made in enumerate(self.made) if not isinstance(made, Experiment)}
        for number, records in enumerate(self.records):
            for error in [record["error"] for record in records if "error" in record]:
                found.setdefault(number, error)
        return found

    @property
    def chosen(self) -> int:
        """Return the index of the best candidate setting, or 0 if all failed; the lowest index wins among equally good settings."""
        done = [(value, -number) for number, value in enumerate(self.figures) if value is not None]
        return -max(done)[1] if done else 0

    def final(self) -> list[Trial]:
        """Return the trainings of the chosen setting on the official split, one per seed."""
        number = self.chosen
        seeds = range(self.experiment.run.seeds)
        return [self._trial(f"final-{number}-seed-{seed}", number, self.official, seed, {}, final=True) for seed in seeds]

    def _trial(self, name: str, number: int, fold: Fold, seed: int, facts: Mapping[str, Any], *, final: bool = False) -> Trial:
        experiment = self.made[number]
        assert isinstance(experiment, Experiment)
        return Trial(
            experiment=experiment, seed=seed, fold=fold, folder=self.folder / name, name=f"{self.name} {name}", key=f"{self.name} {name}",
            facts={"changes": dict(self.settings[number]), "setting": number, **facts},
            final=final, parts=self.parts if final else {},
        )  # fmt: skip


@dataclass(kw_only=True)
class Field:
    """A corpus with all methods that can be trained on it.

    Attributes:
        corpus: The corpus.
        folder: Folder of the leaderboard for this corpus.
        entries: The methods, each with its candidate settings and trainings.
        left_out: Name of a method → reason why the method is left out.
        done: Name of a training → its recorded results.
    """

    corpus: Corpus
    folder: Path
    entries: list[Entry] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    done: dict[str, Record] = field(default_factory=dict)


def field_of(
    corpus: Corpus,
    methods: Sequence[str],
    rules: Rules,
    folder: Path,
    begun: Mapping[str, Mapping[str, Any]] | None = None,
    added: Collection[str] = (),
) -> Field:
    """Return a corpus with all methods that can be trained on it, and reasons why other methods are left out.

    Args:
        corpus: The corpus.
        methods: Names of the methods.
        rules: Rules of the leaderboard.
        folder: Folder of the leaderboard, with a subfolder per corpus.
        begun: Method → settings with which the leaderboard was started. Default: a new leaderboard, which uses the settings files of the
            package.
        added: Methods that were added after the start of the leaderboard; they use the settings files of the package.

    Raises:
        ConfigError: the corpus lacks splits or features that the rules need, or its name cannot be the name of a folder.
    """
    if Path(corpus.name).name != corpus.name or corpus.name.startswith("."):
        raise ConfigError(
            f"--data: expected a corpus whose name can be the name of a folder, found the name {corpus.name!r}; change `name` "
            "in corpus.toml"
        )
    corpus = rules.of(corpus.name).applied(corpus)
    found = Field(corpus=corpus, folder=folder / corpus.name)
    if (found.folder / TRAININGS).is_file():
        with Journal(found.folder / TRAININGS, training_of) as journal:
            found.done = {name: record for name in journal.place if (record := journal.get(name))}
    official = folds(corpus)[0]
    by = rules.of(corpus.name).choice
    choice = [replace(official, test=official.dev, name="dev")] if by == "dev" else held_out(corpus, by)
    parts = parts_of(corpus, rules.of(corpus.name).groups)
    known: list[tuple[str, str, Mapping[str, Any]]] = [(short_name(method), method, {}) for method in methods]
    for name, method, changes in [*known, *((one.name, one.method, one.changes) for one in rules.variants)]:
        try:
            if begun is None or method in added:
                experiment = committed(method, corpus, rules, changes)
            elif (values := begun.get(name)) is not None:
                experiment = from_dict(method, {**values, "seeds": rules.seeds}, CONFIG)
            else:
                continue
            check(experiment, corpus)
        except ErcGraphError as refusal:
            found.left_out[name] = "; ".join(str(refusal).splitlines())
            continue
        found.entries.append(
            Entry(
                name=name,
                method=method,
                experiment=experiment,
                committed=settings_file(method, corpus.name, rules.of(corpus.name).selection) is not None,
                settings=candidates(experiment, rules),
                folder=found.folder / WORK / name,
                choice=choice,
                official=official,
                done=found.done,
                parts=parts,
            )
        )
    return found


def parts_of(corpus: Corpus, groups: Mapping[str, Sequence[str]]) -> Parts:
    """Return bool masks of utterances that are also evaluated separately: with or without emotion shift, and for each group of speakers."""
    members = {}
    for group, patterns in groups.items():
        chosen = {name for name in set(corpus.speakers) if any(fnmatchcase(name, pattern) for pattern in patterns)}
        members[group] = torch.tensor([name in chosen for name in corpus.speakers])
    turns = dict(zip(("shift", "stay"), shifts(corpus), strict=True)) if corpus.task.kind == "classification" else {}
    return {name: masks for name, masks in (("turns", turns), ("groups", members)) if masks}


def shifts(corpus: Corpus) -> tuple[Tensor, Tensor]:
    """Return two bool masks over all U utterances, `(U,)`: utterances with and without an emotion shift.

    Both masks compare each utterance with the previous labelled utterance of its speaker in the dialogue. The first mask marks utterances
    with another label, and the second mask marks utterances with the same label.
    """
    shift, stay = torch.zeros(2, corpus.utterances, dtype=torch.bool)
    last: dict[tuple[int, str], int] = {}
    for row, (dialogue, speaker, target) in enumerate(
        zip(corpus.dialogue_of.tolist(), corpus.speakers, corpus.target.tolist(), strict=True)
    ):
        if target < 0:
            continue
        if (before := last.get((dialogue, speaker))) is not None:
            (stay if before == target else shift)[row] = True
        last[dialogue, speaker] = target
    return shift, stay


def stages(entries: Sequence[Entry]) -> Iterator[tuple[str, list[Trial]]]:
    """Yield the name and the trainings of each stage of the leaderboard.

    If there are several candidate settings, the first stage chooses settings. The last stage trains the chosen settings with all seeds. The
    trainings of a stage can run in any order.
    """
    tried = [trial for entry in entries for trials in entry.tried() for trial in trials]
    if tried:
        yield "settings", tried
    seeds = max((entry.experiment.run.seeds for entry in entries), default=0)
    final = [entry.final() for entry in entries]
    yield "seeds", [trials[seed] for seed in range(seeds) for trials in final]  # every method has a first seed before one has a second


def training_of(record: Record) -> str | None:
    """Return the name of the training whose result is in a record; `None` if the record has no result of a training."""
    name = record.get("training")
    return name if isinstance(name, str) and ("error" in record or {"dev", "parameters"} <= record.keys()) else None


def train(fields: Sequence[Field], launch: Launch) -> None:
    """Run all unfinished trainings.

    If a worker process dies, an error is recorded for its training. The training is repeated when the leaderboard is continued.

    Raises:
        ErcGraphError: a file could not be written.
    """
    for here in fields:
        here.folder.mkdir(parents=True, exist_ok=True)
        with (
            Journal(here.folder / TRAININGS, training_of) as records,
            Journal(here.folder / TRACES, trace_of) as traces,
            Journal(here.folder / ANSWERS, answers_of) as answers,
        ):
            keep = partial(_keep, here, records, traces, answers)
            for what, trials in stages(here.entries):
                left = {trial.key: trial for trial in trials if trial.key not in here.done or here.done[trial.key].get("again")}
                _train_stage(left, len(trials), here, f"{here.corpus.name}, {what}", launch, keep)
        shutil.rmtree(here.folder / WORK, ignore_errors=True)


def _keep(here: Field, records: Journal, traces: Journal, answers: Journal, trial: Trial, found: Record) -> None:
    """Write the results of a training. The record in `trainings.jsonl` is written last; it marks the training as finished."""
    if "trace" in found:
        traces.add({"training": trial.key, "stages": found.pop("trace")})
    if "answers" in found:
        answers.add({"training": trial.key, "answers": found.pop("answers")})
    records.add(found)
    here.done[trial.key] = found
    if trial.folder:
        shutil.rmtree(trial.folder, ignore_errors=True)


def _train_stage(
    left: dict[str, Trial], count: int, here: Field, title: str, launch: Launch, keep: Callable[[Trial, Record], None]
) -> None:
    if not launch.apart:
        for trial in (bar := Progress(left.values(), desc=title, total=count, initial=count - len(left))):
            bar.set_postfix_str(trial.name, refresh=False)
            keep(trial, carry_out(trial, here.corpus, quiet=True))
        return

    def done(trial: Trial, found: Record) -> None:
        keep(trial, found)
        del left[trial.key]

    while left:
        try:
            train_all([*left.values()], here.corpus, here.folder, launch, work=carry_out, what=title, done=done, before=count - len(left))
        except RunGone as gone:
            trial = left[gone.name]
            done(trial, record_of(trial, {"error": "the worker process has died (killed, or out of memory)", "again": True}))
