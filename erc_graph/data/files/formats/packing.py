"""Conversion of the fields of a file to rows. Each field (such as labels) is a dict: dialogue → list with one value per utterance.

This module checks that the fields agree in dialogues, numbers of utterances, features per vector, labels, ids and splits.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from erc_graph.data.annotations import Annotations
from erc_graph.data.files.formats.datasets import INDEX_NAMES, MELD_SENTIMENT, SESSION, recognise
from erc_graph.data.files.formats.fields import Fields
from erc_graph.data.files.formats.values import Odd, scalar, speaker_number, spell, vector
from erc_graph.data.files.notes import note
from erc_graph.data.tasks import DEFAULT_TASK, TASKS
from erc_graph.errors import CorpusError

# Windows' curly quotes and dashes that were read as Latin-1 stand where Latin-1 has control characters.
_CP1252 = {code: char for code in range(0x80, 0xA0) if (char := bytes([code]).decode("cp1252", errors="ignore"))}


def pack(fields: Fields) -> Annotations:
    """Check `fields`, and convert them to one row per utterance, one dialogue after another.

    Raises:
        CorpusError: labels, speakers or other fields differ in dialogues or lengths, vectors of a modality differ in length, or labels are
            not in the label set. It is also raised if ids are not unique, dialogues are empty, splits overlap, or a split names an unknown
            dialogue.
    """
    packer = _Packer(fields)
    return packer.annotations()


class _Packer:
    """Values that all checks use: the contents of the file, its dialogues, and their names and lengths."""

    def __init__(self, fields: Fields) -> None:
        self.fields, self.path = fields, fields.path
        self.notes: list[str] = []
        if not isinstance(fields.labels, dict) or not fields.labels:
            raise CorpusError(f"{self.path}: {fields.format}: expected a dict from dialogue ids to labels, found {spell(fields.labels)}")
        self.keys = list(fields.labels)
        self.plain = {key: self.plain_key(key) for key in self.keys}
        labels = self.column("labels", fields.labels)
        self.lengths = [len(values) for values in labels]
        for key, length in zip(self.keys, self.lengths, strict=True):
            if not length:
                raise CorpusError(f"{self.path}: dialogue {self.plain[key]!r} is empty; remove it from every field of the file")
        self.total = sum(self.lengths)
        if self.total > fields.size:
            raise CorpusError(
                f"{self.path}: {self.total} utterances in {fields.size} bytes are too many, so the file is malicious or "
                f"corrupt and is not read"
            )
        self.values = [scalar(value) for value in chain.from_iterable(labels)]
        self.split_keys = self.read_splits()
        self.dataset, self.names = recognise(fields, self.plain, self.values, self.split_keys, self.notes)

    def annotations(self) -> Annotations:
        """Return the checked annotations, one row per utterance."""
        fields = self.fields
        counts = Counter(self.names)
        if len(counts) != len(self.names):
            raise CorpusError(f"{self.path}: duplicate dialogue id {counts.most_common(1)[0][0]!r}; ids must be unique")
        columns, labels = self.read_labels()
        speakers = self.read_speakers()
        texts = self.read_texts()
        ids = self.read_ids()
        features = {name: self.read_features(name, value) for name, value in fields.features.items()}
        name_of = dict(zip(self.keys, self.names, strict=True))
        return Annotations(
            format=fields.format,
            dataset=self.dataset,
            dialogue_ids=self.names,
            lengths=self.lengths,
            utterance_ids=ids,
            speakers=speakers,
            texts=texts,
            columns=columns,
            labels=labels,
            splits={split: [name_of[key] for key in keys] for split, keys in self.split_keys.items()},
            features=features,
            notes=self.notes,
        )

    def plain_key(self, key: Any) -> str | int:
        """Return the key of a dialogue as text or as a number."""
        if isinstance(key, np.generic):
            key = key.item()
        if isinstance(key, bytes):
            key = key.decode("latin1")
        if isinstance(key, bool) or not isinstance(key, str | int):
            raise CorpusError(f"{self.path}: dialogue ids must be text or integers, found {spell(key)}")
        return key

    def column(self, name: str, mapping: Any) -> list[Sequence[Any]]:
        """Return the values of one field, such as speakers, with one list per dialogue in the order of `labels`."""
        if not isinstance(mapping, dict):
            raise CorpusError(f"{self.path}: {name}: expected a dict from dialogue ids to values, found {spell(mapping)}")
        columns: list[Any] = []
        for position, key in enumerate(self.keys):
            if key not in mapping:
                raise CorpusError(
                    f"{self.path}: {name}: dialogue {self.plain[key]!r} is missing (found {len(mapping)} of {len(self.keys)}); "
                    "remove it from the other fields"
                )
            values = mapping[key]
            if not isinstance(values, list | tuple | np.ndarray) or (isinstance(values, np.ndarray) and values.ndim == 0):
                raise CorpusError(
                    f"{self.path}: {name}: dialogue {self.plain[key]!r}: expected one value per utterance, found {spell(values)}"
                )
            if name != "labels" and len(values) != self.lengths[position]:
                raise CorpusError(
                    f"{self.path}: dialogue {self.plain[key]!r}: {len(values)} {name} but {self.lengths[position]} labels; "
                    "every field needs one value per utterance"
                )
            columns.append(values)
        if name != "labels" and len(mapping) > len(self.keys):
            extra = next(key for key in mapping if key not in self.fields.labels)
            self.notes.append(f"{name}: {len(mapping) - len(self.keys)} dialogues without labels are left out; the first is {spell(extra)}")
        return columns

    def where(self, row: int) -> str:
        """Return the dialogue of a row and the position of the utterance in this dialogue, as text for messages."""
        for name, length in zip(self.names, self.lengths, strict=True):
            if row < length:
                return f"dialogue {name!r}, utterance {row}"
            row -= length
        raise IndexError(row)

    def read_splits(self) -> dict[str, list[Any]]:
        """Return a dictionary split → dialogue keys. Keys in a list keep their order; keys in a set are sorted."""
        result: dict[str, list[Any]] = {}
        owner: dict[Any, str] = {}
        for split, keys in self.fields.splits.items():
            if not isinstance(keys, list | tuple | set | frozenset | np.ndarray) or (isinstance(keys, np.ndarray) and keys.ndim == 0):
                raise CorpusError(f"{self.path}: split {split!r}: expected a list or set of dialogue ids, found {spell(keys)}")
            ordered = sorted(keys, key=str) if isinstance(keys, set | frozenset) else list(keys)
            for key in ordered:
                if not isinstance(key, str | int | bytes | np.generic) or key not in self.plain:
                    raise CorpusError(
                        f"{self.path}: split {split!r} names dialogue {spell(key)}, which the file does not have; remove it from the split"
                    )
                if key in owner:
                    raise CorpusError(
                        f"{self.path}: dialogue {spell(key)} is in the splits {owner[key]!r} and {split!r}; expected one split"
                    )
                owner[key] = split
            result[split] = ordered
        if result and len(owner) < len(self.keys):
            self.notes.append(f"{len(self.keys) - len(owner)} of {len(self.keys)} dialogues are in no split")
        return {split: keys for split, keys in result.items() if keys}

    def read_labels(self) -> tuple[dict[str, list[Any]], list[str]]:
        """Return the columns `label`, `sentiment` and `score`, and the label names if the data set is unknown."""
        values, labels = self.values, list[str]()
        columns: dict[str, list[Any]] = {}
        for row, value in enumerate(values):
            if isinstance(value, Odd):
                raise CorpusError(f"{self.path}: {self.where(row)}: label must be a number or a name, found {value.text}")
        numbers = [value for value in values if isinstance(value, int | float)]
        names = INDEX_NAMES.get(self.dataset or "")
        if numbers and any(isinstance(value, str) for value in values):
            raise CorpusError(f"{self.path}: labels are partly names and partly numbers; expected one kind")
        if not numbers:
            columns["label"] = values
        elif names is None and self.are_scores(numbers):
            columns["score"] = self.read_scores(values)
            if self.dataset == "mosi":  # zero counts as positive, as in the files with names
                columns["label"] = [None if value is None else "positive" if value >= 0 else "negative" for value in columns["score"]]
        else:
            columns["label"], labels = self.read_indices(values, names)
            if names is None and any(isinstance(value, float) for value in numbers):
                columns["score"] = self.read_scores(values)
                note(f'{self.path.name}: labels are integers and count as classes; to read them as scores, set `task = "sentiment"`')
        if self.fields.sentiments is not None:
            sentiments = [scalar(value) for value in chain.from_iterable(self.column("sentiments", self.fields.sentiments))]
            columns["sentiment"] = self.read_names("sentiment", sentiments, MELD_SENTIMENT)
        return columns, labels

    def are_scores(self, numbers: list[int | float]) -> bool:
        """Return whether the labels are scores, not indices: the data set has scores, or the file has fractions or numbers below -1."""
        task = TASKS.get(DEFAULT_TASK.get(self.dataset or "", ""))
        floats = [value for value in numbers if isinstance(value, float) and value == value]
        if self.dataset == "mosi" or (task is not None and task.kind == "score"):
            return bool(floats)
        return any(not value.is_integer() or value < -1 for value in floats)

    def read_scores(self, values: list[Any]) -> list[float | None]:
        """Return labels as scores; NaN and `None` mean unlabelled."""
        for row, value in enumerate(values):
            if value is not None and value in (float("inf"), float("-inf")):
                raise CorpusError(f"{self.path}: {self.where(row)}: score {value} is not finite")
        return [None if value is None or value != value else float(value) for value in values]

    def read_indices(self, values: list[Any], names: tuple[str, ...] | None) -> tuple[list[str | None], list[str]]:
        """Return the label names of label indices. For an unknown data set, the names are the indices as text."""
        if names is not None:
            return self.read_names("label", values, names), []
        top = max((int(value) for value in values if value is not None and math.isfinite(value)), default=-1)
        if top >= 1000:
            raise CorpusError(f"{self.path}: label {top} is too large; expected indices of a label set, below 1000")
        labels = [str(index) for index in range(top + 1)]
        return self.read_names("label", values, tuple(labels)), labels

    def read_names(self, what: str, values: list[Any], names: tuple[str, ...]) -> list[str | None]:
        """Convert indices to names; -1, NaN and `None` mean unlabelled."""
        result: list[str | None] = []
        nothing = sum(isinstance(value, float) and value != value for value in values)
        if nothing:
            note(f"{self.path.name}: {what}s: {nothing} are NaN and count as unlabelled")
        for row, value in enumerate(values):
            if value is None or (isinstance(value, int | float) and (value == -1 or value != value)):
                result.append(None)
                continue
            if not isinstance(value, int | float) or value in (float("inf"), float("-inf")) or value != int(value):
                found = value.text if isinstance(value, Odd) else spell(value)
                raise CorpusError(f"{self.path}: {self.where(row)}: {what} must be an integer, found {found}")
            if not 0 <= value < len(names):
                raise CorpusError(
                    f"{self.path}: {self.where(row)}: {what} {spell(value)} is outside 0-{len(names) - 1} ({', '.join(names)})"
                )
            result.append(names[int(value)])
        return result

    def read_speakers(self) -> list[str]:
        """Return speaker names: session and gender for IEMOCAP; `speaker0`, `speaker1`, … for numbers and one-hot vectors."""
        iemocap = (self.dataset or "").startswith("iemocap")
        result: list[str] = []
        numbered = False
        for name, speakers in zip(self.names, self.column("speakers", self.fields.speakers), strict=True):
            session = name[:5] if iemocap and SESSION.match(name) else ""
            for turn, value in enumerate(speakers):
                index = value if isinstance(value, str) else speaker_number(value)
                if index is None:
                    raise CorpusError(
                        f"{self.path}: dialogue {name!r}, utterance {turn}: speaker must be a name, a number or a one-hot vector, "
                        f"found {spell(value)}"
                    )
                if isinstance(index, int):
                    # Two codes are in use; where numbers or vectors stand, male is 0 or [1, 0] in every known file.
                    index = "MF"[index] if iemocap and index < 2 else f"speaker{index}"
                    numbered = True
                result.append(session + index if index in ("M", "F") else index or "speaker")
        if numbered and not iemocap:
            self.notes.append("speakers are only numbered within each dialogue, so they are unknown across dialogues")
        return result

    def read_texts(self) -> list[str]:
        """Return the texts. Wrongly decoded punctuation of Windows-1252 is repaired, and lists of tokens are joined."""
        if self.fields.texts is None:
            return []
        repaired: dict[str, str] = {}
        result: list[str] = []
        for name, sentences in zip(self.names, self.column("sentences", self.fields.texts), strict=True):
            for turn, value in enumerate(sentences):
                if isinstance(value, bytes):
                    value = value.decode("latin1")
                if isinstance(value, list | tuple | np.ndarray) and all(isinstance(token, str) for token in np.ravel(np.asarray(value))):
                    value = " ".join(str(token) for token in np.ravel(np.asarray(value)))
                if not isinstance(value, str):
                    raise CorpusError(f"{self.path}: dialogue {name!r}, utterance {turn}: expected a sentence, found {spell(value)}")
                if value not in repaired:
                    repaired[value] = str(value).translate(_CP1252)
                result.append(repaired[value])
        if changed := sum(before != after for before, after in repaired.items()):
            self.notes.append(f"{changed} sentences had Windows-1252 punctuation that was read as Latin-1; it is repaired")
        return result

    def read_ids(self) -> list[str]:
        """Return the utterance ids of the file or, if there are none, ids from the dialogue and the position of the utterance."""
        numbered = [f"{name}_{turn}" for name, length in zip(self.names, self.lengths, strict=True) for turn in range(length)]
        if self.fields.ids is None:
            if self.dataset == "meld":
                self.notes.append(
                    "the file has no utterance ids, and the ids of MELD skip numbers in 76 dialogues, so utterances are counted instead "
                    "(train_dia0_0, …); to join features by the ids of MELD, list its CSVs before this file under `annotations`"
                )
            return numbered
        ids = [scalar(value) for value in chain.from_iterable(self.column("ids", self.fields.ids))]
        result: list[str] = []
        names = chain.from_iterable([name] * length for name, length in zip(self.names, self.lengths, strict=True))
        for row, (name, value) in enumerate(zip(names, ids, strict=True)):
            if isinstance(value, Odd | float) or value is None or value == "":
                raise CorpusError(f"{self.path}: {self.where(row)}: utterance id must be text or an integer")
            local = re.fullmatch(r"(?:utt_?)?(\d+)", str(value))  # counted within the dialogue
            result.append(f"{name}_{'utt' if self.dataset == 'meld' else ''}{local[1]}" if local else value)
        count = Counter(result)
        if len(count) < len(result):
            twice = count.most_common(1)[0][0]
            raise CorpusError(f"{self.path}: {self.where(result.index(twice))}: utterance id {twice!r} is used {count[twice]} times")
        return result

    def read_features(self, modality: str, mapping: Any) -> np.ndarray:
        """Return the features of a modality, `(utterances, numbers per vector)` float32; NaN for missing features.

        An empty vector means that the features are missing. If an utterance has one vector per frame, the vectors are averaged over time.
        """
        result = np.full((self.total, 0), np.nan, dtype=np.float32)
        averaged = number = 0
        for name, values in zip(self.names, self.column(modality, mapping), strict=True):
            for turn, value in enumerate(values):
                row = vector(value)
                if row is None:
                    raise CorpusError(
                        f"{self.path}: dialogue {name!r}, utterance {turn}: {modality}: expected numbers, found {spell(value)}"
                    )
                if row.ndim == 2:
                    averaged += 1
                    row = row.mean(axis=0, dtype=np.float64).astype(np.float32)
                width = result.shape[1]
                if len(row) and not width:  # the first vector; before anything large is allocated
                    width = len(row)
                    if self.total * width > 100 * self.fields.size + (1 << 24):
                        size = f"{self.total} x {width} numbers in {self.fields.size} bytes"
                        raise CorpusError(
                            f"{self.path}: {modality}: {size} are too many, so the file is malicious or corrupt and is not read"
                        )
                    result = np.full((self.total, width), np.nan, dtype=np.float32)
                if len(row) not in (0, width):
                    raise CorpusError(
                        f"{self.path}: dialogue {name!r}, utterance {turn}: {modality} vector has {len(row)} numbers, earlier vectors have "
                        f"{width}; expected one width"
                    )
                if len(row):
                    result[number] = row
                number += 1
        if averaged:
            self.notes.append(f"{modality}: {averaged} utterances have several frames, which are averaged over time")
        return result
