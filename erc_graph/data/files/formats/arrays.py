"""Reader of files with one padded array per modality and split: MMSA (CMU-MOSI, CMU-MOSEI, CH-SIMS) and MultiBench (MulT)."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from erc_graph.data.annotations import Annotations
from erc_graph.data.files.formats.values import spell
from erc_graph.data.files.vocabulary import SPLIT_NAMES
from erc_graph.data.ragged import Ragged
from erc_graph.errors import CorpusError

MODALITIES = {"text": "text", "audio": "audio", "vision": "visual"}
DATASETS = {2199: "mosi", 22856: "mosei"}  # by number of clips
_ID = re.compile(r"(.+)(?:\$_\$|\[)([^\[\]]+)\]?", re.DOTALL)  # `video$_$clip` in MMSA, `video[clip]` in MultiBench


def read_arrays(content: Any, path: Path, size: int, dataset: str | None = None) -> Annotations | None:
    """Read a dictionary that maps splits to arrays with one value or vector per clip; return `None` if the content has another form.

    The names of the arrays are `id`, `text`, `audio`, `vision`, `regression_labels` and `raw_text`.

    The clips of a video, in the order of their numbers, form a conversation with one speaker. The arrays `text_bert` (words),
    `audio_lengths` and `vision_lengths` (frames) show which words and frames are padding. Without these arrays, zeros at the beginning and
    end count as padding. A modality that contains only zeros is missing for the clip. A two-dimensional array has one vector per clip.

    Raises:
        CorpusError: arrays differ in length or shape, an array contains other values than numbers, or an id has an unknown form.
    """
    if not isinstance(content, dict) or not content or not all(name in SPLIT_NAMES for name in content):
        return None
    if not all(isinstance(fields, dict) and "id" in fields and not fields.keys().isdisjoint(MODALITIES) for fields in content.values()):
        return None
    parts = [_Part(path, name, fields) for name, fields in content.items()]
    return by_video(path, parts, dataset)


class Clips(Protocol):
    """The clips of one split, as input of the function `by_video`.

    Attributes:
        split: Name of the split.
        clips: Video and number of every clip.
        columns: `score`, `sentiment` and `text`, each with one value per clip.
        arrays: Modality → sequences without padding, or one vector per clip.
        notes: Notes for the user.
    """

    split: str
    clips: list[tuple[str, str]]
    columns: dict[str, list[Any]]
    arrays: dict[str, Ragged | NDArray[np.float32]]
    notes: list[str]

    def shape(self, name: str) -> str:
        """Return the shape of one word, frame or vector of a modality, for a message."""
        ...


def by_video(path: Path, parts: Sequence[Clips], dataset: str | None) -> Annotations:
    """Build annotations: the clips of a video, in the order of their numbers, form a conversation with one speaker.

    Raises:
        CorpusError: the file has no clips, or the shape of a modality differs between splits.
    """
    parts = [part for part in parts if part.clips]
    if not parts:
        raise CorpusError(f"{path}: no clips in any split; expected one clip or more")
    clips = [clip for part in parts for clip in part.clips]
    splits = [part.split for part in parts for _ in part.clips]
    several = {video: set[str]() for video, _ in clips}
    for (video, _), split in zip(clips, splits, strict=True):
        several[video].add(split)
    names = [video if len(several[video]) == 1 else f"{video}:{split}" for (video, _), split in zip(clips, splits, strict=True)]
    dialogues = list(dict.fromkeys(names))
    place = {name: i for i, name in enumerate(dialogues)}
    order = sorted(range(len(clips)), key=lambda row: (place[names[row]], *_number(clips[row][1])))
    split_of = dict(zip(names, splits, strict=True))
    lengths = np.bincount([place[name] for name in names])
    notes = [note for part in parts for note in part.notes]
    if divided := sum(len(found) > 1 for found in several.values()):
        notes.append(
            f"{divided} of {len(several)} videos are in several splits; the clips of a video in each split form a separate conversation"
        )

    def column(name: str, empty: Any) -> list[Any]:
        values = [value for part in parts for value in part.columns.get(name, [empty] * len(part.clips))]
        return [values[row] for row in order]

    columns = {name: column(name, None) for name in ("label", "score", "sentiment") if any(name in part.columns for part in parts)}
    sequences, features = _stacked(path, parts)
    return Annotations(
        format=f"splits of {'padded sequences' if sequences else 'vectors'} (MMSA, MultiBench)",
        dataset=dataset or DATASETS.get(len(clips)),
        dialogue_ids=dialogues,
        lengths=lengths.tolist(),
        utterance_ids=[f"{clips[row][0]}_{clips[row][1]}" for row in order],
        speakers=["speaker"] * len(clips),
        texts=column("text", "") if any("text" in part.columns for part in parts) else [],
        columns=columns,
        splits={split: [name for name in dialogues if split_of[name] == split] for split in dict.fromkeys(splits)},
        features={name: values[order] for name, values in features.items()},
        sequences={name: values.take(order) for name, values in sequences.items()},
        notes=notes,
    )


def clip_of(value: Any, where: str) -> tuple[str, str]:
    """Return the video and the clip in an id: the id is `video$_$clip`, `video[clip]`, or a sequence (video, start, end).

    Raises:
        CorpusError: the id has another form.
    """
    if isinstance(value, np.ndarray | list | tuple) and len(value) > 1:
        return _text(value[0]), _text(value[1])
    value = value[0] if isinstance(value, np.ndarray | list | tuple) and len(value) else value
    found = _ID.fullmatch(_text(value)) if isinstance(value, str | bytes | np.generic) else None
    if found is None:
        raise CorpusError(f"{where}: clip id {spell(value)}; expected the form `video$_$clip` or `video[clip]`")
    return found[1], found[2]


def _number(clip: str) -> tuple[float, str]:
    """Return a key that sorts the clips of a video by their numbers."""
    try:
        number = float(clip)
    except ValueError:
        number = math.inf
    return (math.inf if math.isnan(number) else number), clip


def _stacked(path: Path, parts: Sequence[Clips]) -> tuple[dict[str, Ragged], dict[str, NDArray[np.float32]]]:
    """Concatenate the sequences and vectors of all splits."""
    sequences, features = {}, {}
    for name in MODALITIES.values():
        found = [part.arrays[name] for part in parts if name in part.arrays]
        shapes = {(type(value), value.values.shape[1:] if isinstance(value, Ragged) else value.shape[1:]) for value in found}
        if found and (len(found) < len(parts) or len(shapes) > 1):
            raise CorpusError(
                f"{path}: {name}: expected arrays of one shape in every split, found {'; '.join(p.shape(name) for p in parts)}"
            )
        if found and isinstance(found[0], Ragged):
            lengths = torch.cat([value.lengths for value in found if isinstance(value, Ragged)])
            values = torch.cat([value.values for value in found if isinstance(value, Ragged)])
            sequences[name] = Ragged(values, torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]))
        elif found:
            features[name] = np.concatenate([value for value in found if isinstance(value, np.ndarray)])
    return sequences, features


class _Part:
    """The clips of one split, built from the arrays of the file.

    Attributes:
        clips: Video and number of every clip.
        columns: `score`, `sentiment` and `text`, each with one value per clip.
        arrays: Modality → sequences without padding, or one vector per clip.
        notes: Notes for the user.
    """

    def __init__(self, path: Path, name: str, fields: dict[Any, Any]) -> None:
        self.where, self.split, self.fields = f"{path}: {name}", SPLIT_NAMES[name], fields
        self.notes: list[str] = []
        if not isinstance(fields["id"], list | tuple | np.ndarray) or (isinstance(fields["id"], np.ndarray) and not fields["id"].ndim):
            raise CorpusError(f"{self.where}: id: expected one id per clip, found {spell(fields['id'])}")
        self.clips = [clip_of(value, self.where) for value in fields["id"]]
        self.columns: dict[str, list[Any]] = {}
        self.arrays: dict[str, Ragged | NDArray[np.float32]] = {}
        if not self.clips:
            return
        labels = next((key for key in ("regression_labels", "labels") if key in fields), None)
        if labels:
            self.columns["score"] = self.numbers(labels, (len(self.clips),), flat=True).tolist()
        if "annotations" in fields:
            self.columns["sentiment"] = [str(value).strip().lower() or None for value in self.rows("annotations")]
        if "raw_text" in fields:
            self.columns["text"] = [_text(value) for value in self.rows("raw_text")]
        for key, name in MODALITIES.items():
            if key in fields:
                self.arrays[name] = self.modality(key, name)
                del fields[key]  # one padded array at a time: such files have gigabytes

    def shape(self, name: str) -> str:
        """Return the shape of one word, frame or vector of a modality, for a message."""
        value = self.arrays.get(name)
        return f"{self.split}: " + (
            "nothing" if value is None else str(tuple((value.values if isinstance(value, Ragged) else value).shape[1:]))
        )

    def rows(self, key: str) -> Any:
        """Return the array with the name `key`, after a check that it has one value per clip."""
        values = self.fields[key]
        if (
            not isinstance(values, list | tuple | np.ndarray)
            or (isinstance(values, np.ndarray) and not values.ndim)
            or len(values) != len(self.clips)
        ):
            raise CorpusError(f"{self.where}: {key}: expected {len(self.clips)} values, one per clip id, found {spell(values)}")
        return values

    def numbers(self, key: str, shape: tuple[int, ...] | None = None, *, flat: bool = False) -> NDArray[Any]:
        """Return the array with the name `key`, after a check that it contains numbers and has the given `shape`."""
        given = self.rows(key)
        try:
            values = np.asarray(given)
        except ValueError:  # rows of different lengths
            values = np.empty(0, object)
        if values.dtype.kind not in "fiub":
            raise CorpusError(f"{self.where}: {key}: expected an array of numbers, found {spell(given)} of {values.dtype}")
        values = values.reshape(len(values), -1)[:, 0] if flat and values.size == len(values) else values
        if shape is not None and values.shape != shape:
            raise CorpusError(f"{self.where}: {key}: expected the shape {shape}, found {values.shape}")
        return values

    def modality(self, key: str, name: str) -> Ragged | NDArray[np.float32]:
        """Return a modality: one sequence `(length, numbers)` without padding per clip, or an array of vectors `(clips, numbers)`."""
        values = self.numbers(key)
        with np.errstate(over="ignore"):  # a number beyond float32 becomes inf, and is left out as such
            values = values.astype(np.float32, copy=False)
        if values.ndim == 2:
            return values
        if values.ndim != 3 or not values.shape[2]:
            raise CorpusError(f"{self.where}: {key}: expected the shape (clips, length, width), found {values.shape}")
        real = self.real(key, values)
        if nothing := int((~real.any(1)).sum()):
            self.notes.append(f"{self.split}: {nothing} of {len(real)} clips have no {name} (only padding or zeros)")
        ptr = np.concatenate([[0], real.sum(1).cumsum()])
        return Ragged(torch.from_numpy(values[real]), torch.from_numpy(ptr))

    def real(self, key: str, values: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Return a mask of the words or frames, `(clips, length)`, that is False for padding."""
        place = np.arange(values.shape[1])
        told: NDArray[np.bool_] = np.asarray(np.any(values, axis=2))
        some = told.any(1, keepdims=True)
        if key == "text" and "text_bert" in self.fields:
            mask = self.numbers("text_bert")
            if mask.ndim != 3 or mask.shape[1] != 3 or mask.shape[2] != values.shape[1]:
                raise CorpusError(
                    f"{self.where}: text_bert: expected the shape ({len(values)}, 3, {values.shape[1]}), "
                    f"whose last number is the length of `text`, found {mask.shape}"
                )
            return np.asarray(mask[:, 1] > 0) & some
        if f"{key}_lengths" in self.fields:
            lengths = self.numbers(f"{key}_lengths", (len(values),), flat=True)
            if (lengths < 0).any() or (lengths > values.shape[1]).any():
                at = int(np.flatnonzero((lengths < 0) | (lengths > values.shape[1]))[0])
                raise CorpusError(
                    f"{self.where}: {key}_lengths: clip {'$_$'.join(self.clips[at])} has the length {lengths[at]}; "
                    f"expected a length from 0 to {values.shape[1]}"
                )
            return (place < lengths[:, None]) & some
        after = values.shape[1] - told[:, ::-1].argmax(1)
        return (place >= told.argmax(1)[:, None]) & (place < after[:, None]) & some


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
