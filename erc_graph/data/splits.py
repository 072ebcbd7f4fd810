"""Splits of a corpus: split files, development splits and evaluation protocols."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from erc_graph.data.files.budget import content_of
from erc_graph.data.files.vocabulary import SPLIT_NAMES
from erc_graph.errors import ConfigError, CorpusError

if TYPE_CHECKING:
    from erc_graph.data.corpus import Corpus

SPLITS = ("train", "dev", "test")


def read_splits(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a split file, which is a JSON object. This function does not check the names in the file; `check_splits` does.

    Raises:
        CorpusError: the file is not JSON, is not a JSON object, or contains a split twice.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        twice = [name for name, times in Counter(name for name, _ in pairs).items() if times > 1]
        if twice:
            raise CorpusError(f"{path}: the split {twice[0]!r} is in the file twice; expected each split once; join its two lists")
        return dict(pairs)

    try:
        value = json.loads(content_of(path).decode("utf-8-sig"), object_pairs_hook=once)
    except CorpusError:
        raise
    except (ValueError, RecursionError) as error:  # a number of thousands of digits is a plain ValueError
        raise CorpusError(f"{path}: not valid JSON ({error})") from error
    if not isinstance(value, dict):
        raise CorpusError(
            f"{path}: expected a JSON object with the keys train, dev and test, each with a list of dialogue ids, "
            f"found a {type(value).__name__}"
        )
    return value


def check_splits(splits: Mapping[str, Any], dialogue_ids: Collection[str], where: str) -> dict[str, tuple[str, ...]]:
    """Check splits, and return the splits that are not empty. A dialogue may be in at most one split.

    Args:
        splits: Split name → dialogue ids. Other spellings of the names, such as `Train` and `val`, are recognised.
        dialogue_ids: Dialogue ids of the corpus.
        where: Origin of the splits, used in error messages.

    Raises:
        CorpusError: a split name or dialogue is unknown, or a dialogue is in two splits or twice in the same split.
    """
    known = set(dialogue_ids)
    home: dict[str, str] = {}
    given: dict[str, Any] = {}
    for spelled, names in splits.items():
        split = SPLIT_NAMES.get(str(spelled).strip().lower(), spelled)  # `Train`, `val`
        if split not in SPLITS or split in given:
            raise CorpusError(
                f"{where}: {'unknown split' if split not in SPLITS else 'two spellings of the split'} {split!r}; "
                f"expected {', '.join(SPLITS)}"
            )
        given[split] = names
        if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
            raise CorpusError(f"{where}: {split}: expected a list of dialogue ids as strings")
        unknown = [name for name in names if name not in known]
        if unknown:
            said = "; a split lists dialogues, not utterances" if unknown[0].startswith(tuple(known)) else ""
            raise CorpusError(
                f"{where}: {split}: unknown dialogue {unknown[0]!r} ({len(unknown)} of {len(names)} unknown); "
                f"the annotations have {len(known)} dialogues, the first is {next(iter(dialogue_ids), '')!r}{said}"
            )
        for name in names:
            if name in home:
                both = f"in {home[name]} and in {split}" if home[name] != split else f"twice in {split}"
                raise CorpusError(f"{where}: dialogue {name!r} is {both}; expected each dialogue once, in one split")
            home[name] = split
    return {split: tuple(given[split]) for split in SPLITS if given.get(split)}


def hold_out(dialogue_ids: Sequence[str], fraction: float = 0.1, seed: int = 0) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Divide dialogues into remaining and held-out dialogues, by a hash of their ids.

    Another order of the ids gives the same division.

    Args:
        dialogue_ids: Ids of the dialogues.
        fraction: Share of dialogues to hold out. At least one dialogue is held out, and at least one dialogue remains.
        seed: Seed of the hash; another seed gives another choice of dialogues.

    >>> stay, held_out = hold_out([f"d{i}" for i in range(20)])
    >>> len(stay), len(held_out)
    (18, 2)

    Raises:
        ConfigError: the fraction is not between 0 and 1, or there are fewer than two dialogues.
    """
    if not 0 < fraction < 1:
        raise ConfigError(f"fraction of development dialogues: expected a number between 0 and 1, found {fraction}")
    if len(dialogue_ids) < 2:
        raise ConfigError(
            f"development split: expected two or more training dialogues, from which one can be taken, found {len(dialogue_ids)}"
        )
    order = _shuffled(dialogue_ids, seed)
    chosen = set(order[: min(max(1, round(fraction * len(order))), len(order) - 1)])
    return tuple(n for n in dialogue_ids if n not in chosen), tuple(n for n in dialogue_ids if n in chosen)


