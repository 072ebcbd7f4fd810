"""Readers of further files of video clips: `label.csv` of MMSA, vectors per word of MAG, and arrays without ids of MulT."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from erc_graph.data.annotations import Annotations
from erc_graph.data.files.formats.arrays import DATASETS, MODALITIES, by_video, clip_of, read_arrays
from erc_graph.data.files.formats.values import scalar, spell
from erc_graph.data.files.notes import note
from erc_graph.data.files.utterance_tables import Table, assemble_rows, cell
from erc_graph.data.files.vocabulary import SPLIT_NAMES
from erc_graph.data.ragged import Ragged
from erc_graph.errors import CorpusError

EMOTIONS = ("neutral", "happy", "sad", "angry")  # of MulT's IEMOCAP, in the order of its labels


def read_label_table(content: Any, path: Path, size: int, dataset: str | None = None) -> Annotations | None:
    """Read `label.csv` of MMSA; return `None` if the content has another form.

    The columns are `video_id`, `clip_id`, `text`, `label` (a score), `annotation` and `mode` (the split).

    Raises:
        CorpusError: a clip number, score or split is invalid, or a clip occurs twice.
    """
    if not isinstance(content, Table) or not {"video_id", "clip_id", "text", "label", "mode"} <= {*content.columns}:
        return None
    rows = []
    for row in content.rows:
        video, clip = (cell(row[name]).strip() for name in ("video_id", "clip_id"))
        rows.append(
            {
                "dialogue": video, "turn": clip, "utterance": f"{video}_{clip}", "speaker": "speaker", "text": cell(row["text"]),
                "score": cell(row["label"]), "sentiment": cell(row.get("annotation")).strip().lower(), "split": cell(row["mode"]),
            }
        )  # fmt: skip
    splits: dict[str, set[str]] = {}
    for row in rows:
        splits.setdefault(row["dialogue"], set()).add(row["split"])
    if several := {name for name, own in splits.items() if len(own) > 1}:
        note(f"{path.name}: {len(several)} videos are in several splits; the clips of a video in each split form a separate conversation")
        rows = [{**row, "dialogue": f"{row['dialogue']}:{row['split']}"} if row["dialogue"] in several else row for row in rows]
    note(f"{path.name}: one speaker per video is assumed")
    return assemble_rows(rows, path, content.places, "MMSA's label.csv", dataset or DATASETS.get(len(rows)))


@dataclass
class _Words:
    """The clips of one split, as input of `by_video`."""

    split: str
    clips: list[tuple[str, str]] = field(default_factory=list)
    columns: dict[str, list[Any]] = field(default_factory=lambda: {"score": [], "text": []})
    arrays: dict[str, Ragged | NDArray[np.float32]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def shape(self, name: str) -> str:
        """Return the shape of one word, frame or vector of a modality, for a message."""
        value = self.arrays.get(name)
        return f"{self.split}: {tuple(value.values.shape[1:]) if isinstance(value, Ragged) else 'nothing'}"


def read_words(content: Any, path: Path, size: int, dataset: str | None = None) -> Annotations | None:
    """Read a pickle of MAG as sequences of one vector per word; return `None` if the content has another form.

    The pickle is a dictionary: split → list of `((words, visual, acoustic), score, "video[clip]")`.

    Raises:
        CorpusError: a clip does not have this form, or clips differ in the number of values per word.
    """
    if not isinstance(content, dict) or not content or not all(name in SPLIT_NAMES for name in content):
        return None
    if not all(isinstance(clips, list) and all(isinstance(clip, tuple) and len(clip) == 3 for clip in clips) for clips in content.values()):
        return None
    parts = []
    for name, clips in content.items():
        part = _Words(SPLIT_NAMES[name])
        frames: dict[str, list[torch.Tensor]] = {"visual": [], "audio": []}
        for number, (given, label, segment) in enumerate(clips):
            where = f"{path}: {name}, clip {number}"
            words, *arrays = given if isinstance(given, tuple) and len(given) == 3 else (None,)
            score = scalar(label)
            if not isinstance(words, list) or not all(isinstance(word, str) for word in words) or not isinstance(score, int | float):
                raise CorpusError(
                    f"{where}: expected the tuple ((words, visual, acoustic), score, id), found {spell(given)} and the score {spell(label)}"
                )
            for modality, array in zip(frames, arrays, strict=True):
                if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype.kind not in "fiu":
                    raise CorpusError(f"{where}: {modality}: expected an array of shape (words, width), found {spell(array)}")
                with np.errstate(over="ignore"):
                    frames[modality].append(torch.from_numpy(array.astype(np.float32)))
                if array.shape[1] != frames[modality][0].shape[1]:
                    raise CorpusError(
                        f"{where}: {modality}: {array.shape[1]} numbers per word, but other clips have {frames[modality][0].shape[1]}"
                    )
            part.clips.append(clip_of(segment, where))
            part.columns["score"].append(float(score))
            part.columns["text"].append(" ".join(words))
        part.arrays = {modality: Ragged.of(rows) for modality, rows in frames.items() if rows}
        parts.append(part)
    annotations = by_video(path, parts, dataset)
    annotations.format = "splits of words with their frames (MAG)"
    return annotations


def read_without_ids(content: Any, path: Path, size: int, dataset: str | None = None) -> Annotations | None:
    """Read `iemocap_data.pkl` of MulT: split → `text`, `audio`, `vision`, `labels`. Every utterance is a separate conversation.

    Labels of shape (clips, 4, 2) tell for each of four emotions whether this emotion is present. An utterance gets a label only if exactly
    one emotion is present.

    Raises:
        CorpusError: arrays differ in length or shape, or contain other values than numbers.
    """
    if not isinstance(content, dict) or not content or not all(name in SPLIT_NAMES for name in content):
        return None
    if not all(
        isinstance(fields, dict) and "id" not in fields and "labels" in fields and {*MODALITIES} & fields.keys()
        for fields in content.values()
    ):
        return None
    named: dict[str, dict[str, Any]] = {}
    emotions: list[str | None] = []
    for name, fields in content.items():
        labels = fields["labels"]
        if not isinstance(labels, np.ndarray) or not labels.ndim or labels.dtype.kind not in "fiub":
            raise CorpusError(f"{path}: {name}: labels: expected an array of numbers, found {spell(labels)}")
        named[name] = {**fields, "id": [f"{SPLIT_NAMES[name]}{number}$_$0" for number in range(len(labels))]}
        if labels.shape[1:] == (4, 2):
            yes = labels.argmax(-1)
            emotions += [EMOTIONS[row.argmax()] if row.sum() == 1 else None for row in yes]
            del named[name]["labels"]
    annotations = read_arrays(named, path, size, dataset)
    if annotations is None:
        return None
    annotations.format = "splits of padded sequences without ids (MulT)"
    note(f"{path.name}: the file has no ids, so its conversations are unknown; every utterance is a separate conversation")
    if len(emotions) == len(annotations.utterance_ids):
        annotations.columns["label"] = emotions
        annotations.dataset = dataset or "iemocap4"
        if absent := emotions.count(None):
            note(f"{path.name}: {absent} utterances have none or several of the four emotions, and get no label")
    return annotations
