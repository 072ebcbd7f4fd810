"""Prediction tasks: label sets, and the mapping from the labels of a file to the labels of a task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from erc_graph.errors import ConfigError, CorpusError


@dataclass(frozen=True, kw_only=True)
class Task:
    """A prediction task: classification with a set of labels, or regression of a score.

    Attributes:
        name: Name of the task, such as `iemocap6`.
        labels: Label names in the order of their indices; empty for a score task.
        kind: `classification` or `score` (a number, such as the sentiment of MOSI in [-3, 3]).
        column: Annotation from which the targets are computed: `label`, `sentiment` or `score`.
        mapping: Label name in the file → label name of the task; names that are not listed stay unchanged.
        drop: Label names in the file that the task does not use. Utterances with these labels stay in the dialogue, but have no target.
    """

    name: str
    labels: tuple[str, ...] = ()
    kind: Literal["classification", "score"] = "classification"
    column: str = "label"
    mapping: Mapping[str, str] = field(default_factory=dict)
    drop: frozenset[str] = frozenset()


IEMOCAP6 = ("happy", "sad", "neutral", "angry", "excited", "frustrated")
EKMAN7 = ("anger", "disgust", "fear", "joy", "neutral", "sadness", "surprise")
MELD7 = ("neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger")

_RARE = frozenset({"surprised", "fearful", "disgusted", "other"})  # in IEMOCAP's own release, in no task of the field

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task(name="iemocap6", labels=IEMOCAP6, drop=_RARE),
        # happy and excited merged, frustrated left out: 5531 utterances of the four-way file, 5584 of the six-way one.
        Task(
            name="iemocap4",
            labels=("happy", "sad", "neutral", "angry"),
            mapping={"excited": "happy"},
            drop=_RARE | {"frustrated"},
        ),
        # COGMEN and CORECT: excited and frustrated left out, 4543 utterances.
        Task(name="iemocap4-noexc", labels=("happy", "sad", "neutral", "angry"), drop=_RARE | {"excited", "frustrated"}),
        # CFN-ESA: two pairs merged, nothing left out, 7433 utterances.
        Task(
            name="iemocap4-merged",
            labels=("happy", "sad", "neutral", "angry"),
            mapping={"excited": "happy", "frustrated": "sad"},
            drop=_RARE,
        ),
        Task(name="meld7", labels=MELD7),
        Task(name="meld3", labels=("neutral", "positive", "negative"), column="sentiment"),
        Task(name="mosi2", labels=("negative", "positive")),
        Task(name="sentiment", kind="score", column="score"),
        Task(name="emorynlp7", labels=("Joyful", "Mad", "Peaceful", "Neutral", "Sad", "Powerful", "Scared")),
        Task(name="dailydialog7", labels=("neutral", "anger", "disgust", "fear", "happiness", "sadness", "surprise")),
        # Six emotions of Ekman and neutral under one name each; what has no place among them is left out.
        Task(
            name="ekman7",
            labels=EKMAN7,
            mapping={
                "Joyful": "joy",
                "Mad": "anger",
                "Neutral": "neutral",
                "Sad": "sadness",
                "Scared": "fear",  # EmoryNLP
                "happy": "joy",
                "excited": "joy",
                "sad": "sadness",
                "angry": "anger",  # IEMOCAP
                "surprised": "surprise",
                "fearful": "fear",
                "disgusted": "disgust",
                "happiness": "joy",  # DailyDialog
            },
            drop=frozenset({"Peaceful", "Powerful", "frustrated", "other"}),
        ),
        Task(name="sample6", labels=("joy", "sadness", "anger", "fear", "surprise", "neutral")),
    )
}

# Data set → the task it has when nobody says otherwise.
DEFAULT_TASK = {
    "iemocap": "iemocap6", "iemocap6": "iemocap6", "iemocap4": "iemocap4", "meld": "meld7", "meld-dyadic": "meld7",
    "mosi": "mosi2", "mosei": "sentiment",
    "emorynlp": "emorynlp7", "emotionlines": "meld7", "dailydialog": "dailydialog7", "sample": "sample6", "sample-raw": "sample6",
}  # fmt: skip


def get_task(name: str) -> Task:
    """Return the task with the given name.

    Raises:
        ConfigError: the name is unknown. The message lists the known names.
    """
    if name not in TASKS:
        raise ConfigError(f"task: unknown {name!r}; known tasks: {', '.join(sorted(TASKS))}")
    return TASKS[name]


def apply_task(task: Task, annotations: Mapping[str, tuple[Any, ...]], utterances: int) -> Tensor:
    """Compute the targets of `task` from the annotations of the files.

    Returns:
        One target per utterance, `(utterances,)`: int64 label index, -1 if unlabelled; for a score task, float32 score, NaN if unlabelled.

    Raises:
        CorpusError: the files lack the annotation that the task needs, or a label is not in the label set of the task.
    """
    if task.column not in annotations:
        known = ", ".join(annotations) or "none"
        raise CorpusError(f"task {task.name}: needs the annotation {task.column!r}; annotations of the corpus: {known}")
    values = annotations[task.column]
    if task.kind == "score":
        return torch.tensor([float("nan") if value is None else float(value) for value in values], dtype=torch.float32)
    index = {name: i for i, name in enumerate(task.labels)}
    target = torch.full((utterances,), -1, dtype=torch.long)
    for row, value in enumerate(values):
        if value is None or value in task.drop:
            continue
        name = task.mapping.get(value, value)
        if name not in index:
            raise CorpusError(
                f"task {task.name}: label {value!r} of utterance {row} is not in the label set {', '.join(task.labels)}; "
                "choose another task, or list the names of all labels as `labels` in corpus.toml"
            )
        target[row] = index[name]
    return target
