"""The rules of a leaderboard, from `experiments/leaderboard.toml`: the settings that are the same for all methods."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch

from erc_graph.data.corpus import Corpus
from erc_graph.data.files.toml import read_toml
from erc_graph.errors import ConfigError, shortened
from erc_graph.experiments.experiment import FOLDERS
from erc_graph.methods import METHODS
from erc_graph.methods.inputs import InputsConfig
from erc_graph.methods.prior import PriorConfig
from erc_graph.training.search import SearchSpace

RULES = "leaderboard"  # stem of a file in FOLDERS; `leaderboard-NAME` is known by its NAME
ALPHA = 0.05  # of every test
BOUNDS = {"seeds": (1, 10_000), "budget": (0, 10_000), "members": (1, 100)}  # what they ask for is planned before anything is trained
CRITERION = "weighted_f1"  # chooses epochs and settings, and is what rows are compared by


@dataclass(frozen=True, kw_only=True)
class CorpusRules:
    """The rules for one corpus.

    Attributes:
        modalities: Modalities that methods use; default: all modalities of the corpus.
        sets: Modality → name of its feature set in the corpus, for feature sets that are not named like their modality.
        widths: Modality → allowed numbers of features per utterance; default: any number.
        pieces: Largest number of utterances in a piece of a conversation, in training and evaluation; default: conversations are not cut.
        choice: Data on which settings are chosen. `dev`: the development split. `sessions` or `thirds`: each session or third of the
            training and development dialogues is held out once.
        selection: Selected epoch. `dev`: the best epoch on the development split. `last`: the last epoch, with a fixed number of epochs.
        inputs: Preprocessing of the features for every method.
        prior: Log-probabilities of other classifiers that are added to the scores of every method.
        groups: Group → names of its speakers (`*` matches anything); each group is also evaluated separately.
    """

    modalities: list[str] | None = None
    sets: dict[str, str] = field(default_factory=dict)
    widths: dict[str, list[int]] = field(default_factory=dict)
    pieces: int | None = None
    choice: Literal["dev", "sessions", "thirds"] = "dev"
    selection: Literal["dev", "last"] = "dev"
    inputs: InputsConfig = field(default_factory=InputsConfig)
    prior: PriorConfig = field(default_factory=PriorConfig)
    groups: dict[str, list[str]] = field(default_factory=dict)

    def applied(self, corpus: Corpus) -> Corpus:
        """Return the corpus with renamed feature sets (rule `sets`), and with conversations cut into pieces (rule `pieces`).

        Raises:
            ConfigError: a feature set is missing or has another width, or `pieces` is less than 1.
        """
        if missing := [name for name in self.sets.values() if name not in corpus.features]:
            raise ConfigError(
                f"{corpus.name}: expected the feature set {missing[0]!r}, which the rules name, found "
                f"{', '.join(corpus.features) or 'none'}; name another feature set with `sets` in your own rules, --rules FILE"
            )
        features, present = (
            {**values, **{name: values[own] for name, own in self.sets.items()}} for values in (corpus.features, corpus.present)
        )
        corpus = replace(corpus, features=features, present=present)
        for name, widths in self.widths.items():
            found = corpus.features[name].shape[1] if name in corpus.features else "none"
            if found not in widths:
                raise ConfigError(
                    f"{corpus.name}: expected {name} features of {' or '.join(map(str, widths))} numbers per utterance, found "
                    f"{found}; the rules of the leaderboard require this number; give other rules with --rules FILE"
                )
        if self.pieces is None:
            return corpus
        if self.pieces < 1:
            raise ConfigError(f"pieces: expected 1 utterance or more per piece of a conversation, found {self.pieces}")
        parts = {name: -(-int(length) // self.pieces) for name, length in zip(corpus.dialogue_ids, corpus.lengths.tolist(), strict=True)}
        lengths = [
            min(self.pieces, int(length) - self.pieces * part)
            for name, length in zip(corpus.dialogue_ids, corpus.lengths.tolist(), strict=True)
            for part in range(parts[name])
        ]
        names = {name: tuple(f"{name}.{part}" for part in range(count)) for name, count in parts.items()}
        return corpus.regrouped(
            torch.arange(corpus.utterances),
            tuple(piece for pieces in names.values() for piece in pieces),
            torch.tensor(lengths),
            {split: tuple(piece for name in ids for piece in names[name]) for split, ids in corpus.splits.items()},
        )


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A method with changed settings, which has its own row in the leaderboard.

    Attributes:
        name: Name of the row and of its recorded results.
        method: Name of the method.
        changes: Key of a setting, such as `training.epochs` → value, for settings that differ from the settings file of the method.
    """

    name: str
    method: str
    changes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The rules of a leaderboard, which are the same for every method.

    Attributes:
        seeds: Number N of trainings of the chosen setting; their seeds are 0 to N-1.
        budget: Number of random settings that are evaluated for each method, in addition to its committed or default setting.
        members: Number of networks in the ensemble of each training.
        tuned: Methods whose settings files were chosen on development data; a note below each table names these methods.
        ranges: Key of a setting → range of its random values, for all methods. A key without a dot, such as `width`, belongs to the table
            `pipeline`.
        variants: Methods with changed settings, in addition to the requested methods.
        corpora: Name of a corpus → its rules; other corpora use the default values of `CorpusRules`.
    """

    seeds: int = 5
    budget: int = 0
    members: int = 1
    tuned: list[str] = field(default_factory=list)
    ranges: dict[str, Any] = field(default_factory=dict)
    variants: list[Variant] = field(default_factory=list)
    corpora: dict[str, CorpusRules] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, (least, most) in BOUNDS.items():
            if not least <= getattr(self, name) <= most:
                raise ConfigError(f"{name}: expected a number from {least} to {most}, found {shortened(getattr(self, name))}")
        names = [one.name for one in self.variants]
        for name in names:
            if Path(name).name != name or name.startswith(".") or names.count(name) > 1 or name in METHODS:
                raise ConfigError(
                    "variants: expected a name that can be the name of a folder and that no method and no other variant has, found "
                    f"{name!r}"
                )
        if self.ranges:
            SearchSpace.from_dict(self.ranges)
        elif self.budget:
            raise ConfigError(
                "budget: expected the table [ranges] in the rules, from which random settings are drawn, found none; set budget "
                "= 0, or add this table"
            )

    def of(self, corpus: str) -> CorpusRules:
        """Return the rules for a corpus."""
        return self.corpora.get(corpus, CorpusRules())

    def as_dict(self) -> dict[str, Any]:
        """Return a dictionary that `rules_from` can read."""
        return dataclasses.asdict(self)


def rules_from(values: Mapping[str, Any], where: str) -> Rules:
    """Read rules from a dictionary, such as the content of a file of rules.

    Raises:
        ConfigError: at least one value is invalid; the message lists all unknown keys, wrong types and invalid values with their paths.
    """
    from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

    from erc_graph.experiments.experiment import sentence

    try:
        checked = TypeAdapter(with_config(ConfigDict(extra="forbid"))(Rules)).validate_json(
            json.dumps(dict(values), default=str), strict=True
        )
    except ValidationError as error:
        raise ConfigError("\n".join(sentence(problem, where, _known(problem["loc"])) for problem in error.errors())) from None
    return checked


def _known(place: tuple[int | str, ...]) -> str:
    """Return the known keys of the table of a key, for the message about an unknown key."""
    tables = {"corpora": CorpusRules, "variants": Variant}
    table: Any = Rules if len(place) == 1 else tables.get(str(place[0])) if len(place) == 3 else None
    return (
        f"known: {', '.join(one.name for one in dataclasses.fields(table))}" if table else "the page about the leaderboard lists the rules"
    )


def read_rules(path: str | Path | None = None) -> Rules:
    """Read rules from a file, or rules of the package by their name, such as `standard`.

    Without `path`, the default rules of the package are read.

    Raises:
        ConfigError: the file is missing or has invalid rules.
    """
    name = f"{RULES}.toml" if path is None else f"{RULES}-{path}.toml"
    own = next((folder / name for folder in FOLDERS if Path(name).name == name and (folder / name).is_file()), None)
    if own is not None and (path is None or not Path(path).exists()):
        path = own
    elif path is None:
        raise ConfigError(
            f"experiments/{name}: expected the file with the rules of the leaderboard, found no such file; reinstall "
            "erc_graph, or give --rules FILE"
        )
    return rules_from(read_toml(path), str(path))
