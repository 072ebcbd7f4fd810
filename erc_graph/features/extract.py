"""Computation of a feature file, in batches of inputs of similar length. An interrupted computation can be continued.

Every twenty seconds, finished features are written to a partial file in the folder `<out>.parts`. At the end, the partial files
are merged into the feature file and removed. If there are several processes (`accelerate launch`), each process computes some batches.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from erc_graph.data.files.budget import content_of
from erc_graph.data.files.feature_files import write_features
from erc_graph.data.files.sequence_files import write_sequences
from erc_graph.data.files.storage import load_tensors, save_tensors, tidy, write_json
from erc_graph.data.progress import Progress
from erc_graph.data.ragged import Ragged
from erc_graph.errors import CheckpointError, CorpusError, StorageError
from erc_graph.features.processes import Share, wait_for
from erc_graph.features.tokens import chunks

PLAN = "plan.json"
SECONDS = 20.0  # between two parts: what a killed run has to do again


@dataclass(frozen=True, kw_only=True)
class Extraction:
    """The inputs and settings of a feature extraction.

    Attributes:
        ids: Ids of the utterances that have an input.
        sizes: Length of each input in tokens, samples or frames. Inputs of similar length form a batch.
        compute: Function that computes the results for a list of positions in `ids`. A result is a vector `(d,)`, a sequence `(T, d)`, or a
            text that gives the reason for a missing result.
        budget: Largest number of tokens, samples or frames per batch, including padding.
        sequences: Whether the outputs are sequences.
        note: Metadata of the feature file: model, layer, pooling and versions. A run can be continued only with the same metadata.
        inputs: Further text that must be the same when a run is continued, such as a hash value of the input texts.
        finish: Function that is called once at the end with the ids and all vectors `(n, d)`. The function returns the vectors to write and
            further metadata.
        half: Whether numbers are written in 16 bits (float16).
    """

    ids: Sequence[str]
    sizes: Sequence[int]
    compute: Callable[[list[int]], list[Tensor | str]]
    budget: int
    sequences: bool
    note: Mapping[str, Any] = field(default_factory=dict)
    inputs: str = ""
    finish: Callable[[Sequence[str], Tensor], tuple[Tensor, dict[str, Any]]] | None = None
    half: bool = False


def check_target(out: Path) -> None:
    """Check that the path of the feature file is not a folder. This check is done before the computation.

    Raises:
        StorageError: the path is a folder.
    """
    if out.is_dir():
        raise StorageError(f"{out}: expected a file to write, found a folder of that name; choose another --out")


def extract(out: Path, extraction: Extraction, *, share: Share | None = None, quiet: bool | None = None) -> dict[str, str]:
    """Compute the features that no earlier run has computed, and write the feature file.

    Args:
        out: Path of the feature file (`.safetensors`).
        extraction: Inputs and settings.
        share: Share of the inputs that this process computes; default: all inputs.
        quiet: Show no progress; default: show a progress bar on a terminal, or else one line per minute.

    Returns:
        Utterance id → reason, for utterances without features.

    Raises:
        CorpusError: no features could be computed.
        CheckpointError: the folder `<out>.parts` has files of a run with other settings or utterances.
        StorageError: the file cannot be written, or the folder `<out>.parts` has files that are not from an interrupted run.
    """
    check_target(out)
    share = share or Share()
    folder = out.with_name(f"{out.name}.parts")
    inputs = json.dumps([list(extraction.ids), list(extraction.sizes), extraction.inputs]).encode()
    plan = {"note": dict(extraction.note), "utterances": hashlib.sha256(inputs).hexdigest()}
    if (folder / PLAN).is_file():
        try:
            same = json.loads(content_of(folder / PLAN)) == json.loads(json.dumps(plan))
        except (OSError, ValueError):
            same = False
        if not same:
            raise CheckpointError(
                f"{folder}: this folder has partial files of another run (other settings or utterances); remove the folder, or "
                "choose another --out"
            )
    elif share.first:
        tidy(folder)  # of a run that was killed
        if folder.exists() and any(folder.iterdir()):
            raise StorageError(
                f"{folder}: this folder exists, but does not belong to an interrupted run; remove the folder, or choose another --out"
            )
        write_json(folder / PLAN, plan)
    else:
        wait_for(lambda: (folder / PLAN).is_file() or out.is_file())
    done = {row for rows in _finished(folder) for row in rows}
    todo = [row for row in range(len(extraction.ids)) if row not in done]
    try:
        _compute(folder, extraction, todo, len(done), share, quiet)
    except BaseException:
        if share.of == 1 and not any(folder.glob("*.safetensors")):  # nothing to go on from
            _remove(folder)
        raise
    if not share.first:
        return {}
    wait_for(lambda: sum(map(len, _finished(folder))) >= len(extraction.ids))
    return _assemble(out, folder, extraction)


def _compute(folder: Path, extraction: Extraction, todo: list[int], done: int, share: Share, quiet: bool | None) -> None:
    batches = [[todo[i] for i in chosen] for chosen in chunks([extraction.sizes[row] for row in todo], extraction.budget)]
    rows: list[int] = []
    values: list[Tensor | str] = []
    since = time.monotonic()
    with Progress(
        total=len(extraction.ids), initial=done, desc=str(extraction.note.get("modality", "features")), disable=quiet, unit="utt"
    ) as bar:
        for number, batch in enumerate(batches):
            if number % share.of == share.number:
                values += extraction.compute(batch)
                rows += batch
                if time.monotonic() - since > SECONDS:
                    _save_part(folder, rows, values)
                    rows, values, since = [], [], time.monotonic()
            bar.update(len(batch))
    if rows:
        _save_part(folder, rows, values)


def _save_part(folder: Path, rows: list[int], values: list[Tensor | str]) -> None:
    good = [value for value in values if isinstance(value, Tensor)]
    tensors = {
        "rows": torch.tensor(rows),
        "lengths": torch.tensor([-1 if isinstance(v, str) else len(v) if v.ndim > 1 else 1 for v in values]),
        "values": torch.cat([value if value.ndim > 1 else value[None] for value in good]) if good else torch.zeros(0, 1),
    }
    reasons = {str(row): value for row, value in zip(rows, values, strict=True) if isinstance(value, str)}
    save_tensors(folder / f"{rows[0]:08d}.safetensors", tensors, {"reasons": json.dumps(reasons)})


def _finished(folder: Path) -> list[list[int]]:
    """Return, for every partial file, the positions of the utterances whose features it contains."""
    try:
        return [load_tensors(path)[0]["rows"].tolist() for path in sorted(folder.glob("*.safetensors"))]
    except CheckpointError as error:
        raise CheckpointError(f"{error}; remove the file and repeat the command, which computes the lost features again") from None


def _assemble(out: Path, folder: Path, extraction: Extraction) -> dict[str, str]:
    found: dict[int, Tensor] = {}
    reasons: dict[str, str] = {}
    for path in sorted(folder.glob("*.safetensors")):
        tensors, metadata = load_tensors(path)
        rows, lengths = tensors["rows"].tolist(), tensors["lengths"]
        parts = tensors["values"].split(lengths.clamp(min=0).tolist())
        found |= {row: part for row, part, length in zip(rows, parts, lengths.tolist(), strict=True) if length >= 0}
        reasons |= {extraction.ids[int(row)]: reason for row, reason in json.loads(metadata["reasons"]).items()}
    if not found:
        first = next(iter(reasons.items()), ("", "nothing to compute"))
        _remove(folder)
        raise CorpusError(f"no utterance has features (reason for {first[0]}: {first[1]}); correct the input and repeat the command")
    order = sorted(found)
    ids = [extraction.ids[row] for row in order]
    note = {**extraction.note, "left_out": len(reasons)}
    if extraction.sequences:
        sequences = Ragged.of([found[row] for row in order])
        write_sequences(out, ids, Ragged(_stored(sequences.values, extraction, out), sequences.ptr), note)
    else:
        vectors = torch.cat([found[row] for row in order])
        if extraction.finish:
            vectors, more = extraction.finish(ids, vectors)
            note |= more
        write_features(out, ids, _stored(vectors, extraction, out), note)
    _remove(folder)
    return reasons


def _stored(values: Tensor, extraction: Extraction, out: Path) -> Tensor:
    """Convert the vectors to the number format of the file.

    Raises:
        CorpusError: a number is too large for 16 bits.
    """
    most = torch.finfo(torch.float16).max
    if extraction.half and (values.abs() > most).any():
        found = float(values.abs().max())
        raise CorpusError(
            f"{out}: the features have numbers up to {found:g}, but 16-bit numbers (--half) are at most {most:g}; omit --half; "
            "finished features are kept"
        )
    return values.half() if extraction.half else values


def _remove(folder: Path) -> None:
    """Remove the partial files first, then their folder with the settings of the run. After a crash in between, a new run can continue."""
    for part in folder.glob("*.safetensors"):
        part.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def versions(*packages: str) -> dict[str, str]:
    """Return a dictionary from package names to versions, for the metadata of a feature file."""
    return {name: importlib.metadata.version(name) for name in packages}
