"""Which trainings a leaderboard has, in which order, and which setting of a method is chosen: by development figures and held-out parts of
the training data alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from tqdm import tqdm

from erc_graph.data.corpus import Corpus
from erc_graph.data.splits import Fold, folds, held_out
from erc_graph.errors import ConfigError, ErcGraphError
from erc_graph.experiments.checks import check
from erc_graph.experiments.experiment import Experiment, Launch, from_dict
from erc_graph.experiments.launch import train_all
from erc_graph.experiments.leaderboard.board_rules import CRITERION, Rules
from erc_graph.experiments.leaderboard.candidates import candidates, committed
from erc_graph.experiments.leaderboard.trials import CONFIG, WORK, Trial, carry_out, read_record
from erc_graph.methods.own_file import short_name


@dataclass(kw_only=True)
class Entry:
    """A method on a corpus.

    Attributes:
        method: Its name, or file and class.
        experiment: The settings of its paper, but for what the rules decide.
        settings: Changes of them, the first of them none.
        folder: Where its records are.
        choice: On what settings are chosen.
        official: The split that is judged in the end.
    """

    method: str
    experiment: Experiment
    settings: Sequence[Mapping[str, Any]]
    folder: Path
    choice: Sequence[Fold]
    official: Fold

    def tried(self) -> list[list[Trial]]:
        """A list of trials per setting, one for each part that is held out; none where nothing is to choose."""
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
        """The experiment of every setting, or why the method refuses it; one that is refused counts as tried."""
        found: list[Experiment | ErcGraphError] = []
        for changes in self.settings:
            try:
                found.append(self.experiment.changed(changes) if changes else self.experiment)
            except ErcGraphError as refusal:
                found.append(refusal)
        return found

    @cached_property
    def records(self) -> list[list[dict[str, Any]]]:
        """What the trials of every setting left; all must be done."""
        return [[read_record(trial.record) for trial in trials] for trials in self.tried()]

    @property
    def figures(self) -> list[float | None]:
        """Mean figure of each setting over the parts; `None` where a training failed."""
        found: list[float | None] = []
        for records in self.records:
            values = [record["held_out"][CRITERION] for record in records if "held_out" in record]
            found.append(sum(values) / len(values) if values and len(values) == len(records) else None)
        return found

    @property
    def failed(self) -> dict[int, str]:
        """Settings without a figure, and why: refused, or a training that failed."""
        found = {number: str(made) for number, made in enumerate(self.made) if not isinstance(made, Experiment)}
        for number, records in enumerate(self.records):
            for error in [record["error"] for record in records if "error" in record]:
                found.setdefault(number, error)
        return found

    @property
    def chosen(self) -> int:
        """Number of the best setting, the first of equals; the paper's where all failed."""
        done = [(value, -number) for number, value in enumerate(self.figures) if value is not None]
        return -max(done)[1] if done else 0

    def final(self) -> list[Trial]:
        """The trainings of the chosen setting, one per seed."""
        number = self.chosen
        seeds = range(self.experiment.run.seeds)
        return [self._trial(f"final-{number}-seed-{seed}", number, self.official, seed, {}, final=True) for seed in seeds]

    def _trial(self, name: str, number: int, fold: Fold, seed: int, facts: Mapping[str, Any], *, final: bool = False) -> Trial:
        experiment = self.made[number]
        assert isinstance(experiment, Experiment)
        return Trial(
            experiment=experiment, seed=seed, fold=fold, folder=self.folder / WORK / name, name=f"{short_name(self.method)} {name}",
            record=self.folder / f"{name}.json", facts={"changes": dict(self.settings[number]), "setting": number, **facts}, final=final,
        )  # fmt: skip


@dataclass(kw_only=True)
class Field:
    """A corpus with all methods that fit it.

    Attributes:
        corpus: The corpus.
        entries: The methods.
        left_out: Method → why it is not among them.
    """

    corpus: Corpus
    entries: list[Entry] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


def field_of(
    corpus: Corpus, data: str, methods: Sequence[str], rules: Rules, folder: Path, begun: Mapping[str, Mapping[str, Any]] | None = None
) -> Field:
    """Ask every method whether it fits a corpus.

    Args:
        corpus: The corpus.
        data: Where it was read from.
        methods: Names.
        rules: Of the leaderboard.
        folder: Of the leaderboard; a corpus has a folder in it, and a method in that.
        begun: Method → settings that the leaderboard began with; unset: it begins now, with the committed ones.

    Raises:
        ConfigError: the corpus has no split for the rules, or a name that is no name of a folder.
    """
    if Path(corpus.name).name != corpus.name or corpus.name.startswith("."):
        raise ConfigError(f"--data: expected a corpus whose name can be that of a folder, found {corpus.name!r}; change it in corpus.toml")
    found = Field(corpus=corpus)
    official = folds(corpus)[0]
    by = rules.of(corpus.name).choice
    choice = [replace(official, test=official.dev, name="dev")] if by == "dev" else held_out(corpus, by)
    for method in methods:
        try:
            if begun is None:
                experiment = committed(method, corpus, data, rules)
            elif (values := begun.get(short_name(method))) is not None:
                experiment = from_dict(method, {**values, "seeds": rules.seeds}, CONFIG)
            else:
                continue
            check(experiment, corpus)
        except ErcGraphError as refusal:
            found.left_out[short_name(method)] = str(refusal)
            continue
        found.entries.append(
            Entry(
                method=method,
                experiment=experiment,
                settings=candidates(experiment, rules),
                folder=folder / corpus.name / short_name(method),
                choice=choice,
                official=official,
            )
        )
    return found


def stages(entries: Sequence[Entry]) -> Iterator[tuple[str, list[Trial]]]:
    """What is trained first, and what when that is done; every trial of a stage may be trained in any order."""
    tried = [trial for entry in entries for trials in entry.tried() for trial in trials]
    if tried:
        yield "settings", tried
    seeds = max((entry.experiment.run.seeds for entry in entries), default=0)
    final = [entry.final() for entry in entries]
    yield "seeds", [trials[seed] for seed in range(seeds) for trials in final]  # every method has a first seed before one has a second


def train(fields: Sequence[Field], folder: Path, launch: Launch) -> None:
    """Do all that is not done yet.

    Raises:
        ErcGraphError: a worker is gone, or a file could not be written.
    """
    for here in fields:
        for what, trials in stages(here.entries):
            for trial in trials:
                trial.record.parent.mkdir(parents=True, exist_ok=True)
            title = f"{here.corpus.name}, {what}"
            if launch.apart:
                train_all(trials, here.corpus, folder, launch, resume=True, work=carry_out, what=title)
                continue
            left = [trial for trial in trials if not trial.finished]
            for trial in (bar := tqdm(left, desc=title, total=len(trials), initial=len(trials) - len(left), disable=None)):
                bar.set_postfix_str(trial.name, refresh=False)
                carry_out(trial, here.corpus, quiet=True)
