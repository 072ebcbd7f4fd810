"""Reading of feature files, and assignment of their rows to the utterances of a corpus.

A feature file has one row of numbers per utterance id.
"""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from erc_graph.data.files.budget import admit, content_of
from erc_graph.data.files.storage import load_tensors, save_tensors, stay_inside
from erc_graph.data.numbers import UNFIT, fit
from erc_graph.errors import CheckpointError, CorpusError

FORMS = (
    ".npz with `utterance` and `features`, .npy with <name>.ids.txt or <name>.ids.json beside it, "
    ".safetensors with the tensor `features` and the ids as JSON in the metadata key `utterance`, "
    "or a folder of one <utterance>.npy per utterance"
)


AGAIN = "#"  # between the id of an utterance and a number, where it stands in several dialogues
NPZ_ARRAYS = ("utterance", "features")


def read_features(path: str | os.PathLike[str]) -> tuple[list[str], np.ndarray]:
    """Read the utterance ids and feature rows of a file.

    Args:
        path: An `.npz` or `.safetensors` file, an `.npy` file with a list of ids in the same folder, or a folder of `<utterance>.npy`
            files.

    Returns:
        `n` utterance ids, and the features `(n, d)` in the number type of the file: `n` rows of `d` numbers.

    Raises:
        CorpusError: the file is not a feature file, is damaged, contains Python objects or duplicate ids, or does not have one row per id.
    """
    path = Path(path)
    if path.is_dir():
        ids, array = _read_folder(path)
    elif path.suffix == ".npz":
        ids, array = _read_npz(path)
    elif path.suffix == ".npy":
        ids, array = _read_id_list(path), load_array(path)
    elif path.suffix == ".safetensors":
        ids, array = _read_safetensors(path)
    else:
        raise CorpusError(f"{path}: not a feature file; expected {FORMS}")
    _check_array(array, path)
    if array.ndim == 3:
        raise CorpusError(
            f"{path}: features of shape {array.shape}; expected one row per utterance (2-D); "
            "list a file of sequences under [sequences] of corpus.toml"
        )
    if array.ndim != 2 or array.shape[1] == 0:
        raise CorpusError(f"{path}: expected features of shape (utterances, width), found {array.shape}")
    if len(ids) != len(array):
        raise CorpusError(f"{path}: {len(ids)} utterance ids but {len(array)} rows of features; expected one row per id")
    check_unique(ids, path)
    return ids, array


def check_unique(ids: Sequence[str], path: Path) -> None:
    """Check that no id occurs twice.

    Raises:
        CorpusError: an id occurs twice. The message names the first such id.
    """
    if len(set(ids)) < len(ids):
        seen: set[str] = set()
        twice = [name for name in ids if name in seen or seen.add(name)]  # type: ignore[func-returns-value]
        raise CorpusError(f"{path}: utterance id {twice[0]!r} occurs twice ({len(twice)} duplicate rows); keep one row per id")


def find_rows(ids: Sequence[str], utterance_ids: Sequence[str], where: str) -> tuple[np.ndarray, list[str]]:
    """Return the row number of each utterance of the corpus in a file.

    Args:
        ids: `n` utterance ids in the file, one per row.
        utterance_ids: `U` utterance ids of the corpus.
        where: Name of the features in messages, for example `features.audio (audio.npz)`.

    Returns:
        Row numbers `(U,)` int64, -1 for an utterance without a row; messages about missing and unused rows.

    Raises:
        CorpusError: no row of the file belongs to an utterance of the corpus.
    """
    position = dict(zip(ids, range(len(ids)), strict=True))
    row = np.fromiter(map(position.get, utterance_ids, repeat(-1)), dtype=np.int64, count=len(utterance_ids))
    for at in np.flatnonzero(
        row < 0
    ).tolist():  # an utterance that stands in several dialogues: `dev_dia1_utt4#2` has the row of `dev_dia1_utt4`
        name, mark, number = utterance_ids[at].rpartition(AGAIN)
        row[at] = position.get(name, -1) if mark and number.isdecimal() else -1
    found = row >= 0
    if not found.any():
        raise CorpusError(
            f"{where}: none of the {len(ids)} rows has the id of an utterance (id of the first row: {next(iter(ids), '')!r}, id of the "
            f"first utterance: {next(iter(utterance_ids), '')!r}); the features belong to another corpus, "
            "or their ids are written differently"
        )
    report = []
    left_over = len(ids) - len(np.unique(row[found]))
    if left_over:
        known = {*utterance_ids, *(name.rpartition(AGAIN)[0] for name in utterance_ids if AGAIN in name)}
        first = [name for name in ids if name not in known][:3]
        report.append(f"{where}: {left_over} of {len(ids)} rows match no utterance (first: {', '.join(first)})")
    absent = np.flatnonzero(~found)
    if len(absent):
        first = [utterance_ids[i] for i in absent[:3]]
        report.append(f"{where}: {len(absent)} of {len(row)} utterances have no row and count as missing (first: {', '.join(first)})")
    return row, report


