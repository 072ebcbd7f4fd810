"""Readers of the file layouts of DnR (a dict of labels, speakers, …), CORECT (dicts of dialogues) and DAG-ERC (lists of dialogues)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from erc_graph.data.annotations import Annotations
from erc_graph.data.files.formats.fields import Fields
from erc_graph.data.files.formats.packing import pack
from erc_graph.data.files.formats.values import spell
from erc_graph.data.files.media import split_of_name
from erc_graph.data.files.pickles import read_pickle
from erc_graph.data.files.storage import stay_inside
from erc_graph.data.files.vocabulary import SPLIT_NAMES
from erc_graph.data.tasks import IEMOCAP6, MELD7, TASKS
from erc_graph.errors import CorpusError

_SHORT = {"hap": "happy", "sad": "sad", "neu": "neutral", "ang": "angry", "exc": "excited", "fru": "frustrated"}


def read_dict(content: Any, path: Path, size: int, dataset: str | None = None) -> Annotations | None:
    """Read a dictionary of labels, speakers and other fields (DnR); return `None` if the content has another form.

    The keys are `speaker(s)`, `label(s)`, `text`, `audio`, `visual`, `sentence`, `trainVid`, `testVid` and optionally `valVid`.

    Raises:
        CorpusError: speakers or labels are missing, or the values of two keys contradict each other.
    """
    if not isinstance(content, dict) or not {"trainVid", "testVid"} <= content.keys():
        return None
    fields = {_plain_name(name): value for name, value in content.items() if isinstance(name, str)}
    for name in ("speaker", "label"):
        if name not in fields:
            raise CorpusError(f"{path}: a dict of fields without {name!r}; it has {', '.join(sorted(fields))}")
    splits = {"train": fields["trainVid"], "dev": fields.get("valVid", fields.get("devVid")), "test": fields["testVid"]}
    return pack(
        Fields(
            path=path,
            size=size,
            format="dict of named fields (DnR)",
            labels=fields["label"],
            speakers=fields["speaker"],
            texts=fields.get("sentence"),
            ids=fields.get("id", fields.get("videoID")),
            features={name: fields[name] for name in ("text", "audio", "visual") if name in fields},
            splits={split: keys for split, keys in splits.items() if keys is not None},
            dataset=dataset,
            maybe_meld=True,
        )
    )


def _plain_name(name: str) -> str:
    return {"speakers": "speaker", "labels": "label", "sentences": "sentence", "ids": "id", "videoIDs": "videoID"}.get(name, name)


def read_samples(content: Any, path: Path, size: int, dataset: str | None = None) -> Annotations | None:
    """Read a dictionary that maps splits to lists of dialogues (CORECT); return `None` if the content has another form.

    Each dialogue is a dictionary with `vid`, `speakers`, `labels`, `text`, `audio`, `visual` and `sentence`.

    Raises:
        CorpusError: a dialogue lacks `vid`, speakers or labels, a dialogue id occurs twice, or values contradict each other.
    """
    if not isinstance(content, dict) or not content or not all(name in SPLIT_NAMES for name in content):
        return None
    if not all(isinstance(samples, list | tuple) and all(isinstance(s, dict) for s in samples) for samples in content.values()):
        return None
    columns: dict[str, dict[Any, Any]] = {}
    splits: dict[str, list[Any]] = {}
    for name, samples in content.items():
        for number, sample in enumerate(samples):
            fields = {_plain_name(key): value for key, value in sample.items() if isinstance(key, str)}
            for needed in ("vid", "speaker", "label"):
                if needed not in fields:
                    raise CorpusError(
                        f"{path}: {name}, sample {number}: no field {needed!r}; fields of the sample: {', '.join(sorted(fields))}"
                    )
            vid = fields["vid"]
            if not isinstance(vid, str | int | np.generic):
                raise CorpusError(f"{path}: {name}, sample {number}: `vid` must be text or an integer, found {spell(vid)}")
            if vid in columns.get("label", {}):
                raise CorpusError(f"{path}: {name}, sample {number}: duplicate dialogue id {spell(vid)}; ids must be unique")
            splits.setdefault(SPLIT_NAMES[name], []).append(vid)
            for field in ("label", "speaker", "sentence", "text", "audio", "visual"):
                if fields.get(field) is not None:
                    columns.setdefault(field, {})[vid] = fields[field]
    if "label" not in columns:
        raise CorpusError(f"{path}: no dialogues in {', '.join(content)}")
    return pack(
        Fields(
            path=path,
            size=size,
            format="dict of samples (CORECT, COGMEN converted)",
            labels=columns["label"],
            speakers=columns["speaker"],
            texts=columns.get("sentence"),
            features={name: columns[name] for name in ("text", "audio", "visual") if name in columns},
            splits=splits,
            dataset=dataset,
            maybe_meld=True,
        )
    )


def read_dialogues(content: Any, path: Path, size: int, dataset: str | None = None) -> Annotations | None:
    """Read a JSON list of dialogues (DAG-ERC, MultiDAG); return `None` if the content has another form.

    Each dialogue is a list of objects with `text`, `speaker`, `cls` and optionally `label`. `cls` is one vector in DAG-ERC, and a list of
    three vectors in MultiDAG.

    Raises:
        CorpusError: an utterance lacks `text` or `speaker`, `label_vocab.pkl` lacks the label names, or values contradict each other.
    """
    if not isinstance(content, list) or not content or not all(isinstance(dialogue, list) for dialogue in content):
        return None
    split = split_of_name(path)
    columns: dict[str, dict[str, list[Any]]] = {"label": {}, "speaker": {}, "text": {}}
    features: dict[str, dict[str, list[Any]]] = {}
    for number, dialogue in enumerate(content):
        vid = f"{split or 'dialogue'}_{number}"
        for turn, utterance in enumerate(dialogue):
            if not isinstance(utterance, dict) or not {"text", "speaker"} <= utterance.keys():
                raise CorpusError(f"{path}: dialogue {number}, utterance {turn}: expected a dict with `text` and `speaker`")
            vectors = utterance.get("cls")
            if vectors is None:
                continue
            if isinstance(vectors, list) and len(vectors) == 3 and all(isinstance(part, list) for part in vectors):
                named = dict(zip(("text", "audio", "visual"), vectors, strict=True))
            else:
                named = {"text": vectors}
            for name, vector in named.items():
                features.setdefault(name, {}).setdefault(vid, []).append(vector)
        columns["label"][vid] = [utterance.get("label") for utterance in dialogue]
        columns["speaker"][vid] = [utterance["speaker"] for utterance in dialogue]
        columns["text"][vid] = [utterance["text"] for utterance in dialogue]
    guess = _name_labels(columns["label"], _vocabulary(path))
    annotations = pack(
        Fields(
            path=path,
            size=size,
            format="JSON list of dialogues (DAG-ERC)",
            labels=columns["label"],
            speakers=columns["speaker"],
            texts=columns["text"],
            features=features,
            splits={split: list(columns["label"])} if split else {},
            dataset=dataset or guess,
        )
    )
    if split is None:
        annotations.notes.append("the file name contains no split (train, dev or test); give `splits` in corpus.toml")
    return annotations


def _vocabulary(path: Path) -> list[str]:
    """Return the label names in `label_vocab.pkl` of the same folder, if this file exists."""
    beside = path.with_name("label_vocab.pkl")
    if not stay_inside(beside).is_file():
        return []
    vocabulary = read_pickle(beside)
    names = vocabulary.get("itos") if isinstance(vocabulary, dict) else None
    if isinstance(names, dict):
        names = [names[index] for index in range(len(names)) if index in names]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise CorpusError(f"{beside}: expected a dict with `itos`, the label names in index order, found {spell(vocabulary)}")
    return names


def _name_labels(labels: dict[str, list[Any]], vocabulary: list[str]) -> str | None:
    """Replace label indices and short labels of IEMOCAP by label names, in place; return the data set with these label names."""
    for values in labels.values():
        for turn, value in enumerate(values):
            if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(vocabulary):
                value = vocabulary[value]
            values[turn] = _SHORT.get(value, value) if isinstance(value, str) else value
    names = {value for values in labels.values() for value in values if isinstance(value, str)}
    for dataset, known in (("iemocap6", IEMOCAP6), ("meld", MELD7)):
        if names and names <= set(known):
            return dataset
    for dataset, task in (("emorynlp", "emorynlp7"), ("dailydialog", "dailydialog7")):
        if names and names <= set(TASKS[task].labels):
            return dataset
    return None