def _shuffled(dialogue_ids: Sequence[str], seed: int) -> list[str]:
    """Return the ids in a random order, which depends on the ids and the seed, but not on the given order of the ids."""
    return sorted(dialogue_ids, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode(errors="surrogatepass")).digest())


def development_split(corpus: Corpus, fraction: float = 0.1, seed: int = 0) -> Corpus:
    """Return the corpus with a development split. Some training dialogues become the development split.

    A corpus that already has a development split is returned unchanged.

    Args:
        corpus: A corpus with a training split.
        fraction: Share of the training dialogues that become development dialogues.
        seed: Seed of the random choice; see `hold_out`.

    Raises:
        ConfigError: there is no training split, the training split has fewer than two dialogues, or the fraction is not between 0 and 1.
    """
    if "dev" in corpus.splits:
        return corpus
    if "train" not in corpus.splits:
        raise ConfigError(
            f"{corpus.name}: no training split, from which development dialogues could be taken; give a split file as `splits` "
            "in corpus.toml"
        )
    train, dev = hold_out(corpus.splits["train"], fraction, seed)
    splits = {"train": train, "dev": dev, **{name: ids for name, ids in corpus.splits.items() if name != "train"}}
    return replace(corpus, splits=splits)


@dataclass(frozen=True, kw_only=True)
class Fold:
    """One division of a corpus into training, development and test dialogues.

    Attributes:
        name: Name of the fold, such as `session 5` or `speaker Ses05F`.
        train: Ids of training dialogues.
        dev: Ids of development dialogues.
        test: Ids of test dialogues.
        dev_speakers: Speakers whose utterances are evaluated in the development dialogues; `None`: all speakers. Utterances of other
            speakers are only context.
        test_speakers: Speakers whose utterances are evaluated in the test dialogues; `None`: all speakers.
    """

    name: str
    train: tuple[str, ...]
    dev: tuple[str, ...]
    test: tuple[str, ...]
    dev_speakers: frozenset[str] | None = None
    test_speakers: frozenset[str] | None = None


def judged_rows(corpus: Corpus, dialogue_ids: Collection[str], speakers: Collection[str] | None = None) -> Tensor:
    """Return whether each utterance is evaluated, `(U,)` bool. Labelled utterances of the given dialogues and speakers are evaluated.

    Args:
        corpus: A corpus of `U` utterances.
        dialogue_ids: Ids of the dialogues to evaluate.
        speakers: Names of the speakers to evaluate; `None`: all speakers.

    Raises:
        CorpusError: a dialogue is unknown.
    """
    unknown = [name for name in dialogue_ids if name not in corpus.position]
    if unknown:
        raise CorpusError(
            f"{corpus.name}: unknown dialogue {unknown[0]!r} ({len(unknown)} of the {len(dialogue_ids)} given ids are unknown)"
        )
    judged = torch.zeros(corpus.utterances, dtype=torch.bool)
    judged[corpus.rows(corpus.position[name] for name in dialogue_ids)] = True
    if speakers is not None:
        chosen = frozenset(speakers)
        judged &= torch.from_numpy(np.fromiter(map(chosen.__contains__, corpus.speakers), dtype=bool, count=corpus.utterances))
    return judged & corpus.labelled


# -- protocols -----------------------------------------------------------------------------


def _official(corpus: Corpus, seed: int) -> list[Fold]:
    missing = [name for name in ("train", "test") if name not in corpus.splits]
    if missing:
        raise ConfigError(f"the corpus has no split {' and no split '.join(missing)}; give a split file as `splits` in corpus.toml")
    splits = development_split(corpus, seed=seed).splits
    return [Fold(name="official", train=splits["train"], dev=splits["dev"], test=splits["test"])]


def _sessions(corpus: Corpus) -> dict[str, tuple[str, ...]]:
    """Return a dictionary from sessions to their dialogues, for dialogue ids such as `Ses05F_impro01`."""
    sessions: dict[str, list[str]] = {}
    for name in corpus.dialogue_ids:
        match = re.match(r"Ses(\d\d)", name)
        if match is None:
            raise ConfigError(f"expected dialogue ids that name their session, such as Ses05F_impro01, found {name!r}")
        sessions.setdefault(match[1], []).append(name)
    if len(sessions) < 3:
        raise ConfigError(f"expected dialogues of three or more sessions, found {len(sessions)} in the dialogue ids of {corpus.name}")
    return {name: tuple(sessions[name]) for name in sorted(sessions)}


