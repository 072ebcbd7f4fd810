"""Building a corpus: annotations are joined with features, sequences, splits and a task, and the new corpus is checked."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from erc_graph.data.annotations import TIMES, Annotations
from erc_graph.data.corpus import Corpus
from erc_graph.data.files.feature_files import join_features, read_features
from erc_graph.data.files.formats.values import spell
from erc_graph.data.files.labels import translate, whole
from erc_graph.data.files.notes import note
from erc_graph.data.files.sequence_files import join_sequences, read_sequences
from erc_graph.data.files.storage import sha256
from erc_graph.data.numbers import LARGEST
from erc_graph.data.printable import count
from erc_graph.data.ragged import Ragged
from erc_graph.data.splits import check_splits, read_splits
from erc_graph.data.statistics import check_statistics
from erc_graph.data.tasks import DEFAULT_TASK, TASKS, Task, apply_task, get_task
from erc_graph.errors import CorpusError

logger = logging.getLogger("erc_graph")


def assemble(
    annotations: Annotations,
    *,
    dataset: str | None = None,
    task: str | Task | None = None,
    labels: Sequence[str] | None = None,
    splits: Path | None = None,
    features: Mapping[str, Path] | None = None,
    sequences: Mapping[str, Path] | None = None,
    extractors: Mapping[str, str] | None = None,
    name: str | None = None,
    strict: bool = False,
    files: Mapping[str, Path] | None = None,
) -> Corpus:
    """Build a corpus from annotations and further arguments. If an argument contradicts the annotations, the argument is used.

    Args:
        annotations: Content of the annotation files.
        dataset: Name of the data set; names that are unknown to erc_graph are also allowed.
        task: Task to predict. Default: a task with the classes `labels`. Without `labels`, the default task of the data set is used. For
            unknown data sets, the classes are the labels in the annotations.
        labels: Label names in index order: the first name has index 0.
        splits: JSON file that lists the dialogue ids of `train`, `dev` and `test`.
        features: Modality → feature file.
        sequences: Modality → file of sequences.
        extractors: Modality → name of the model that extracted its features.
        name: Name of the corpus.
        strict: Raise an error for features with NaN, inf or numbers beyond 1e15 instead of treating them as missing.
        files: Name of a file → its path; the SHA-256 hashes of these files are stored in `provenance` of the corpus.

    Raises:
        CorpusError: the annotations and arguments do not match, or a label is not in the label set.
    """
    _check_structure(annotations)
    if dataset is None or str(annotations.dataset).startswith(f"{dataset}-"):  # a file may know which part of the data set it is
        dataset = annotations.dataset
    name = name or dataset or "corpus"
    notes = [
        f"recognised {annotations.format}: {len(annotations.dialogue_ids)} dialogues, {len(annotations.utterance_ids)} utterances",
        *annotations.notes,
    ]
    own = None if labels else TASKS.get(DEFAULT_TASK.get(dataset or "", ""))
    known = get_task(task) if isinstance(task, str) else task or own
    columns = _columns(annotations, labels or _own_labels(dataset), known)
    chosen = get_task(task) if isinstance(task, str) else task or _choose_task(dataset, labels, annotations, columns, name, notes)
    if columns.keys() <= {*TIMES}:  # nothing is labelled: transcripts to predict on
        said = "no labels: emotions can be predicted, but the predictions cannot be evaluated"
        notes.append(said) if task is not None else note(said)
        columns[chosen.column] = (None,) * len(annotations.utterance_ids)
    _check_labels(chosen, columns, annotations)
    tensors, present = _join(annotations, features or {}, strict, notes)
    inner = _join_sequences(annotations, sequences or {}, strict, notes)
    unknown = sorted(set(extractors or {}) - set(tensors) - set(inner))
    if unknown:
        there = ", ".join(dict.fromkeys([*tensors, *inner])) or "none"
        raise CorpusError(f"extractors.{unknown[0]}: the corpus has no modality of this name; modalities of the corpus: {there}")
    where, divided = (str(splits), read_splits(splits)) if splits else (annotations.format, annotations.splits)
    parts = check_splits(divided, annotations.dialogue_ids, where)
    left_out = len(annotations.dialogue_ids) - sum(map(len, parts.values()))
    if parts and left_out:
        notes.append(f"{left_out} of {len(annotations.dialogue_ids)} dialogues are in no split")
    lengths = torch.tensor(annotations.lengths, dtype=torch.long)
    corpus = Corpus(
        name=name,
        task=chosen,
        dialogue_ids=tuple(annotations.dialogue_ids),
        ptr=torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)]),
        utterance_ids=tuple(annotations.utterance_ids),
        speakers=tuple(annotations.speakers),
        texts=tuple(annotations.texts),
        target=apply_task(chosen, columns, len(annotations.utterance_ids)),
        features={modality: torch.from_numpy(value) for modality, value in tensors.items()},
        present={modality: torch.from_numpy(value) for modality, value in present.items()},
        sequences=inner,
        splits=parts,
        annotations=columns,
        provenance={
            "format": annotations.format,
            "dataset": dataset,
            "files": {label: sha256(file) for label, file in (files or {}).items()},
            "extractors": dict(extractors or {}),
            "notes": notes,
        },
    )
    for line in notes:
        logger.info("%s: %s", name, line)
    differences = check_statistics(corpus)
    if differences:
        rest = len(differences) - 1
        more = f"; and {count(rest, 'more difference')} from the published sizes" if rest else ""
        logger.warning("%s%s", differences[0], more)
    notes.extend(differences)  # the list that stands in the provenance
    return corpus


def _check_structure(annotations: Annotations) -> None:
    """Check that lengths match, ids are unique and no dialogue is empty."""
    where, rows = annotations.format, len(annotations.utterance_ids)
    if not annotations.dialogue_ids:
        raise CorpusError(f"{where}: no dialogue found; expected one or more")
    if len(annotations.lengths) != len(annotations.dialogue_ids) or sum(annotations.lengths) != rows:
        raise CorpusError(
            f"{where}: expected one length per dialogue ({len(annotations.dialogue_ids)}), which sum to the number of utterances ({rows}), "
            f"found {len(annotations.lengths)} lengths with the sum {sum(annotations.lengths)}"
        )
    for dialogue, length in zip(annotations.dialogue_ids, annotations.lengths, strict=True):
        if length < 1:
            raise CorpusError(f"{where}: dialogue {dialogue!r} is empty; expected one utterance or more; remove the dialogue")
    for what, ids in (("dialogue", annotations.dialogue_ids), ("utterance", annotations.utterance_ids)):
        if len(set(ids)) < len(ids):
            twice, times = Counter(ids).most_common(1)[0]
            raise CorpusError(
                f"{where}: duplicate {what} id {twice!r} ({times} times); expected unique ids; rename or remove the duplicates"
            )
    sized: dict[str, Any] = {"speakers": annotations.speakers, **annotations.columns, **annotations.features, **annotations.sequences}
    if annotations.texts:
        sized["texts"] = annotations.texts
    for what, values in sized.items():
        if len(values) != rows:
            raise CorpusError(f"{where}: {what}: expected one value for each of {rows} utterances, found {len(values)} values")


def _own_labels(dataset: str | None) -> tuple[str, ...]:
    return TASKS[DEFAULT_TASK[dataset]].labels if dataset in DEFAULT_TASK else ()


def _columns(annotations: Annotations, names: Sequence[str], task: Task | None) -> dict[str, tuple[Any, ...]]:
    """Return the columns of the annotations: labels become names of the label set, and scores that are NaN become `None`."""
    columns = {column: tuple(values) for column, values in annotations.columns.items()}
    if "label" in columns:
        others = [*task.mapping, *sorted(task.drop), *task.labels] if task is not None and task.column == "label" else []
        columns["label"] = tuple(translate(columns["label"], names, others=others))
    if "sentiment" in columns:
        columns["sentiment"] = tuple(translate(columns["sentiment"], what="sentiments"))
    if "score" in columns:
        columns["score"] = tuple(_score(value, row, annotations) for row, value in enumerate(columns["score"]))
    return {
        column: values
        for column, values in columns.items()
        if len(values) and (column not in TIMES or any(value is not None for value in values))
    }


def _score(value: Any, row: int, annotations: Annotations) -> float | None:
    try:
        number = math.nan if value is None else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.inf
    if abs(number) > LARGEST:
        raise CorpusError(
            f"{annotations.format}: {_place(annotations, row)}: score {spell(value)}; expected a finite number of at most ±{LARGEST:g}"
        )
    return None if math.isnan(number) else number


def _place(annotations: Annotations, row: int) -> str:
    dialogue = int(np.searchsorted(np.cumsum(annotations.lengths), row, side="right"))
    return f"dialogue {annotations.dialogue_ids[dialogue]!r}, utterance {annotations.utterance_ids[row]!r}"


def _choose_task(
    dataset: str | None,
    labels: Sequence[str] | None,
    annotations: Annotations,
    columns: Mapping[str, tuple[Any, ...]],
    name: str,
    notes: list[str],
) -> Task:
    """Choose a task if no task is given: from the argument `labels`, from the data set, or from the labels in the annotations."""
    if labels:
        return Task(name=name, labels=tuple(labels))
    default = TASKS[DEFAULT_TASK[dataset]] if dataset in DEFAULT_TASK else None
    if default is not None and (default.column in columns or columns.keys() <= {*TIMES}):
        return default
    for column in ("label",) if "score" in columns else ("label", "sentiment"):
        found = sorted({str(value) for value in columns.get(column, ()) if value is not None}, key=lambda name: (whole(name) or 0, name))
        if found:
            own = tuple(annotations.labels) if column == "label" and annotations.labels else tuple(found)
            notes.append(f"the classes of the task are the {column} names of the file, in this order: {', '.join(own)}")
            return Task(name=name, labels=own, column=column)
    if "score" in columns:
        notes.append("the task predicts the scores of the file")
        return TASKS["sentiment"]
    return default or Task(name=name)


def _check_labels(task: Task, columns: Mapping[str, tuple[Any, ...]], annotations: Annotations) -> None:
    """Check that every label belongs to the task. The error message names the utterance of the first wrong label."""
    if task.kind == "score" or task.column not in columns:
        return
    values = columns[task.column]
    allowed = {None, *task.drop, *task.labels, *task.mapping}
    outside = [row for row, value in enumerate(values) if value not in allowed]
    if outside:
        row = outside[0]
        indices = all(whole(values[one]) is not None for one in outside)
        way = "set `dataset` in corpus.toml, or `labels` in the order of these numbers" if indices else "set `labels` in corpus.toml"
        raise CorpusError(
            f"{_place(annotations, row)}: label {values[row]!r} is not in the label set of task {task.name} ({', '.join(task.labels)}); "
            f"labels outside the set: {len(outside)}; choose another task, or {way}"
        )


def _join(
    annotations: Annotations, files: Mapping[str, Path], strict: bool, notes: list[str]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return features and a mask of utterances with features, per modality. Feature files take precedence over the annotation file."""
    features, present = {}, {}
    for modality in [*files, *(name for name in annotations.features if name not in files)]:
        if modality in files:
            where = f"features.{modality} ({files[modality].name})"
            ids, array = read_features(files[modality])
        else:
            where, ids, array = f"features.{modality} (annotation file)", annotations.utterance_ids, annotations.features[modality]
        features[modality], present[modality], report = join_features(ids, array, annotations.utterance_ids, where=where, strict=strict)
        notes.extend(report)
    return features, present


def _join_sequences(annotations: Annotations, files: Mapping[str, Path], strict: bool, notes: list[str]) -> dict[str, Ragged]:
    """Return sequences per modality. Sequence files take precedence over the annotation file."""
    found = {}
    for modality in [*files, *(name for name in annotations.sequences if name not in files)]:
        if modality in files:
            where = f"sequences.{modality} ({files[modality].name})"
            ids, sequences = read_sequences(files[modality], strict=strict, notes=notes, sound=modality.startswith("audio"))
        else:
            where, ids, sequences = f"sequences.{modality} (annotation file)", annotations.utterance_ids, annotations.sequences[modality]
        found[modality], report = join_sequences(ids, sequences, annotations.utterance_ids, where=where, strict=strict)
        notes.extend(report)
    return found
