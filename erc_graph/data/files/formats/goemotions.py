"""Reader of GoEmotions (Demszky et al., ACL 2020): single comments with one or several emotions, in tab-separated files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from erc_graph.data.annotations import Annotations
from erc_graph.data.files.budget import content_of
from erc_graph.data.files.encoding import decode
from erc_graph.data.files.media import split_of_name
from erc_graph.data.files.notes import note
from erc_graph.data.files.storage import stay_inside
from erc_graph.errors import CorpusError

NAMES = ("emotions.txt", "ekman_labels.txt", "labels.txt")  # a label per line; the first of them that is there
LINE = re.compile(r"([^\t]*)\t(\d{1,3}(?:,\d{1,3})*)\t([a-z0-9]{5,10})")
SPEAKER = "writer"


def read_goemotions(content: Any, path: Path, size: int, dataset: str | None = None) -> Annotations | None:
    """Read GoEmotions: `train.tsv`, `dev.tsv` or `test.tsv`, with the label names in a file of the same folder.

    Every comment is a conversation of one utterance. A comment with several emotions gets no label, because an utterance has at most one
    label.

    Raises:
        CorpusError: a line does not have three columns, or a label number has no name.
    """
    if not isinstance(content, str):
        return None
    lines = [(number, line) for number, line in enumerate(content.split("\n"), start=1) if line.strip()]
    found = [LINE.fullmatch(line.rstrip("\r")) for _, line in lines]
    if not lines or not all(found[:20]):
        return None
    if None in found:
        number = lines[found.index(None)][0]
        raise CorpusError(f"{path}: line {number}: expected text, numbers of emotions and an id, separated by tabs")
    parts = [match.groups() for match in found if match]
    names = _names(path)
    labels: list[str | None] = []
    for (number, _), (_, numbers, _) in zip(lines, parts, strict=True):
        several = numbers.split(",")
        if names and int(max(several, key=int)) >= len(names):
            raise CorpusError(
                f"{path}: line {number}: emotion number {max(several, key=int)}, but the file of names has only {len(names)} names"
            )
        labels.append(names[int(several[0])] if names and len(several) == 1 else None)
    if names and (many := labels.count(None)):
        note(f"{path.name}: {many} of {len(labels)} comments have several emotions, and get no label")
    split, ids = split_of_name(path), [name for _, _, name in parts]
    if again := len(ids) - len(set(ids)):
        raise CorpusError(f"{path}: {again} ids occur twice; expected every comment once")
    return Annotations(
        format="GoEmotions' comments",
        dataset=dataset,
        dialogue_ids=ids,
        lengths=[1] * len(ids),
        utterance_ids=[f"{name}_0" for name in ids],
        speakers=[SPEAKER] * len(ids),
        texts=[text for text, _, _ in parts],
        columns={"label": labels} if names else {},
        labels=list(names),
        splits={split: ids} if split else {},
    )


def _names(path: Path) -> tuple[str, ...]:
    for name in NAMES:
        if (beside := path.with_name(name)).is_file():
            return tuple(line.strip() for line in decode(content_of(stay_inside(beside)), beside).splitlines() if line.strip())
    note(f"{path.name}: no {' or '.join(NAMES)} in the same folder, so there are no labels")
    return ()
