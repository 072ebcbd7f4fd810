"""Bulk labelling of any number of files, with several worker processes.

Large JSON lines and Parquet files are split into shards, which contain whole conversations. Every other file is one shard. The result of a
shard is first written, then recorded in `shards.jsonl`. After an interruption, the same command continues and skips all recorded shards.
When all shards are complete, the records are sorted in the order of the input.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from array import array
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from pathlib import Path, PurePath
from typing import Any, BinaryIO

import numpy as np
import torch

from erc_graph.data.files.budget import content_of
from erc_graph.data.files.journal import Journal, Record
from erc_graph.data.files.shards import BYTES, TURNS, Shard, cut, find_sources
from erc_graph.data.files.storage import atomic_write, tidy, write_json
from erc_graph.data.progress import Progress
from erc_graph.errors import ConfigError, CorpusError, ErcGraphError
from erc_graph.experiments.lock import LOCK, alone
from erc_graph.experiments.settings import named_again
from erc_graph.experiments.workers import Launcher, WorkerGone, answers_of, check_launcher, threads_each
from erc_graph.inference.label_files import Form, write_labels
from erc_graph.inference.labeller import Labeller
from erc_graph.inference.pipeline import Pipeline
from erc_graph.methods.own_file import find_method

ABOUT, SHARDS, REFUSED = "about.json", "shards.jsonl", "refused.jsonl"
FORMAT = "erc_graph labels"
SAID = {  # in an error message: what determines the labels, as the user gave it
    "model_sha256": "--model", "extractors": "--extractor", "form": "--csv/--json", "cut": "the version of erc_graph", "unsure": "--unsure",
}  # fmt: skip
RETRIES = 3  # of Ray, where a machine is gone
NOTED = {"shard", "source", "bytes", "modified", "conversations", "turns", "refused", "notes"}  # of a line of SHARDS


@dataclass(frozen=True, kw_only=True)
class Labelling:
    """The settings of bulk labelling, which are the same for all input files.

    Attributes:
        model: Folder of a run, a saved model, or a name on the Hugging Face hub.
        method: File and class of a user's own method.
        extractors: Pairs of modality and encoder, which replace the encoders recorded in the model.
        form: Format of the results; default: Parquet for Parquet input, JSON lines for other input.
        unsure: Threshold; an utterance is marked as unsure if its highest probability is lower. Default: no utterance is marked.
        out: Folder of the results, as an absolute path.
    """

    model: str
    method: str | None = None
    extractors: tuple[tuple[str, str], ...] = ()
    form: Form | None = None
    unsure: float | None = None
    out: str = ""

    def form_of(self, shard: Shard) -> Form:
        """Return the format in which the result of a shard (an input file or a section of it) is written."""
        return self.form or ("parquet" if shard.source.path.suffix.lower() == ".parquet" else "jsonl")

    def file_of(self, shard: Shard) -> str:
        """Return the path of the result of a shard (an input file or a section of it), relative to the output folder."""
        name = f"{shard.name}.{self.form_of(shard)}"
        return f"{shard.name}.labels.{self.form_of(shard)}" if name in (SHARDS, REFUSED) else name


@dataclass
class Total:
    """Counts of bulk labelling: labelled conversations, labelled utterances (`turns`), and refused inputs."""

    conversations: int = 0
    turns: int = 0
    refused: int = 0


def label_all(
    paths: Sequence[str],
    labelling: Labelling,
    *,
    launcher: Launcher = "local",
    workers: int | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Total:
    """Label all conversations in files and folders.

    The result does not depend on the number of workers or on interruptions. Each worker computes with OMP_NUM_THREADS threads (default: 1).

    Args:
        paths: Files and folders.
        labelling: The settings.
        launcher: `local`: workers are processes on this machine; `ray`: workers are tasks of a Ray cluster.
        workers: Number of workers; default: one, in this process; with `ray`: one per processor of the cluster.
        say: Function that is called once with each note for the user.

    Raises:
        CorpusError: a path does not exist, or no input could be labelled.
        ConfigError: the output folder has other files or results of another model or format, or another process uses the folder.
        CheckpointError: the model or an encoder of the model cannot be loaded.
        ErcGraphError: a worker process has died.
    """
    out = Path(labelling.out)
    check_launcher(launcher, workers)
    size = sum(source.size for source in find_sources(paths, out))
    about = {"format": FORMAT, **_about(labelling)}
    with alone(out):
        _check_folder(out, about)
        _tidy(out)
        write_json(out / ABOUT, about)
        with Journal(out / SHARDS, _shard_of) as journal, _threads():
            plan = _Plan(paths, labelling, journal)
            progress = _Progress(size, say)
            with closing(_labelled(plan, labelling, launcher, workers)) as done:
                for shard, record in done:
                    if isinstance(record, ErcGraphError):
                        raise record
                    plan.order[plan.running.pop(shard.name)] = journal.add(record)
                    progress.add(record, shard, plan.skipped)
            progress.close()
            _tidy(out)  # tasks of a Ray cluster live on for a moment when the process that gave them was killed
            return _finish(out, journal, plan, say)


def _tidy(out: Path) -> None:
    for folder, _, _ in os.walk(out):
        tidy(Path(folder))


def _labelled(
    plan: _Plan, labelling: Labelling, launcher: Launcher, workers: int | None
) -> Generator[tuple[Shard, Record | ErcGraphError], None, None]:
    if launcher == "local" and (workers or 1) == 1:
        yield from ((shard, label_shard(labelling, shard)) for shard in plan)
        return
    try:
        answers = answers_of(
            label_shard, labelling, plan, launcher=launcher, workers=workers, name=lambda shard: shard.name, retries=RETRIES
        )
        with closing(answers):
            yield from answers
    except WorkerGone as gone:
        raise ErcGraphError(
            f"{gone}: the worker process that labelled this part of the input has died (killed, or out of memory); all "
            "finished results are kept; repeat the command to continue, with fewer --workers if memory was the reason"
        ) from None


def label_shard(labelling: Labelling, shard: Shard) -> Record | ErcGraphError:
    """Label a shard (an input file or a section of it), write its result, and return its record, or an error that concerns all shards."""
    try:
        said = _labeller(labelling.model, labelling.method, labelling.extractors, labelling.unsure)(shard)
        file = labelling.file_of(shard)
        if said.rows:
            write_labels(Path(labelling.out) / file, labelling.form_of(shard), said.rows, _pipeline(labelling).task.labels)
    except ErcGraphError as refusal:
        return refusal
    record: Record = {"shard": file, "source": shard.source.name, "bytes": shard.source.size, "modified": shard.source.modified}
    where = f"{shard.source.path}: "  # the folder is not of interest to who reads the list elsewhere
    refused = [
        {key: value.removeprefix(where) if key == "reason" else value for key, value in asdict(one).items() if value not in ("", None)}
        for one in said.refused
    ]
    if not shard.only:
        record["names"] = base64.b64encode(_digests(answer.dialogue for answer, _ in said.rows)).decode()
    return {**record, "conversations": said.conversations, "turns": len(said.rows), "refused": refused, "notes": said.notes}


def _digests(names: Iterable[str]) -> bytes:
    """Return a hash of eight bytes for each different name, joined together."""
    return b"".join(hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest() for name in dict.fromkeys(names))


@lru_cache(maxsize=1)
def _labeller(model: str, method: str | None, extractors: tuple[tuple[str, str], ...], unsure: float | None) -> Labeller:
    """Load the model; later calls in the same process return the same object."""
    own = named_again(model, method)
    return Labeller(Pipeline.from_pretrained(model, find_method(own) if own else None), dict(extractors), unsure)


def _pipeline(labelling: Labelling) -> Pipeline:
    return _labeller(labelling.model, labelling.method, labelling.extractors, labelling.unsure).pipeline


def _about(labelling: Labelling) -> dict[str, Any]:
    """Return the settings that determine the labels, with a SHA-256 of the model."""
    method = _pipeline(labelling).method
    digest = hashlib.sha256(json.dumps(method.describe(), sort_keys=True, default=str).encode())
    for name, value in sorted(method.state_dict().items()):
        digest.update(name.encode() + value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return {
        "model_sha256": digest.hexdigest(), "extractors": dict(labelling.extractors), "form": labelling.form, "cut": [TURNS, BYTES],
        "unsure": labelling.unsure,
    }  # fmt: skip


def _check_folder(out: Path, about: dict[str, Any]) -> None:
    """Check that the output folder is new, or has labels that were made with the same settings."""
    if not (out / ABOUT).is_file():
        others = sorted(entry.name for entry in os.scandir(out) if entry.name != LOCK and not entry.name.startswith(f".{ABOUT}."))
        if others:
            raise ConfigError(
                f"--out: expected a new folder, or a folder with labels of the same model, found {out} with {others[0]!r} in it; "
                "choose another --out"
            )
        return
    try:
        found = json.loads(content_of(out / ABOUT))
    except (OSError, ValueError, RecursionError):
        found = {}
    found = found if isinstance(found, dict) else {}
    if found.get("format") != FORMAT:
        raise ConfigError(
            f"--out: expected a new folder, or a folder with labels of this command, found {out}, whose {ABOUT} was written "
            "by another program; choose another --out"
        )
    if other := [name for name, value in about.items() if found.get(name) != value]:
        differ = ", ".join(SAID.get(name, name) for name in other)
        raise ConfigError(
            f"--out: expected a folder whose labels were made with the same options, found {out}, whose labels were made with "
            f"another value of {differ}; repeat the earlier options, give a new folder, or remove the old folder"
        )


@contextmanager
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads_each())
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _shard_of(record: Record) -> str | None:
    """Return the result file that a record names; `None` if the record is incomplete or the file is outside the output folder."""
    if not record.keys() >= NOTED or not isinstance(record["shard"], str):
        return None
    place = PurePath(record["shard"])
    return None if place.is_absolute() or ".." in place.parts else record["shard"]


class _Plan:
    """The shards (input files or sections of them) that have no result yet, in the order of the input."""

    def __init__(self, paths: Sequence[str], labelling: Labelling, journal: Journal) -> None:
        self.paths, self.labelling, self.journal = paths, labelling, journal
        self.order = array("q")  # where each shard's line begins in the journal
        self.running: dict[str, int] = {}
        self.left = dict(journal.place)  # earlier ones that are not met (again)
        self.skipped = 0.0  # bytes of what is done already

    def __iter__(self) -> Iterator[Shard]:
        out = Path(self.labelling.out)
        for source in find_sources(self.paths, out):
            for shard in cut(source):
                place = self.left.pop(self.labelling.file_of(shard), None)
                if place is not None and self._stands(place, shard, out):
                    self.order.append(place)
                    self.skipped += shard.share * source.size
                    continue
                self.running[shard.name] = len(self.order)
                self.order.append(-1)
                yield shard

    def _stands(self, place: int, shard: Shard, out: Path) -> bool:
        """Return whether the result of a shard exists, and its input file has not changed since the result was written."""
        record = json.loads(self.journal.line(place))
        same = (record["bytes"], record["modified"]) == (shard.source.size, shard.source.modified)
        return same and (not record["turns"] or (out / record["shard"]).is_file())


class _Progress:
    """A progress bar for bulk labelling, which also prints each note once."""

    def __init__(self, size: int, say: Callable[[str], None]) -> None:
        self.say = say
        self.bar = Progress(total=size, desc="labelling", unit="B", unit_scale=True)
        self.turns, self.done = 0, 0.0
        self.notes: dict[str, int] = {}

    def add(self, record: Record, shard: Shard, skipped: float) -> None:
        self.turns += record["turns"]
        self.done += shard.share * shard.source.size
        self.bar.n = int(self.done + skipped)
        self.bar.initial = int(skipped)
        self.bar.set_postfix_str(f"{self.turns} turns", refresh=False)
        self.bar.update(0)
        for note in record["notes"]:
            if note not in self.notes and len(self.notes) < 100:
                self.say(f"{record['source']}: {note}")
                self.notes[note] = 0
            if note in self.notes:
                self.notes[note] += 1

    def close(self) -> None:
        self.bar.close()
        for note, times in self.notes.items():
            if times > 1:
                self.say(f"in {times} shards: {note}")


def _finish(out: Path, journal: Journal, plan: _Plan, say: Callable[[str], None]) -> Total:
    """Sort the records of all shards in input order, list the refused inputs, and delete old results of files that have changed."""
    total, first, gone = Total(), "", 0
    given = {json.loads(journal.line(place))["source"] for place in plan.order} if plan.left else set()
    for name, place in plan.left.items():
        if json.loads(journal.line(place))["source"] in given:
            with suppress(OSError):
                (out / name).unlink()
        else:
            gone += 1
    if gone:
        say(f"{gone} shards in {out} belong to files that are not in the input; these shards are not changed")
    with (
        atomic_write(out / SHARDS) as shards,
        atomic_write(out / REFUSED) as refused,
        shards.open("wb") as file,
        refused.open("wb") as other,
    ):
        for source, records in groupby(_records(plan, journal, file), key=itemgetter("source")):
            names = array("Q")
            for record in records:
                names.frombytes(base64.b64decode(record.get("names", "")))
                total.conversations += record["conversations"]
                total.turns += record["turns"]
                found = record["refused"]
                first = first or next((f"{one['source']}: {one['reason']}" for one in found), "")
                total.refused += _write_lines(other, found)
            total.refused += _write_lines(other, _torn(source, names))
    if not total.refused:
        (out / REFUSED).unlink()
    if total.refused and not total.turns:
        raise CorpusError(
            f"none of the {total.refused} inputs could be labelled ({out / REFUSED} lists the reasons); the first input: {first}"
        )
    return total


def _records(plan: _Plan, journal: Journal, file: BinaryIO) -> Iterator[Record]:
    """Yield the recorded result of each shard (input file or section of it) in input order, and copy its line to `file`."""
    for place in plan.order:
        line = journal.line(place)
        file.write(line)
        yield json.loads(line)


def _write_lines(file: BinaryIO, records: Sequence[Record]) -> int:
    file.writelines(json.dumps(record).encode("ascii") + b"\n" for record in records)
    return len(records)


def _torn(source: str, names: array[int]) -> list[Record]:
    """Return a list with an error if conversations of a file are split over two sections of the file, otherwise an empty list."""
    again = len(names) - len(np.unique(np.frombuffer(names, dtype=np.uint64))) if names else 0
    if not again:
        return []
    reason = (
        f"expected the rows of a conversation together, found {again} conversations with rows at two places of the file, each labelled as "
        "two conversations; sort the file by conversation, and label it again"
    )
    return [{"source": source, "reason": reason}]
