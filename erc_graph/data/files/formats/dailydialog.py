"""Reader of DailyDialog (Li et al., 2017): the official text files, and the rows of the copy on Hugging Face."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from erc_graph.data.annotations import Annotations
from erc_graph.data.files.budget import content_of
from erc_graph.data.files.encoding import decode
from erc_graph.data.files.labels import whole
from erc_graph.data.files.media import split_of_name
from erc_graph.data.files.notes import note
from erc_graph.data.files.storage import stay_inside
from erc_graph.data.files.utterance_tables import Table
from erc_graph.data.tasks import TASKS
from erc_graph.errors import CorpusError

END = "__eou__"  # end of utterance
NAMES = TASKS["dailydialog7"].labels  # in the order of the data set's numbers


def read_dailydialog(content: Any, path: Path, size: int, dataset: str | None = None) -> Annotations | None:
    """Read DailyDialog: `dialogues_….txt` with `dialogues_emotion….txt` in the same folder, or rows with `dialog` and `emotion`.

    In the text files, `__eou__` ends an utterance. The two speakers alternate. A dialogue with different numbers of labels and utterances
    is unlabelled.

    Raises:
        CorpusError: a label is not a number from 0 to 6, or the rows have another form.
    """
    if isinstance(content, str):
        return _of_text(content, path, dataset) if END in content else None
    rows = content.rows if isinstance(content, Table) else content if isinstance(content, list) else [content]
    names = [("dialog", "emotion"), ("utterances", "emotions"), ("dialogue", "emotion")]
    for said, felt in names:
        if rows and all(isinstance(row, dict) and isinstance(row.get(said), list) and isinstance(row.get(felt), list) for row in rows):
            dialogues = [(row[said], row[felt]) for row in rows]
            if all(isinstance(text, str) for texts, _ in dialogues for text in texts):
                return _annotations(dialogues, path, "DailyDialog's rows", dataset)
    return None


def _of_text(content: str, path: Path, dataset: str | None) -> Annotations:
    lines = [line for line in content.splitlines() if line.strip()]
    texts = [[part.strip() for part in line.split(END) if part.strip()] for line in lines]
    named = path.name.replace("_text", "").replace("dialogues", "dialogues_emotion", 1)
    beside = path.with_name(named)
    labels: list[list[str]] = []
    if named != path.name and beside.is_file():
        labels = [line.split() for line in decode(content_of(stay_inside(beside)), beside).splitlines() if line.strip()]
        if len(labels) != len(texts):
            raise CorpusError(
                f"{beside}: {len(labels)} lines of labels for {len(texts)} dialogues in {path.name}; expected one line per dialogue"
            )
    else:
        lacking = named if named != path.name else "dialogues_emotion….txt"
        note(f"{path.name}: no {lacking} in the same folder, so there are no labels")
    return _annotations(list(zip(texts, labels or [[]] * len(texts), strict=True)), path, "DailyDialog's text files", dataset)


def _annotations(dialogues: list[tuple[list[str], list[Any]]], path: Path, form: str, dataset: str | None) -> Annotations:
    split = split_of_name(path)
    odd, names, lengths, texts = [], [], [], []
    found: list[str | None] = []
    labelled = any(labels for _, labels in dialogues)
    for number, (said, labels) in enumerate(dialogues):
        if not said:
            continue
        names.append(f"{split or 'dialogue'}_{number}")
        lengths.append(len(said))
        texts += said
        if len(labels) != len(said):
            odd += [number + 1] if labelled else []
            found += [None] * len(said)
            continue
        for turn, value in enumerate(labels):
            index = whole(value)
            if index is None or not -1 <= index < len(NAMES):
                raise CorpusError(
                    f"{path}: dialogue {number + 1}, utterance {turn}: emotion {str(value)[:40]!r} is not a number from 0 to 6"
                )
            found.append(None if index < 0 else NAMES[index])
    if odd:
        note(
            f"{path.name}: {len(odd)} dialogues have a different number of labels and utterances, and get no labels (first: line {odd[0]})"
        )
    note(f"{path.name}: speakers are not named; two alternating speakers are assumed")
    return Annotations(
        format=form,
        dataset=dataset or "dailydialog",
        dialogue_ids=names,
        lengths=lengths,
        utterance_ids=[f"{name}_{turn}" for name, length in zip(names, lengths, strict=True) for turn in range(length)],
        speakers=["AB"[turn % 2] for length in lengths for turn in range(length)],
        texts=texts,
        columns={"label": found} if labelled else {},
        splits={split: names} if split else {},
    )