def join_features(
    ids: Sequence[str], array: np.ndarray, utterance_ids: Sequence[str], *, where: str = "features", strict: bool = False
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Sort feature rows in the order of the utterances of a corpus.

    Args:
        ids: `n` utterance ids, one per row.
        array: Feature rows `(n, d)`: `d` numbers per row.
        utterance_ids: `U` utterance ids of the corpus.
        where: Name of the features in messages, for example `features.audio (audio.npz)`.
        strict: Raise an error for rows with NaN, inf or numbers beyond 1e15 instead of treating them as missing.

    Returns:
        Features `(U, d)` float32, zero if missing; `(U,)` bool, False if features are missing; messages about missing and unused rows.

    Raises:
        CorpusError: no row belongs to an utterance of the corpus, or with `strict` a row has NaN, inf or numbers beyond 1e15.
    """
    row, report = find_rows(ids, utterance_ids, where)
    found = row >= 0
    with np.errstate(over="ignore"):  # a number beyond float32 becomes inf, and is masked as such
        features = np.zeros((len(row), array.shape[1]), dtype=np.float32)
        features[found] = array[row[found]]
    finite = fit(features).all(axis=1)
    if not finite.all():
        bad = [utterance_ids[i] for i in np.flatnonzero(~finite)[:3]]
        if strict:
            raise CorpusError(
                f"{where}: {int((~finite).sum())} rows with {UNFIT} (first: {', '.join(bad)}), which the option `strict` does not allow; "
                "without this option, the features of these utterances count as missing"
            )
        report.append(f"{where}: {int((~finite).sum())} rows with {UNFIT} are masked as missing (first: {', '.join(bad)})")
        features[~finite] = 0
    return features, found & finite, report


# -- the four forms ------------------------------------------------------------------------


def load_array(path: Path, names: Sequence[str] = NPZ_ARRAYS) -> Any:
    """Read a numpy file like `np.load`, but load only arrays of numbers and text.

    Returns:
        The array of an `.npy` file. For an `.npz` archive, a dictionary name → array; arrays that are not in `names` are `None`.

    Raises:
        CorpusError: the file is missing or damaged, contains Python objects, or a file in the archive is not an array.
    """
    try:
        admit(path)
        with path.open("rb") as stream:  # np.load would leave a damaged archive open
            loaded = np.load(stream, allow_pickle=False)
            if not isinstance(loaded, np.lib.npyio.NpzFile):
                return loaded
            arrays = {}
            for name in loaded.files:
                arrays[name] = loaded[name] if name in names else None
                if isinstance(arrays[name], bytes):  # what numpy gives for a member that is no .npy
                    raise CorpusError(f"{path}: the file {name!r} in this archive is not a numpy array; save the arrays with np.savez")
            return arrays
    except FileNotFoundError:
        raise CorpusError(f"{path}: no such file") from None
    except MemoryError:
        raise CorpusError(f"{path}: contains an array that does not fit into memory; the file may be damaged or malicious") from None
    except CorpusError:
        raise
    except (ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error, KeyError, NotImplementedError, SyntaxError) as error:
        if "allow_pickle" in str(error) or "pickled" in str(error):  # what numpy supposes of anything that it does not know
            if not _known(path):
                raise CorpusError(
                    f"{path}: the content is not in the format .npy or .npz, perhaps text; save the array with numpy"
                ) from error
            raise CorpusError(
                f"{path}: holds Python objects (an object array), which can run code and are never loaded; "
                "save plain arrays: numbers for `features`, fixed-width text for `utterance`"
            ) from error
        raise CorpusError(f"{path}: not a readable numpy file, damaged or incomplete ({error})") from error


def _known(path: Path) -> bool:
    """Return whether the file begins like a numpy array, an archive or a pickle."""
    with path.open("rb") as stream:
        return stream.read(6).startswith((b"\x93NUMPY", b"PK", b"\x80"))


def _check_array(array: Any, path: Path) -> None:
    if not isinstance(array, np.ndarray):
        raise CorpusError(f"{path}: contains an .npz archive; expected a single array, or a file name ending in .npz")
    if array.dtype.kind not in "fiub":
        raise CorpusError(f"{path}: features of type {array.dtype}; expected numbers (floating point or integer)")


def as_ids(values: Any, path: Path) -> list[str]:
    """Convert an array or a list to utterance ids.

    Raises:
        CorpusError: the ids are neither text nor integers, or are not a list of one id per row.
    """
    if isinstance(values, np.ndarray):
        if values.ndim != 1 or values.dtype.kind not in "USiu":
            raise CorpusError(
                f"{path}: the array `utterance` has type {values.dtype} and shape {values.shape}; expected one id per row, as text"
            )
        if values.dtype.kind == "S":
            values = np.char.decode(values, "utf-8", "surrogateescape")
        return [str(value) for value in values.tolist()]
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise CorpusError(f"{path}: expected a JSON list of utterance ids as strings")
    return values


def parse_ids(text: str, path: Path) -> list[str]:
    """Read utterance ids from a JSON list.

    Raises:
        CorpusError: the text is not JSON, or is not a list of strings.
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:  # a number of thousands of digits is a plain ValueError
        raise CorpusError(f"{path}: the utterance ids are not valid JSON ({error})") from error
    return as_ids(values, path)


def _read_npz(path: Path) -> tuple[list[str], np.ndarray]:
    arrays = load_array(path)
    if not isinstance(arrays, dict):
        raise CorpusError(f"{path}: contains a single array; expected an .npz archive with the arrays `utterance` and `features`")
    for key in NPZ_ARRAYS:
        if key not in arrays:
            raise CorpusError(f"{path}: no array {key!r}; expected `utterance` and `features`, found {', '.join(arrays) or 'none'}")
    return as_ids(arrays["utterance"], path), arrays["features"]


def _read_id_list(path: Path) -> list[str]:
    for beside in (path.with_suffix(".ids.txt"), path.with_suffix(".ids.json")):
        if stay_inside(beside).is_file():
            try:
                text = content_of(beside).decode("utf-8-sig")
            except (UnicodeDecodeError, OSError) as error:
                raise CorpusError(f"{beside}: not readable as UTF-8 text ({error})") from error
            return [line for line in text.split("\n") if line] if beside.suffix == ".txt" else parse_ids(text, beside)
    raise CorpusError(
        f"{path}: no utterance ids in the same folder; expected {path.stem}.ids.txt (one id per line) or {path.stem}.ids.json"
    )


def _read_safetensors(path: Path) -> tuple[list[str], np.ndarray]:
    try:
        tensors, metadata = load_tensors(path)
    except CheckpointError as error:
        raise CorpusError(str(error)) from error
    if "features" not in tensors:
        raise CorpusError(f"{path}: no tensor 'features'; found {', '.join(tensors) or 'none'}")
    if "utterance" not in metadata:
        raise CorpusError(f"{path}: no key 'utterance' (a JSON list of ids) in the metadata; found {', '.join(metadata) or 'none'}")
    features = tensors["features"]
    return parse_ids(metadata["utterance"], path), (features.float() if features.is_floating_point() else features).numpy()


def _read_folder(path: Path) -> tuple[list[str], np.ndarray]:
    files = sorted(file for file in path.iterdir() if file.suffix == ".npy" and not file.name.startswith("."))
    if not files:
        raise CorpusError(f"{path}: a folder without .npy files; expected one <utterance>.npy per utterance")
    rows: list[np.ndarray] = []
    for file in files:
        row = load_array(stay_inside(file))
        _check_array(row, file)
        if row.ndim == 2:
            raise CorpusError(
                f"{file}: expected one vector per utterance (1-D), found a sequence of shape {row.shape}; "
                "name the folder under [sequences] of corpus.toml, or average each array over time"
            )
        if row.ndim != 1 or (rows and row.shape != rows[0].shape):
            raise CorpusError(
                f"{file}: expected a vector{f' of {rows[0].shape[0]} numbers' if rows else ''}, found an array of shape {row.shape}"
            )
        rows.append(row)
    return [file.stem for file in files], np.stack(rows)


# -- writing -------------------------------------------------------------------------------


def write_features(path: str | os.PathLike[str], ids: Sequence[str], features: Tensor, note: Mapping[str, Any]) -> None:
    """Write vectors to a `.safetensors` file, atomically. The file can be listed in `corpus.toml`.

    Args:
        path: The file.
        ids: `n` utterance ids.
        features: Vectors `(n, d)`, one per id.
        note: Origin of the features (model, layer, versions) as plain JSON values, stored under the metadata key `note`.

    Raises:
        StorageError: the file cannot be written.
    """
    save_tensors(path, {"features": features}, {"utterance": json.dumps(list(ids)), "note": json.dumps(dict(note))})


def read_note(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the origin of the features or sequences in a file, from the metadata key `note`; return `{}` if the file has no such key."""
    try:
        _, metadata = load_tensors(path)
        note = json.loads(metadata.get("note", "{}"))
    except (CheckpointError, ValueError, RecursionError):  # whoever reads the numbers says what is wrong with the file
        return {}
    return note if isinstance(note, dict) else {}
