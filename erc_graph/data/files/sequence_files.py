"""Reading of sequence files, and assignment of their sequences to the utterances of a corpus.

A sequence file has one sequence of words, frames or samples per utterance id.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from erc_graph.data.files.feature_files import as_ids, check_unique, find_rows, load_array, parse_ids
from erc_graph.data.files.media import PICTURES, VIDEOS, list_media
from erc_graph.data.files.pictures import read_frames
from erc_graph.data.files.sound import ENDINGS, read_header, read_sound
from erc_graph.data.files.storage import load_tensors, save_tensors, stay_inside
from erc_graph.data.numbers import UNFIT, fit_items
from erc_graph.data.ragged import SAMPLING_RATE, Ragged
from erc_graph.errors import CheckpointError, CorpusError

FORMS = (
    ".safetensors with the tensors `values` and `offsets` and the ids as JSON in the metadata key `utterance`, "
    ".npz with `utterance`, `values` and `offsets`, or a folder with, per utterance, one <utterance>.npy of shape (items, ...), one sound "
    "file, one video, or one folder of images"
)
ARRAYS = ("utterance", "values", "offsets")
FRAMES = 32  # pictures per utterance; of more, so many at equal distances are taken


def read_sequences(
    path: str | os.PathLike[str], *, strict: bool = False, notes: list[str] | None = None, sound: bool = False
) -> tuple[list[str], Ragged]:
    """Read the utterance ids and sequences of a file or folder.

    Args:
        path: A `.safetensors` file (memory-mapped), an `.npz` file, or a folder. For each utterance, a folder contains `<utterance>.npy`,
            an audio file, a video, or a subfolder of images. Audio is converted to mono and 16 kHz. At most `FRAMES` images per utterance
            are used.
        strict: Raise an error for a file that is unreadable, empty or silent (all samples equal). Otherwise the file is left out.
        notes: List to which notes about resampled, transposed or left-out files are added.
        sound: Read the audio of videos, not their images.

    Returns:
        `n` utterance ids and `n` sequences. Images are uint8, all other sequences are float32.

    Raises:
        CorpusError: the file is not a sequence file, is damaged, or contains Python objects, duplicate ids or wrong offsets (start
            positions). It is also raised if images are not uint8, or audio samples are far outside [-1, 1].
        ConfigError: the libraries that read audio files or videos are not installed.
    """
    path, notes = Path(path), [] if notes is None else notes
    if path.is_dir():
        ids, values, offsets = _read_folder(path, strict, notes, sound)
    elif path.suffix == ".safetensors":
        ids, values, offsets = _read_safetensors(path)
    elif path.suffix == ".npz":
        ids, values, offsets = _read_npz(path)
    else:
        raise CorpusError(f"{path}: not a file of sequences; expected {FORMS}")
    if not len(values.shape) or any(size == 0 for size in values.shape[1:]):
        raise CorpusError(
            f"{path}: expected `values` of shape (items, ...), where items are words, frames or samples, found {tuple(values.shape)}"
        )
    values = _checked_items(values, path, notes)
    if offsets.ndim != 1 or len(offsets) != len(ids) + 1:
        raise CorpusError(
            f"{path}: {len(ids)} utterance ids but offsets of shape {tuple(offsets.shape)}; "
            "expected one offset (number of the first item) per id, and one more for the end"
        )
    check_unique(ids, path)
    try:
        return ids, Ragged(values, offsets)
    except CorpusError as error:
        raise CorpusError(f"{path}: {error}") from None


def write_sequences(path: str | os.PathLike[str], ids: Sequence[str], sequences: Ragged, note: Mapping[str, Any]) -> None:
    """Write sequences to a `.safetensors` file, atomically. The file can be listed in `corpus.toml`.

    Args:
        path: The file.
        ids: `n` utterance ids.
        sequences: `n` sequences.
        note: Origin of the sequences (model, layer, versions) as plain JSON values, stored under the metadata key `note`.

    Raises:
        StorageError: the file cannot be written.
    """
    metadata = {"utterance": json.dumps(list(ids)), "note": json.dumps(dict(note))}
    save_tensors(path, {"values": sequences.values, "offsets": sequences.ptr}, metadata)


def join_sequences(
    ids: Sequence[str], sequences: Ragged, utterance_ids: Sequence[str], *, where: str = "sequences", strict: bool = False
) -> tuple[Ragged, list[str]]:
    """Sort sequences in the order of the utterances of a corpus.

    Args:
        ids: `n` utterance ids, one per sequence.
        sequences: `n` sequences.
        utterance_ids: `U` utterance ids of the corpus.
        where: Name of the sequences in messages, for example `sequences.text (words.npz)`.
        strict: Raise an error for words, frames or samples with invalid numbers, such as NaN, instead of leaving them out.

    Returns:
        `U` sequences, empty if missing; messages about missing and unused sequences, and about left-out words, frames or samples.

    Raises:
        CorpusError: no sequence belongs to an utterance of the corpus, or there are invalid numbers and `strict` is set.
    """
    row, report = find_rows(ids, utterance_ids, where)
    values, lengths, start = sequences.values, sequences.lengths, sequences.ptr[:-1]
    if values.is_floating_point() and len(values):
        finite = fit_items(values)
        if not finite.all():  # as the audio of MMSA's MOSEI, which has -inf in it
            count = int((~finite).sum())
            owner = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
            first = ids[int(owner[~finite][0])]
            if strict:
                raise CorpusError(
                    f"{where}: words, frames or samples with {UNFIT}: {count} (first in {first}), which the option `strict` does not "
                    "allow; without this option, they are left out"
                )
            report.append(f"{where}: words, frames or samples with {UNFIT} are left out: {count} (first in {first})")
            values, lengths = values[finite], torch.zeros_like(lengths).index_add(0, owner, finite.long())
            start = lengths.cumsum(0) - lengths
    kept = Ragged(values, torch.cat([start, start.new_full((1,), len(values))]))
    if list(utterance_ids) == list(ids):
        return kept, report  # as it lies on the disk
    nothing = Ragged(values, torch.cat([kept.ptr, kept.ptr[-1:]]))  # one more, empty, for those without a row
    return nothing.take(torch.from_numpy(np.where(row < 0, len(ids), row))), report


def _checked_items(values: Tensor, path: Path, notes: list[str]) -> Tensor:
    """Return `values` after a check: images must be uint8, audio samples must be in [-1, 1]. Image channels are moved to the front."""
    if values.ndim == 4:
        if values.dtype != torch.uint8:
            raise CorpusError(
                f"{path}: images of shape {tuple(values.shape[1:])} with floating-point values; expected bytes (uint8), 0 to 255"
            )
        if values.shape[1] not in (1, 3) and values.shape[3] in (1, 3):
            notes.append(f"{path.name}: images of shape {tuple(values.shape[1:])}; the channel axis is moved to the front")
            return values.permute(0, 3, 1, 2).contiguous()
    if values.ndim == 1 and len(values):
        most = float(torch.where(values.isfinite(), values, 0).abs().max())
        if values.dtype == torch.uint8 or most > 2:  # a little beyond 1 is what resampling does
            raise CorpusError(
                f"{path}: audio samples up to {most:g}; expected a waveform with samples in [-1, 1]; divide 16-bit samples by 32768"
            )
    return values


# -- the three forms -----------------------------------------------------------------------


def _numbers(values: np.ndarray, path: Path) -> Tensor:
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiub":
        raise CorpusError(f"{path}: values of type {getattr(values, 'dtype', type(values).__name__)}; expected numbers")
    with np.errstate(over="ignore"):  # a number beyond float32 becomes inf, and is left out as such
        return torch.from_numpy(values if values.dtype == np.uint8 else values.astype(np.float32))


def _read_npz(path: Path) -> tuple[list[str], Tensor, Tensor]:
    arrays = load_array(path, ARRAYS)
    if not isinstance(arrays, dict):
        raise CorpusError(f"{path}: a single array; expected an .npz archive with {', '.join(ARRAYS)}")
    for key in ARRAYS:
        if key not in arrays:
            raise CorpusError(f"{path}: no array {key!r}; expected {', '.join(ARRAYS)}, found {', '.join(arrays) or 'none'}")
    offsets = arrays["offsets"]
    if offsets.dtype.kind not in "iu":
        raise CorpusError(f"{path}: offsets of type {offsets.dtype}; expected integers")
    return as_ids(arrays["utterance"], path), _numbers(arrays["values"], path), torch.from_numpy(offsets.astype(np.int64))


def _read_safetensors(path: Path) -> tuple[list[str], Tensor, Tensor]:
    try:
        tensors, metadata = load_tensors(path)
    except CheckpointError as error:
        raise CorpusError(str(error)) from error
    lacking = [name for name in ("values", "offsets") if name not in tensors]
    if lacking:
        raise CorpusError(f"{path}: no tensor {lacking[0]!r}; expected `values` and `offsets`, found {', '.join(tensors) or 'none'}")
    if "utterance" not in metadata:
        raise CorpusError(f"{path}: no key 'utterance' (a JSON list of ids) in the metadata; found {', '.join(metadata) or 'none'}")
    values, offsets = tensors["values"], tensors["offsets"]
    if offsets.is_floating_point() or offsets.is_complex() or offsets.dtype == torch.bool:
        raise CorpusError(f"{path}: offsets of type {offsets.dtype}; expected integers")
    values = values if values.dtype in (torch.uint8, torch.float32) else values.float()
    return parse_ids(metadata["utterance"], path), values, offsets.long()


def _read_folder(path: Path, strict: bool, notes: list[str], sound: bool) -> tuple[list[str], Tensor, Tensor]:
    kinds = {
        ".npy files": list_media(path, (".npy",)),
        "audio files": list_media(path, (*ENDINGS, *(VIDEOS if sound else ()))),
        "videos": list_media(path, VIDEOS if not sound else ()),
        "folders of images": list_media(path, ("",)),
    }
    here = {kind: files for kind, files in kinds.items() if files}
    if len(here) > 1:
        found_here = " and ".join(f"{len(files)} {kind}" for kind, files in here.items())
        raise CorpusError(f"{path}: contains {found_here}; expected files of one kind; move the files of other kinds to another folder")
    if not here:
        raise CorpusError(
            f"{path}: contains no readable file; expected per utterance one <utterance>.npy of shape (items, ...), one audio file "
            f"({', '.join(ENDINGS)}), one video ({', '.join(VIDEOS)}) or one folder of images ({', '.join(PICTURES)})"
        )
    (kind, files), *_ = here.items()
    if kind == ".npy files":
        return _read_arrays(files)
    if kind == "audio files":
        ids, sequences = read_sounds(path, files, strict=strict, notes=notes)
        return ids, sequences.values, sequences.ptr
    return _read_pictures(path, files, kind, strict, notes)


def _read_arrays(files: Mapping[str, Path]) -> tuple[list[str], Tensor, Tensor]:
    found: list[Tensor] = []
    for file in files.values():
        values = _numbers(load_array(stay_inside(file)), file)
        if not values.ndim or (found and values.shape[1:] != found[0].shape[1:]):
            raise CorpusError(
                f"{file}: expected items of one shape {tuple(found[0].shape[1:]) if found else ''} in all files of the folder, "
                f"found an array of shape {tuple(values.shape)}, whose first axis counts the items"
            )
        found.append(values)
    if len({values.dtype for values in found}) > 1:
        found = [values.float() for values in found]
    sequences = Ragged.of(found)
    return list(files), sequences.values, sequences.ptr


def read_sounds(path: Path, files: Mapping[str, Path], *, strict: bool = False, notes: list[str]) -> tuple[list[str], Ragged]:
    """Read the audio of utterances from audio files or videos, and return utterance ids and 16 kHz waveforms of readable files.

    Raises:
        CorpusError: no file can be read, or with `strict` at least one file cannot be read.
        ConfigError: the libraries for audio are not installed.
    """
    rates: Counter[int] = Counter()

    def heard(file: Path) -> Tensor:
        wave = read_sound(file)
        rates[read_header(file).rate] += 1
        return wave

    ids, waves = _readable(path, files, "audio files", heard, strict, notes)
    if others := {rate: count for rate, count in sorted(rates.items()) if rate != SAMPLING_RATE}:
        said = ", ".join(f"{count} of {rate} Hz" for rate, count in others.items())
        notes.append(f"{path.name}: audio files are resampled to {SAMPLING_RATE} Hz: {said}")
    return ids, Ragged.of(waves)


def _read_pictures(path: Path, files: Mapping[str, Path], kind: str, strict: bool, notes: list[str]) -> tuple[list[str], Tensor, Tensor]:
    ids, frames = _readable(path, files, kind, lambda file: read_frames(file, FRAMES), strict, notes)
    for name, own in zip(ids, frames, strict=True):
        if own.shape[1:] != frames[0].shape[1:]:
            sizes = [" x ".join(map(str, one.shape[2:])) for one in (frames[0], own)]
            raise CorpusError(f"{path}: expected images of one size, found {sizes[0]} in {ids[0]} and {sizes[1]} in {name}")
    sequences = Ragged.of(frames)
    return ids, sequences.values, sequences.ptr


def _readable(
    path: Path, files: Mapping[str, Path], kind: str, read: Callable[[Path], Tensor], strict: bool, notes: list[str]
) -> tuple[list[str], list[Tensor]]:
    """Return ids and content of readable files. Unreadable files are reported in `notes` or, with `strict`, raise an error.

    Raises:
        CorpusError: no file can be read, or with `strict` at least one file cannot be read.
    """
    ids: list[str] = []
    found: list[Tensor] = []
    bad: list[str] = []
    for name, file in files.items():
        try:
            found.append(read(stay_inside(file)))
        except CorpusError as error:
            bad.append(str(error))
        else:
            ids.append(name)
    if not found:
        raise CorpusError(f"{path}: none of {len(files)} {kind} can be used; the first error: {bad[0]}")
    if bad and strict:
        raise CorpusError(
            f"{path}: {len(bad)} of {len(files)} {kind} cannot be used, which the option `strict` does not allow; the first error: {bad[0]}"
        )
    if bad:
        notes.append(f"{path.name}: {len(bad)} of {len(files)} {kind} are left out; the first error: {bad[0]}")
    return ids, found
