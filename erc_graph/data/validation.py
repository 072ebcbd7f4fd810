"""Validation of a corpus, with a report of all problems instead of only the first problem."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from erc_graph.data.corpus import Corpus
from erc_graph.data.files.load import MANIFEST, load_corpus
from erc_graph.data.ragged import Ragged
from erc_graph.data.splits import SPLITS
from erc_graph.errors import ErcGraphError


@dataclass(frozen=True, kw_only=True)
class Findings:
    """The result of `validate_corpus`.

    Attributes:
        corpus: The corpus; `None` if it could not be read.
        problems: Problems that the user must fix, one sentence per problem.
        notes: Notes for the user about facts that are not errors, one sentence per note.
    """

    corpus: Corpus | None
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def validate_corpus(path: str | os.PathLike[str], *, task: str | None = None, strict: bool = False) -> Findings:
    """Read a corpus with `load_corpus`, and report all problems instead of only the first problem.

    If reading fails, each file named in `corpus.toml` is read separately to find all problems. A corpus that can be read is checked for

    - splits without labels,
    - labels without training utterances,
    - conversations that are in several splits,
    - features that are equal for all utterances, and silent recordings.

    Args:
        path: Path of the corpus, see `load_corpus`.
        task: Name of the task, see `load_corpus`.
        strict: Whether NaN and inf in features are problems.

    >>> validate_corpus("sample").problems
    []
    """
    try:
        corpus = load_corpus(path, task=task, strict=strict)
    except ErcGraphError as error:
        found = dict.fromkeys(_files(Path(path), strict))
        first = str(error)
        return Findings(corpus=None, problems=[*([] if first in found else [first]), *found])
    problems, notes = _content(corpus)
    return Findings(corpus=corpus, problems=problems, notes=[*corpus.provenance.get("notes", ()), *notes])


def _files(path: Path, strict: bool) -> list[str]:
    """Return the problems of the files that `corpus.toml` names. Each file is read separately."""
    from erc_graph.data.files.feature_files import join_features, read_features
    from erc_graph.data.files.formats import merge_annotations, read_annotations
    from erc_graph.data.files.manifest import read_manifest
    from erc_graph.data.files.sequence_files import join_sequences, read_sequences
    from erc_graph.data.splits import check_splits, read_splits

    problems: list[str] = []

    def attempt(step: Callable[..., Any], *given: Any, **named: Any) -> Any:
        try:
            return step(*given, **named)
        except ErcGraphError as error:
            problems.append(str(error))
        except OSError as error:
            problems.append(f"{error.filename or path}: cannot be read ({error.strerror or error})")
        return None

    file = path if path.suffix == ".toml" else path / MANIFEST
    if not file.is_file() or (manifest := attempt(read_manifest, file)) is None:
        return problems
    parts = [attempt(read_annotations, part, dataset=manifest.dataset) for part in manifest.annotations]
    annotations = None if None in parts else parts[0] if len(parts) == 1 else attempt(merge_annotations, parts)
    if manifest.splits:
        splits = attempt(read_splits, manifest.splits)
        if splits is not None and annotations is not None:
            attempt(check_splits, splits, annotations.dialogue_ids, str(manifest.splits))
    for name, feature_file in manifest.features.items():
        read = attempt(read_features, feature_file)
        if read is not None and annotations is not None:
            attempt(join_features, *read, annotations.utterance_ids, where=f"features.{name} ({feature_file.name})", strict=strict)
    for name, sequence_file in manifest.sequences.items():
        read = attempt(read_sequences, sequence_file, strict=strict, sound=name.startswith("audio"))
        if read is not None and annotations is not None:
            attempt(join_sequences, *read, annotations.utterance_ids, where=f"sequences.{name} ({sequence_file.name})", strict=strict)
    return problems


def _content(corpus: Corpus) -> tuple[list[str], list[str]]:
    """Return the problems and notes of a corpus that could be read."""
    problems, notes = [], []
    labelled = corpus.labelled
    rows = {split: corpus.rows(corpus.position[name] for name in ids) for split, ids in corpus.splits.items()}
    if not corpus.splits:
        notes.append("no splits: give `splits` in corpus.toml, or evaluate with --protocol speaker10 or session5")
    elif missing := [split for split in ("train", "test") if split not in corpus.splits]:
        notes.append(f"no {' and no '.join(missing)} split; the corpus has {', '.join(corpus.splits)}")
    if labelled.any():
        problems += [
            f"split {split}: none of its {len(at)} utterances is labelled, so the split cannot be used for training or evaluation"
            for split, at in rows.items()
            if not labelled[at].any()
        ]
    if corpus.task.kind == "classification" and "train" in rows:
        trained = set(corpus.target[rows["train"]].tolist())
        for split in SPLITS[1:]:
            unseen = [
                name for i, name in enumerate(corpus.task.labels) if split in rows and i not in trained and i in corpus.target[rows[split]]
            ]
            if unseen:
                notes.append(f"labels of {split} that no training utterance has: {', '.join(unseen)}")
    notes += _repeated(corpus)
    for name, here in corpus.present.items():
        if not here.any():
            problems.append(f"features.{name}: no utterance has features; leave the modality out, or check the ids in its file")
        elif int(here.sum()) > 1 and not (corpus.features[name][here] != corpus.features[name][here][:1]).any():
            notes.append(f"features.{name}: all rows are equal, so they carry no information")
    for name, value in corpus.sequences.items():
        if not value.item and value.values.is_floating_point() and (silent := _silent(value)):
            first = corpus.utterance_ids[silent[0]]
            notes.append(f"sequences.{name}: {len(silent)} of {int(value.present.sum())} recordings are silent, the first is {first!r}")
    problems += [
        f"sequences.{name}: no utterance has a sequence; leave the modality out, or check the ids in its file"
        for name, value in corpus.sequences.items()
        if not len(value.values)
    ]
    return problems, notes


def _silent(waves: Ragged) -> list[int]:
    """Return the positions of recordings whose samples are all equal."""
    most, least = (torch.segment_reduce(waves.values, how, lengths=waves.lengths) for how in ("max", "min"))
    return (waves.present & (most == least)).nonzero().squeeze(1).tolist()


def _repeated(corpus: Corpus) -> list[str]:
    """Return notes about development or test dialogues that are also in the training split."""
    if not corpus.texts or "train" not in corpus.splits:
        return []

    def said(dialogue: str) -> tuple[tuple[str, str], ...]:
        start, end = corpus.ptr[corpus.position[dialogue] :][:2].tolist()
        return tuple(zip(corpus.speakers[start:end], corpus.texts[start:end], strict=True))

    known = {said(dialogue): dialogue for dialogue in corpus.splits["train"]}
    found = []
    for split in SPLITS[1:]:
        # One or two turns ("Yes." "Okay.") are said again without being the same conversation.
        twice = [(name, known[said(name)]) for name in corpus.splits.get(split, ()) if len(said(name)) > 2 and said(name) in known]
        if twice:
            found.append(
                f"{len(twice)} dialogues of {split} have the same utterances as dialogues of train; "
                f"the first: {twice[0][0]!r} equals {twice[0][1]!r}"
            )
    return found
