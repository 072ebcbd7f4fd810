"""The files of fine-tuned encoders, and the check whether the encoders in a folder match a requested fine-tuning."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from erc_graph.data.corpus import Corpus
from erc_graph.data.files.storage import load_tensors, tidy
from erc_graph.errors import CheckpointError, CorpusError, StorageError
from erc_graph.features.context import readings
from erc_graph.features.cross_fitting import members
from erc_graph.features.low_rank import ADAPTER, ADAPTER_CONFIG
from erc_graph.features.text import as_seen_from, find_encoder, revision
from erc_graph.features.tokens import read_json

if TYPE_CHECKING:
    from erc_graph.features.fine_tuning import TuningConfig


FORM, VERSION = "erc_graph tuned text encoder", 1
ABOUT, HEAD, STATE = "tuned.json", "classifier.safetensors", "training.safetensors"
WHOLE = ("config.json", "model.safetensors", "tokenizer.json", HEAD)  # of one encoder
BESIDE = (ADAPTER, ADAPTER_CONFIG, HEAD)  # of one that is its base and low-rank matrices
_NEW = {"lora": 0, "quantize": "no"}  # settings that are written where they are not the usual ones


def describe(corpus: Corpus, model: str, config: TuningConfig, cross_fit: int, precision: str, repeats: int = 1) -> dict[str, Any]:
    """Return all settings that determine the result of a fine-tuning, as JSON values.

    Raises:
        ConfigError: the number of folds is impossible for this corpus.
        CorpusError: the corpus has no training split, no texts, or no labels.
    """
    if "train" not in corpus.splits:
        raise CorpusError(f"{corpus.name}: expected a training split for fine-tuning; give `splits` in corpus.toml")
    if not any(map(str.strip, corpus.texts)):
        raise CorpusError(f"{corpus.name}: expected texts for fine-tuning, found none")
    train = corpus.split("train")
    labelled = sum(bool(text.strip()) for text, known in zip(train.texts, train.labelled.tolist(), strict=True) if known)
    if not labelled:
        raise CorpusError(f"{corpus.name}: expected labelled utterances in the training split, found none")
    settings = {name: value for name, value in asdict(config).items() if name not in _NEW or value != _NEW[name]}
    del settings["gradient_checkpointing"]  # the same result in less memory
    return {
        "format": FORM,
        "version": VERSION,
        "model": model,
        "task": {"name": corpus.task.name, "kind": corpus.task.kind, "labels": list(corpus.task.labels)},
        "fitted_to": f"the labels of the training split of {corpus.name} ({labelled} utterances)",
        "chosen_on": "development split" if "dev" in corpus.splits else "nothing: the last epoch",
        "cross_fit": cross_fit,
        "utterances": _digest(corpus, config.context),
        "members": members(corpus, cross_fit, config.seed, repeats),
        "settings": {**settings, "learning_rate": config.rate, "precision": precision},
    }


def _digest(corpus: Corpus, context: int) -> str:
    """Return the SHA-256 hash of the data for fine-tuning: ids, texts with context, and targets of the training and development splits."""
    read, found = readings(corpus, context), hashlib.sha256()
    for split in ("train", "dev"):
        rows = corpus.rows(corpus.position[name] for name in corpus.splits.get(split, ())).tolist()
        names = [(corpus.dialogue_ids[int(corpus.dialogue_of[row])], corpus.utterance_ids[row]) for row in rows]
        found.update(json.dumps([split, names, [read[row] for row in rows]]).encode())
        found.update(corpus.target[rows].numpy().tobytes())
    return found.hexdigest()


def continues(folder: Path, wanted: Mapping[str, Any]) -> bool:
    """Return whether the folder was made for fewer encoders than requested, so that more encoders must be trained.

    Raises:
        CheckpointError: the encoders in the folder were fine-tuned with other settings or data.
    """
    found, wanted = read_json(folder / ABOUT, object), json.loads(json.dumps(wanted))
    if not isinstance(found, dict):
        raise CheckpointError(f"{folder / ABOUT}: not the description of an {FORM}; remove {folder} to fine-tune again")
    said = {
        "utterances": "on other dialogues, texts or labels",
        "members": "with other or with more folds (--cross-fit, --repeats)",
        "format": "by another program",
    }
    for key, value in wanted.items():
        begun = found.get(key)
        first = key == "members" and isinstance(begun, dict) and bool(begun) and {**value, **begun} == value
        if begun != value and not first:
            how = said.get(key, f"with another value of `{key}`")
            raise CheckpointError(
                f"{folder}: the encoders in this folder were fine-tuned {how}; choose another folder (--encoders), or remove this folder"
            )
    return bool(found["members"] != wanted["members"])


def find_base(folder: Path, about: Mapping[str, Any]) -> Path:
    """Return the folder of the pretrained encoder to which low-rank matrices belong.

    Args:
        folder: Folder with `tuned.json`.
        about: Content of `tuned.json`.

    Raises:
        CheckpointError: the encoder cannot be found, or its weights have changed.
    """
    try:
        base = find_encoder(as_seen_from(folder, str(about["model"])))
    except CheckpointError as error:
        raise CheckpointError(f"{folder}: the low-rank matrices in this folder are for an encoder that cannot be found: {error}") from None
    found, wanted = revision(base), str(about["revision"])
    if found.startswith("sha256:") == wanted.startswith("sha256:") and found != wanted:
        raise CheckpointError(
            f"{folder}: these encoders were fine-tuned from {about['model']}; expected version {wanted[:20]} of this model, "
            f"found version {found[:20]} in {base}; put the weights of the expected version there, or fine-tune again"
        )
    return base


def refuse_foreign(folder: Path) -> None:
    """Check that a folder for fine-tuned encoders is empty or does not exist.

    Raises:
        StorageError: the path is a file, or the folder is not empty.
    """
    tidy(folder)  # of a run that was killed
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise StorageError(f"{folder}: this folder is not empty; expected a new folder for the fine-tuned encoders")


def read_part(path: Path, whole: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors and metadata in a file of an encoder.

    Args:
        path: The file.
        whole: Path of the file or folder that the user must remove if the file is damaged; the error message names this path.

    Raises:
        CheckpointError: the file is damaged or missing.
    """
    try:
        return load_tensors(path)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; remove {whole} and repeat the command") from None
