"""Layouts that are recognised and not read: one sentence says what the file is and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from erc_graph.errors import CorpusError

_TABLE = "write a table with the columns dialogue, turn, speaker, text, label (CSV) and features as .npz (utterance, features)"


def refuse_known(content: Any, path: Path) -> None:
    """Name the file where it is known.

    Raises:
        CorpusError: a file of features alone, as MultiEMO has them.
    """
    if not isinstance(content, dict) or not content:
        return
    if all(isinstance(value, list | tuple | np.ndarray) for value in content.values()):
        raise CorpusError(
            f"{path}: features alone ({len(content)} keys, the first is {str(next(iter(content)))[:60]!r}), as MultiEMO has "
            "them; annotations are expected here (Speakers.pkl, *_sent_emo.csv); give features under `[features]` as .npz"
        )


def refuse_archive(names: list[str], path: Path) -> None:
    """Name a zip archive.

    Raises:
        CorpusError: always.
    """
    stems = {name.rsplit("/", 1)[-1] for name in names}
    if stems & {"train_corpus.npy", "whole_corpus.npy"}:
        raise CorpusError(f"{path}: MERBench's label.npz holds Python objects, which are not loaded: {_TABLE}")
    if "data.pkl" in stems:
        raise CorpusError(f"{path}: a PyTorch file; save features as .safetensors or .npz, annotations as a table")
    if stems & {"utterance.npy", "features.npy"}:
        raise CorpusError(f"{path}: a file of features (utterance, features); annotations are expected here: name it under `[features]`")
    raise CorpusError(f"{path}: a zip archive of {len(names)} files; unpack it, or {_TABLE}")
