"""Errors for files that are recognised but cannot be read. An error says in one sentence what the file is and what to do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from erc_graph.data.files.vocabulary import SPLIT_NAMES, find_columns
from erc_graph.errors import CorpusError

_TABLE = "write a table with the columns dialogue, turn, speaker, text, label (CSV) and features as .npz (utterance, features)"


# First bytes → what the file is, and the way out.
_FOREIGN = (
    (b"version https://git-lfs", "a pointer of Git LFS, not the file itself; download the file with `git lfs pull`"),
    (b"<!doctype html", "a web page: a page was downloaded instead of the file; open the address in a browser"),
    (b"<html", "a web page: a page was downloaded instead of the file; open the address in a browser"),
    (b"%pdf", "a PDF: copy its text into a plain text file, or write a table (CSV)"),
    (b"{\\rtf", "Rich Text (RTF): save it as plain text (.txt) or CSV"),
    (b"\xd0\xcf\x11\xe0", "an old file of Excel or Word: save a table as .xlsx or CSV, and a text as .txt"),
    (b"arrow1", "an Arrow (Feather) file: save it as Parquet or CSV"),
    (b"sqlite format 3", "an SQLite database: write the table of utterances as CSV"),
    (b"\x1f\x8b", "compressed (gzip): unpack it"),
    (b"bzh", "compressed (bzip2): unpack it"),
    (b"\xfd7zxz", "compressed (xz): unpack it"),
    (b"7z\xbc\xaf", "compressed (7-Zip): unpack it"),
    (b"rar!", "compressed (RAR): unpack it"),
    (b"\x89hdf", "HDF5: write annotations as a table (CSV) and features as .npz (utterance, features)"),
    (b"\x93numpy", "a numpy array: expected annotations; name features under `[features]`"),
    (b"riff", "an audio or video file: expected annotations"),
    (b"\x89png", "a picture: expected annotations"),
    (b"\xff\xd8\xff", "a picture: expected annotations"),
)


def refuse_foreign(content: bytes, path: Path) -> None:
    """Raise an error if the first bytes show that a file cannot have annotations, such as those of a PDF.

    Raises:
        CorpusError: the file is of a kind without annotations. The message names the kind and says what to do.
    """
    head = content[:64].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for mark, words in _FOREIGN:
        if head.startswith(mark):
            raise CorpusError(f"{path}: {words}")
    if b"joblib" in content[:200] or head.startswith((b"x\x9c", b"x\x01")):
        raise CorpusError(f"{path}: compressed with zlib, as by joblib; load it with joblib and save it with pickle, or as a table")


_TURN = re.compile(r"[^:,;\t|\n]{1,60}:\s{1,9}\S")
_CUE = re.compile(r"[\d:.,]{5,16} {0,3}-->")


def refuse_talk(text: str, path: Path) -> None:
    """Raise an error if a file that should be a table is a transcript.

    Raises:
        CorpusError: the file has subtitles, or most lines are `Name: text` and no header names a column for the text.
    """
    lines = [line.strip() for line in text[:20_000].split("\n") if line.strip()][:40]
    if not lines or "text" in find_columns(re.split(r"[,;\t|]", lines[0])):
        return
    cues = lines[0].startswith("WEBVTT") or any(map(_CUE.match, lines[:3]))
    if cues or (len(lines) > 1 and 2 * sum(map(bool, map(_TURN.match, lines))) > len(lines)):
        raise CorpusError(
            f"{path}: looks like a transcript, which `erc-graph predict` reads; a corpus is expected here: a table with a header, such as "
            "dialogue,turn,speaker,text,label"
        )


def refuse_known(content: Any, path: Path) -> None:
    """Raise an error if the content has a known file layout that cannot be read.

    Raises:
        CorpusError: the file has only features (as in MultiEMO), only sentences or speakers, or a single clip of MMSA-FET.
    """
    if not isinstance(content, dict) or not content:
        return
    if {"raw_text", "text", "audio", "vision"} <= content.keys():
        raise CorpusError(
            f"{path}: features of one clip, as MMSA-FET writes them; expected the clips of all splits in one file, which MMSA-FET's "
            "run_dataset writes"
        )
    texts = all(isinstance(value, list) and all(isinstance(one, str) for one in value) for value in content.values())
    if texts and all(str(key).lower() in SPLIT_NAMES for key in content):
        raise CorpusError(f"{path}: the file is a list of splits; expected annotations; give this file as `splits` in corpus.toml")
    if texts:
        raise CorpusError(
            f"{path}: the file has only one text per utterance (sentences or speakers of COSMIC), and no labels; read the "
            "file that has speakers, labels and sentences together, such as iemocap_features_roberta.pkl or iemocap.pkl"
        )
    if all(isinstance(value, list | tuple | np.ndarray) for value in content.values()):
        raise CorpusError(
            f"{path}: the file has only features ({len(content)} keys, the first is {str(next(iter(content)))[:60]!r}), as in "
            "MultiEMO; expected annotations (Speakers.pkl, *_sent_emo.csv); give features under `[features]` as .npz"
        )


def refuse_archive(names: list[str], path: Path) -> None:
    """Raise an error that says what a zip archive contains.

    Raises:
        CorpusError: is always raised.
    """
    stems = {name.rsplit("/", 1)[-1] for name in names}
    if stems & {"train_corpus.npy", "whole_corpus.npy"}:
        raise CorpusError(f"{path}: label.npz of MERBench contains Python objects, which are not loaded; {_TABLE}")
    if "data.pkl" in stems:
        raise CorpusError(f"{path}: a PyTorch file; save features as .safetensors or .npz, annotations as a table")
    if stems & {"utterance.npy", "features.npy"}:
        raise CorpusError(
            f"{path}: a file of features (utterance, features); expected annotations; name this file under `[features]` of corpus.toml"
        )
    raise CorpusError(f"{path}: a zip archive of {len(names)} files; unpack it, or {_TABLE}")
