"""Merging of several annotation files: files with different dialogues of one corpus, or with further features of the same dialogues."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from erc_graph.data.annotations import TIMES, Annotations
from erc_graph.data.files.notes import note
from erc_graph.data.ragged import Ragged
from erc_graph.errors import CorpusError


def merge_annotations(parts: list[Annotations]) -> Annotations:
    """Merge the annotations of several files.

    Files with different dialogues, such as the three CSVs of MELD, are concatenated. Files with the same dialogues are joined utterance by
    utterance. In this case, the first file gives speakers, utterances and texts; the other files add labels and features. For example, the
    method M3NET needs the files of MMGCN and COSMIC.

    Raises:
        CorpusError: the files are of different data sets, share only some dialogues, or have duplicate utterance ids. The error is also
            raised if joined files differ in lengths or labels, if a joined file adds nothing, or if concatenated files differ in the number
            of features per vector.
    """
    if not parts:
        raise CorpusError("annotations: no file given; expected one or several files")
    datasets = list(dict.fromkeys(part.dataset for part in parts))
    if len(datasets) > 1:
        raise CorpusError(
            f"annotations: the files are of different data sets: {', '.join(str(name) for name in datasets)}; expected one data set"
        )
    parts = _apart(parts)
    groups: list[list[Annotations]] = []
    for part in parts:
        own = set(part.dialogue_ids)
        group = next((g for g in groups if all(own.isdisjoint(other.dialogue_ids) for other in g)), None)
        if group is None:
            groups.append([part])
        else:
            group.append(part)
    merged, *others = [_concatenate(group) for group in groups]
    for other in others:
        merged = _join(merged, other)
    count = Counter(merged.utterance_ids)
    if len(count) < len(merged.utterance_ids):
        raise CorpusError(f"annotations: utterance id {count.most_common(1)[0][0]!r} is in two files; ids must be unique")
    return merged


def _apart(parts: list[Annotations]) -> list[Annotations]:
    """Put the split in front of all ids, as in MELD, if each file has one split and some dialogue ids occur in several splits."""
    own = [
        next(iter(part.splits)) if len(part.splits) == 1 and len(part.dialogue_ids) == sum(map(len, part.splits.values())) else None
        for part in parts
    ]
    home: dict[str, set[str | None]] = {}
    for part, split in zip(parts, own, strict=True):
        for name in part.dialogue_ids:
            home.setdefault(name, set()).add(split)
    if None in own or all(len(splits) == 1 for splits in home.values()):
        return parts
    twice = next(name for name, splits in home.items() if len(splits) > 1)
    note(f"dialogue {twice!r} is in several splits, so the name of the split is put in front of all ids")
    renamed = []
    for part, split in zip(parts, own, strict=True):
        names = [f"{split}_{name}" for name in part.dialogue_ids]
        ids = [f"{split}_{name}" for name in part.utterance_ids]
        renamed.append(replace(part, dialogue_ids=names, utterance_ids=ids, splits={str(split): names}))
    return renamed


def _concatenate(parts: list[Annotations]) -> Annotations:
    """Concatenate files with different dialogues. Labels and features that a file lacks are missing for its dialogues."""
    if len(parts) == 1:
        return parts[0]
    sizes = [len(part.utterance_ids) for part in parts]
    features: dict[str, np.ndarray] = {}
    for name in dict.fromkeys(name for part in parts for name in part.features):
        widths = sorted({part.features[name].shape[1] for part in parts if name in part.features})
        if len(widths) > 1:
            raise CorpusError(
                f"annotations: {name} vectors have {widths[0]} numbers in one file and {widths[1]} in another; expected one width"
            )
        rows = [part.features.get(name, np.full((size, widths[0]), np.nan, np.float32)) for part, size in zip(parts, sizes, strict=True)]
        features[name] = np.concatenate(rows)
    sequences: dict[str, Ragged] = {}
    for name in dict.fromkeys(name for part in parts for name in part.sequences):
        items = {part.sequences[name].item for part in parts if name in part.sequences}
        if len(items) > 1:
            raise CorpusError(
                f"annotations: {name} sequences have items of different shapes in the files: {sorted(items)}; expected one shape"
            )
        values = torch.cat([part.sequences[name].values for part in parts if name in part.sequences])
        each = [
            part.sequences[name].lengths if name in part.sequences else torch.zeros(size, dtype=torch.long)
            for part, size in zip(parts, sizes, strict=True)
        ]
        sequences[name] = Ragged(values, torch.cat([torch.zeros(1, dtype=torch.long), *each]).cumsum(0))
    columns: dict[str, list[Any]] = {
        name: [value for part, size in zip(parts, sizes, strict=True) for value in part.columns.get(name, [None] * size)]
        for name in dict.fromkeys(name for part in parts for name in part.columns)
    }
    splits: dict[str, list[str]] = {}
    for part in parts:
        for split, ids in part.splits.items():
            splits.setdefault(split, []).extend(ids)
    texts = any(part.texts for part in parts)
    labels = [part.labels for part in parts]
    return Annotations(
        format=" + ".join(dict.fromkeys(part.format for part in parts)),
        dataset=parts[0].dataset,
        dialogue_ids=[id for part in parts for id in part.dialogue_ids],
        lengths=[length for part in parts for length in part.lengths],
        utterance_ids=[id for part in parts for id in part.utterance_ids],
        speakers=[speaker for part in parts for speaker in part.speakers],
        texts=[text for part, size in zip(parts, sizes, strict=True) for text in (part.texts or [""] * size)] if texts else [],
        columns=columns,
        labels=_union(labels),
        splits=splits,
        features=features,
        sequences=sequences,
        notes=list(dict.fromkeys(note for part in parts for note in part.notes)),
    )


def _union(labels: list[list[str]]) -> list[str]:
    """Return the label names of all files: the longest list if it begins with all other lists, otherwise the sorted names."""
    longest = max(labels, key=len)
    if all(own == longest[: len(own)] for own in labels):
        return longest
    return sorted({name for own in labels for name in own})


def _as_long(first: Annotations, other: Annotations) -> Annotations:
    """Extend annotations of some utterances, such as labels of IEMOCAP, to all utterances of `first`; the added values are `None`."""
    row = {name: number for number, name in enumerate(other.utterance_ids)}
    if first.lengths == other.lengths or not row.keys() < {*first.utterance_ids} or other.features or other.sequences:
        return other
    rows = [row.get(name) for name in first.utterance_ids]
    return replace(
        other,
        dialogue_ids=first.dialogue_ids,
        lengths=first.lengths,
        utterance_ids=first.utterance_ids,
        speakers=first.speakers,
        texts=[],
        columns={name: [None if at is None else values[at] for at in rows] for name, values in other.columns.items()},
    )


def _join(first: Annotations, other: Annotations) -> Annotations:
    """Join files with the same dialogues, utterance by utterance."""
    if set(first.dialogue_ids) != set(other.dialogue_ids):
        shared = [id for id in other.dialogue_ids if id in set(first.dialogue_ids)]
        raise CorpusError(
            f"annotations: duplicate dialogue id {shared[0]!r} ({len(shared)} dialogues are in two files); the files must have different "
            f"dialogues, or the same dialogues with other features"
        )
    new = [name for name in other.features if name not in first.features]
    inner = [name for name in other.sequences if name not in first.sequences]
    columns = [name for name in other.columns if name not in first.columns]
    if not new and not columns and not inner:
        raise CorpusError(
            f"annotations: duplicate dialogue id {other.dialogue_ids[0]!r}: all dialogues are in two files, "
            "and the second adds neither features nor labels"
        )
    other = _as_long(first, other)
    start = dict(zip(other.dialogue_ids, np.cumsum([0, *other.lengths[:-1]]).tolist(), strict=True))
    length = dict(zip(other.dialogue_ids, other.lengths, strict=True))
    rows: list[int] = []
    for id, own in zip(first.dialogue_ids, first.lengths, strict=True):
        if own != length[id]:
            raise CorpusError(f"annotations: dialogue {id!r} has {own} utterances in one file and {length[id]} in another")
        rows.extend(range(start[id], start[id] + own))
    for name in first.columns.keys() & other.columns.keys() - {"score", *TIMES}:
        for row, (mine, theirs) in enumerate(zip(first.columns[name], (other.columns[name][r] for r in rows), strict=True)):
            if mine is not None and theirs is not None and mine != theirs:
                raise CorpusError(
                    f"annotations: utterance {first.utterance_ids[row]!r}: {name} is {mine!r} in one file and {theirs!r} in another"
                )
    skipped = [name for name in [*other.features, *other.sequences] if name not in new + inner]
    notes = [f"{', '.join(skipped)} of the second file are not used, because the first file has them"] if skipped else []
    first_notes = [
        *first.notes,
        f"joined with the {other.format}, which adds {', '.join(new + inner + columns)}",
        *other.notes,
        *notes,
    ]
    return Annotations(
        format=f"{first.format} joined with {other.format}",
        dataset=first.dataset,
        dialogue_ids=first.dialogue_ids,
        lengths=first.lengths,
        utterance_ids=first.utterance_ids,
        speakers=first.speakers,
        texts=first.texts or [other.texts[r] for r in rows if other.texts],
        columns={**first.columns, **{name: [other.columns[name][r] for r in rows] for name in columns}},
        labels=first.labels or other.labels,
        splits=first.splits or other.splits,
        features={**first.features, **{name: other.features[name][rows] for name in new}},
        sequences={**first.sequences, **{name: other.sequences[name].take(rows) for name in inner}},
        notes=list(dict.fromkeys(first_notes)),
    )