def _without(sessions: Mapping[str, tuple[str, ...]], left_out: str) -> tuple[str, ...]:
    return tuple(name for session, names in sessions.items() if session != left_out for name in names)


def _session5(corpus: Corpus, seed: int) -> list[Fold]:
    sessions = _sessions(corpus)
    folds = []
    for session, test in sessions.items():
        train, dev = hold_out(_without(sessions, session), seed=seed)
        folds.append(Fold(name=f"session {int(session)}", train=train, dev=dev, test=test))
    return folds


def _speaker10(corpus: Corpus, seed: int) -> list[Fold]:
    sessions = _sessions(corpus)
    folds, seen = [], set[str]()
    for session, names in sessions.items():
        rows = corpus.rows(corpus.position[name] for name in names)
        speakers = sorted({corpus.speakers[row] for row in rows.tolist()})
        if len(speakers) != 2:
            raise ConfigError(
                f"expected two speakers per session, with the same names in all its dialogues, found {len(speakers)} in session {session}"
            )
        if seen & set(speakers):
            raise ConfigError(
                f"expected speakers that each belong to only one session, found {min(seen & set(speakers))!r} in several sessions"
            )
        seen |= set(speakers)
        for held_out, partner in (speakers, speakers[::-1]):
            folds.append(
                Fold(
                    name=f"speaker {held_out}",
                    train=_without(sessions, session),
                    dev=names,
                    test=names,
                    dev_speakers=frozenset({partner}),
                    test_speakers=frozenset({held_out}),
                )
            )
    return folds


def held_out(corpus: Corpus, by: str, *, seed: int = 0) -> list[Fold]:
    """Divide the training and development dialogues into folds. Each dialogue is evaluated in exactly one fold.

    Test dialogues are not used.

    Args:
        corpus: A corpus with a training and a test split.
        by: `sessions`: each fold holds out one session. `thirds`: each fold holds out one third of the dialogues, chosen by a hash of the
            ids.
        seed: Seed of the division into thirds, and of the choice of development dialogues. In each fold, a tenth of the dialogues that are
            not held out become development dialogues.

    Raises:
        ConfigError: there is no training or test split, or the dialogue ids do not name at least three sessions.
    """
    official = _official(corpus, seed)[0]
    known = set(official.train + official.dev)
    parts: Mapping[str, tuple[str, ...]]
    if by == "sessions":
        parts = {name: ids for name, names in _sessions(corpus).items() if (ids := tuple(n for n in names if n in known))}
    else:
        order = _shuffled([name for name in corpus.dialogue_ids if name in known], seed)
        parts = {str(i + 1): tuple(order[i::3]) for i in range(3)}
    found = []
    for name, test in parts.items():
        train, dev = hold_out(_without(parts, name), seed=seed)
        found.append(Fold(name=f"without {by.removesuffix('s')} {int(name)}", train=train, dev=dev, test=test))
    return found


PROTOCOLS: dict[str, Callable[[Corpus, int], list[Fold]]] = {
    "official": _official,  # train/dev/test as the corpus says; a missing dev is taken out of train
    "session5": _session5,  # IEMOCAP: each session is the test set once
    "speaker10": _speaker10,  # IEMOCAP: each speaker is evaluated once; the partner is the development set
}


def folds(corpus: Corpus, protocol: str = "official", *, seed: int = 0) -> list[Fold]:
    """Return the folds of an evaluation protocol for a corpus.

    Args:
        corpus: The whole corpus.
        protocol: Name of the protocol, a key of `PROTOCOLS`.
        seed: Seed of the random choice of development dialogues. It has no effect if the protocol defines these dialogues.

    Raises:
        ConfigError: the protocol is unknown, or cannot be used with the corpus. The message lists the protocols that can be used.
    """
    if protocol not in PROTOCOLS:
        raise ConfigError(f"protocol: unknown {protocol!r}; known protocols: {', '.join(PROTOCOLS)}")
    try:
        return PROTOCOLS[protocol](corpus, seed)
    except ConfigError as error:
        fitting = [name for name in PROTOCOLS if name != protocol and _fits(corpus, name)]
        raise ConfigError(
            f"protocol {protocol} does not fit {corpus.name}: {error}; protocols that fit: {', '.join(fitting) or 'none'}"
        ) from None


def _fits(corpus: Corpus, protocol: str) -> bool:
    try:
        return bool(PROTOCOLS[protocol](corpus, 0))
    except ConfigError:
        return False
