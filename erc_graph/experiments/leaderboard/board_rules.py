"""The rules of a leaderboard, `experiments/leaderboard.toml`: what no method chooses for itself."""

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
    """What holds on one corpus.

    Attributes:
        modalities: Which of them methods read; default: all that the corpus has.
        sets: Modality → the corpus' feature set that is taken for it, where that has another name.
        widths: Modality → numbers per utterance that it may have; default: any.
        pieces: Conversations are cut into pieces of so many utterances, in training and evaluating, each a conversation of its own;
            default: they are whole.
        choice: On what settings are chosen: the `dev` split; `sessions` of the training and development dialogues, each held out once;
            `thirds` of them, each held out once.
        selection: The epoch that is kept: the best on the `dev`elopment dialogues, or the `last`, fixed beforehand.
        inputs: What is done with the features in front of every method.
        prior: What is added to the scores behind every method.
        groups: Group → names of speakers in it (`*` stands for anything), for the gap between groups.
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
        """Return the corpus with feature sets under the names of their modalities, and its conversations in pieces.

        Raises:
            ConfigError: one is missing, or of another width, or pieces of no utterances.
        """
        if missing := [name for name in self.sets.values() if name not in corpus.features]:
            raise ConfigError(
                f"{corpus.name}: expected the feature set {missing[0]!r}, found {', '.join(corpus.features) or 'none'}; name others with "
                "`sets` in rules of your own, --rules FILE"
            )
        features, present = (
            {**values, **{name: values[own] for name, own in self.sets.items()}} for values in (corpus.features, corpus.present)
        )
        corpus = replace(corpus, features=features, present=present)
        for name, widths in self.widths.items():
            found = corpus.features[name].shape[1] if name in corpus.features else "none"
            if found not in widths:
                raise ConfigError(
                    f"{corpus.name}: expected {name} features of {' or '.join(map(str, widths))} numbers, found {found}; these rules are "
                    "for those alone, write others with --rules FILE"
                )
        if self.pieces is None:
            return corpus
        if self.pieces < 1:
            raise ConfigError(f"pieces: expected 1 turn or more, found {self.pieces}")
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
    """A method with other settings, as a row of its own.

    Attributes:
        name: Name of the row, and of what is kept of it.
        method: Name of the method.
        changes: Key → value, changes of its committed settings.
    """

    name: str
    method: str
    changes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What holds for every method.

    Attributes:
        seeds: Trainings of the chosen setting, with seeds 0 to N-1.
        budget: Settings that are tried beside the paper's.
        members: Networks per training that vote.
        tuned: Methods whose committed settings were chosen on development data already, which tables say.
        ranges: Key → range, for all methods; `width` and `dropout` are the pipeline's, where it has them.
        variants: Methods with other settings, beside those that are asked for.
        corpora: Name of a corpus → what holds on it; corpora that are not named have the defaults.
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
                raise ConfigError(f"{name}: expected {least} to {most}, found {shortened(getattr(self, name))}")
        names = [one.name for one in self.variants]
        for name in names:
            if Path(name).name != name or name.startswith(".") or names.count(name) > 1 or name in METHODS:
                raise ConfigError(f"variants: expected names of their own that can be those of folders, found {name!r}")
        if self.ranges:
            SearchSpace.from_dict(self.ranges)
        elif self.budget:
            raise ConfigError("budget: expected [ranges] to try settings from, found none; set budget = 0, or give ranges")

    def of(self, corpus: str) -> CorpusRules:
        """Return what holds on a corpus."""
        return self.corpora.get(corpus, CorpusRules())

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, as `rules_from` takes them."""
        return dataclasses.asdict(self)


def rules_from(values: Mapping[str, Any], where: str) -> Rules:
    """Return the rules from plain values.

    Raises:
        ConfigError: every unknown key, wrong type and impossible value at once, each with its path.
    """
    from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

    from erc_graph.experiments.experiment import sentence

    try:
        checked = TypeAdapter(with_config(ConfigDict(extra="forbid"))(Rules)).validate_json(
            json.dumps(dict(values), default=str), strict=True
        )
    except ValidationError as error:
        raise ConfigError("\n".join(sentence(problem, where) for problem in error.errors())) from None
    return checked


def read_rules(path: str | Path | None = None) -> Rules:
    """Return the rules in a file, or those that come with the package: the default ones, or of a name such as `standard`.

    Raises:
        ConfigError: no such file, or not rules.
    """
    name = f"{RULES}.toml" if path is None else f"{RULES}-{path}.toml"
    own = next((folder / name for folder in FOLDERS if Path(name).name == name and (folder / name).is_file()), None)
    if own is not None and (path is None or not Path(path).exists()):
        path = own
    elif path is None:
        raise ConfigError(f"experiments/{name}: expected the rules of the leaderboard; reinstall erc_graph, or give --rules FILE")
    return rules_from(read_toml(path), str(path))
