"""The format in which erc_graph saves a corpus: a folder with `corpus.json` and `corpus.safetensors`."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from erc_graph.data.files.budget import content_of
from erc_graph.data.files.storage import atomic_folder, load_tensors, save_tensors, sha256, write_json
from erc_graph.data.numbers import UNFIT, fit
from erc_graph.data.ragged import Ragged
from erc_graph.data.splits import check_splits
from erc_graph.data.tasks import Task
from erc_graph.errors import CheckpointError, CorpusError

if TYPE_CHECKING:
    from erc_graph.data.corpus import Corpus

MANIFEST = "corpus.json"
TENSORS = "corpus.safetensors"
FORMAT = "erc_graph corpus"
VERSION = 2
"""Version of the format for a corpus with sequences. A corpus without sequences is written in version 1, which older releases can read."""


def save_corpus(corpus: Corpus, folder: str | os.PathLike[str]) -> None:
    """Write a corpus to `folder`, atomically. A corpus that was saved there before is replaced.

    Raises:
        CorpusError: the splits name unknown dialogues, or a split is not train, dev or test.
        StorageError: `folder` contains other files, or cannot be written. No incomplete file remains in this case.
    """
    task = corpus.task
    check_splits(corpus.splits, corpus.dialogue_ids, f"{corpus.name}: splits")
    tensors: dict[str, Tensor] = {"ptr": corpus.ptr, "target": corpus.target}
    for name in corpus.modalities:
        tensors[f"features/{name}"], tensors[f"present/{name}"] = corpus.features[name], corpus.present[name]
    for name, sequences in corpus.sequences.items():
        tensors[f"sequences/{name}"], tensors[f"sequences_ptr/{name}"] = sequences.values, sequences.ptr
    with atomic_folder(folder, (MANIFEST, TENSORS)) as temporary:
        save_tensors(temporary / TENSORS, tensors)
        manifest: dict[str, Any] = {
            "format": FORMAT,
            "version": VERSION if corpus.sequences else 1,
            "name": corpus.name,
            "task": {
                "name": task.name, "labels": task.labels, "kind": task.kind, "column": task.column,
                "mapping": dict(task.mapping), "drop": sorted(task.drop),
            },
            "modalities": corpus.modalities,
            **({"sequences": tuple(corpus.sequences)} if corpus.sequences else {}),
            "dialogue_ids": corpus.dialogue_ids,
            "utterance_ids": corpus.utterance_ids,
            "speakers": corpus.speakers,
            "texts": corpus.texts,
            "annotations": dict(corpus.annotations),
            "splits": dict(corpus.splits),
            "provenance": dict(corpus.provenance),
            "files": {TENSORS: sha256(temporary / TENSORS)},
        }  # fmt: skip
        write_json(temporary / MANIFEST, manifest)
        manifest = json.loads((temporary / MANIFEST).read_bytes())  # as a reader will see it
        write_json(temporary / MANIFEST, {**manifest, "sha256": _digest(manifest)})


def read_saved(folder: str | os.PathLike[str], *, strict: bool = False) -> dict[str, Any]:
    """Read a corpus written by `save_corpus`, as the keyword arguments of `Corpus`. Features are memory-mapped.

    Args:
        folder: The folder, or the `corpus.json` in it.
        strict: Raise an error if features or sequences contain NaN, inf or numbers beyond 1e15.

    Raises:
        CorpusError: one of the two files is missing, damaged, edited, of a newer version, or does not match the other file.
    """
    folder = Path(folder)
    folder = folder.parent if folder.name == MANIFEST else folder
    path = folder / MANIFEST
    manifest = _read_manifest(path)
    file = folder / TENSORS
    if not file.is_file():
        raise CorpusError(f"{file}: missing, but {path.name} needs this file; save the corpus again")
    if sha256(file) != manifest["files"].get(TENSORS):
        raise CorpusError(
            f"{file}: its SHA-256 hash differs from the hash in {path.name}, so the file is damaged, incomplete or edited; "
            "save the corpus again"
        )
    try:
        tensors, _ = load_tensors(file)
    except CheckpointError as error:
        raise CorpusError(str(error)) from error
    try:
        return _fields(manifest, tensors, path, strict)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, CorpusError):
            raise
        raise CorpusError(f"{path}: not a complete corpus ({type(error).__name__}: {error}); save the corpus again") from error


def _digest(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode("ascii")).hexdigest()


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(content_of(path))
    except (ValueError, RecursionError) as error:
        raise CorpusError(f"{path}: not valid JSON, damaged or incomplete ({error}); save the corpus again") from error
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read ({error.strerror})") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise CorpusError(f'{path}: not a saved corpus; expected the field "format": "{FORMAT}"')
    version = manifest.get("version")
    if not isinstance(version, int) or version > VERSION:
        raise CorpusError(
            f"{path}: the corpus was saved in version {version!r} of its format; this erc_graph reads versions up to {VERSION}; "
            "upgrade erc_graph"
        )
    written = manifest.pop("sha256", None)
    if written != _digest(manifest) or not isinstance(manifest.get("files"), dict):
        raise CorpusError(f"{path}: its content does not match its SHA-256 hash, so the file is damaged or edited; save the corpus again")
    return manifest


def _fields(manifest: dict[str, Any], tensors: dict[str, Tensor], path: Path, strict: bool) -> dict[str, Any]:
    def names(values: Any) -> tuple[str, ...]:
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise TypeError("expected a list of strings")
        return tuple(values)

    def expect(fits: bool, what: str) -> None:
        if not fits:
            raise CorpusError(f"{path.with_name(TENSORS)}: {what}; save the corpus again")

    task = Task(**{**manifest["task"], "labels": names(manifest["task"]["labels"]), "drop": frozenset(manifest["task"]["drop"])})
    dialogue_ids, utterance_ids = names(manifest["dialogue_ids"]), names(manifest["utterance_ids"])
    rows = len(utterance_ids)
    annotations = {name: tuple(values) for name, values in manifest["annotations"].items()}
    speakers, texts = names(manifest["speakers"]), names(manifest["texts"])
    if len(speakers) != rows or len(texts) not in (0, rows) or any(len(values) not in (0, rows) for values in annotations.values()):
        raise CorpusError(
            f"{path}: expected {rows} entries, one per utterance, in every list of speakers, texts and annotations, "
            "found a list of another length; save the corpus again"
        )
    ptr, target = tensors["ptr"], tensors["target"]
    expect(
        ptr.dtype == torch.long and ptr.shape == (len(dialogue_ids) + 1,),
        "ptr: expected the first utterance of each dialogue, and the number of utterances",
    )
    expect(bool((ptr.diff() >= 0).all()) and int(ptr[0]) == 0 and int(ptr[-1]) == rows, f"ptr: expected slices of {rows} utterances")
    expect(target.shape == (rows,), f"target: expected {rows} values, found {tuple(target.shape)}")
    if task.kind == "classification":
        expect(
            target.dtype == torch.long and bool(((target >= -1) & (target < len(task.labels))).all()),
            "target: expected label indices",
        )
    else:
        expect(target.is_floating_point(), "target: expected scores")
    modalities = names(manifest["modalities"])
    features = {name: tensors[f"features/{name}"] for name in modalities}
    present = {name: tensors[f"present/{name}"] for name in modalities}
    for name in modalities:
        expect(features[name].ndim == 2 and len(features[name]) == rows, f"features/{name}: expected {rows} rows")
        expect(present[name].dtype == torch.bool and present[name].shape == (rows,), f"present/{name}: expected {rows} bools")
        if strict and not fit(features[name][present[name]]).all():
            raise CorpusError(
                f"{path.with_name(TENSORS)}: features/{name}: rows with {UNFIT}, which the option `strict` does not allow; "
                "correct these rows, or leave out `strict`"
            )
    sequences = {
        name: Ragged(tensors[f"sequences/{name}"], tensors[f"sequences_ptr/{name}"]) for name in names(manifest.get("sequences", []))
    }
    for name, value in sequences.items():
        expect(len(value) == rows, f"sequences/{name}: expected {rows} sequences, found {len(value)}")
        if strict and value.values.is_floating_point() and not fit(value.values).all():
            raise CorpusError(
                f"{path.with_name(TENSORS)}: sequences/{name}: words, frames or samples with {UNFIT}, which the option "
                "`strict` does not allow; correct them, or leave out `strict`"
            )
    return {
        "name": manifest["name"],
        "task": task,
        "dialogue_ids": dialogue_ids,
        "ptr": ptr,
        "utterance_ids": utterance_ids,
        "speakers": speakers,
        "texts": texts,
        "target": target,
        "features": features,
        "present": present,
        "sequences": sequences,
        "splits": check_splits(manifest["splits"], dialogue_ids, str(path)),
        "annotations": annotations,
        "provenance": manifest["provenance"],
    }
