"""Loading a corpus from a path: the format is recognised first, then the files are read."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from erc_graph.data.annotations import Annotations
from erc_graph.data.corpus import Corpus
from erc_graph.data.files.assembly import assemble
from erc_graph.data.files.budget import reading
from erc_graph.data.files.feature_files import read_note
from erc_graph.data.files.notes import noting
from erc_graph.data.files.saved_corpus import MANIFEST as SAVED
from erc_graph.data.files.saved_corpus import TENSORS, read_saved
from erc_graph.data.files.storage import stay_inside, tidy
from erc_graph.data.printable import one_line
from erc_graph.data.tasks import Task, get_task
from erc_graph.errors import CorpusError

MANIFEST = "corpus.toml"
SPLITS = ("train", "dev", "test")
RELEASES = (  # files of a folder that are a corpus together, as MELD, EmoryNLP, DailyDialog, GoEmotions and ConvoKit come
    tuple(f"{split}_sent_emo.csv" for split in SPLITS),
    tuple(f"{split}_sent_emo_dya.csv" for split in SPLITS),
    tuple(f"emorynlp_{split}_final.csv" for split in SPLITS),
    ("emotion-detection-trn.json", "emotion-detection-dev.json", "emotion-detection-tst.json"),
    tuple(f"{split}/dialogues_{split}.txt" for split in ("train", "validation", "test")),
    ("dialogues_text.txt",),
    ("utterances.jsonl",),
    ("train.tsv", "dev.tsv", "test.tsv"),
)


def load_corpus(path: str | os.PathLike[str], *, task: str | Task | None = None, strict: bool = False, name: str | None = None) -> Corpus:
    """Load the corpus at `path`; its format is recognised automatically.

    Args:
        path: A folder with `corpus.toml`, a folder written by `Corpus.save`, an annotation file, or the folder of a released data set, such
            as `IEMOCAP_full_release`. The path can also be the name of a generated corpus: `sample`, or `sample-raw` with words, waveforms
            and face frames. Write `./sample` for a file that is called `sample`.
        task: Task that defines the classes to predict, for example `iemocap4`. Default: the default task of the corpus.
        strict: Raise an error for features with NaN, inf or numbers beyond 1e15 instead of treating them as missing.
        name: Name of the loaded corpus.

    Raises:
        CorpusError: the path cannot be read as a corpus. The message says what was expected, what was found, where, and what to do.
        ConfigError: the task is unknown.

    >>> load_corpus("sample").task.name
    'sample6'
    """
    chosen = get_task(task) if isinstance(task, str) else task
    with reading(path), noting() as heard:
        if os.fspath(path) == "sample":  # whatever stands in the working directory
            from erc_graph.data.sample.vectors import sample_corpus

            return _renamed(sample_corpus(), chosen, name)
        if os.fspath(path) == "sample-raw":
            from erc_graph.data.sample.raw import sample_raw_corpus

            return _renamed(sample_raw_corpus(), chosen, name)
        corpus = _load(Path(path), chosen, strict, name)
        notes = list(dict.fromkeys([*corpus.provenance.get("notes", ()), *heard]))
        return replace(corpus, provenance={**corpus.provenance, "notes": notes}) if heard else corpus


def _load(path: Path, chosen: Task | None, strict: bool, name: str | None) -> Corpus:
    if not _exists(path):
        tidy(path.parent, path.name)  # a process that was killed between two names
    if not _exists(path):
        raise CorpusError(
            f"{path}: no such file or folder; expected a folder with {MANIFEST}, a saved corpus, an annotation file, or "
            "`sample` or `sample-raw` for a generated corpus"
        )
    if path.is_dir():
        if (path / MANIFEST).is_file():
            return _load_manifest(path / MANIFEST, chosen, strict, name)
        if (path / SAVED).is_file():
            return _renamed(Corpus(**read_saved(path, strict=strict)), chosen, name)
        for files in RELEASES:
            if all((path / file).is_file() for file in files):
                return _load_files([stay_inside(path / file) for file in files], chosen, strict, name)
        from erc_graph.data.files.formats.iemocap import is_release, release_annotations

        if is_release(path):
            return assemble(release_annotations(path), task=chosen, name=name or "iemocap", strict=strict)
        found = ", ".join(one_line(file.name) for file in sorted(path.iterdir())[:4]) or "nothing"
        raise CorpusError(
            f"{path}: a folder without {MANIFEST}, {SAVED}, or the files of a released data set; found {found}; "
            f'write a {MANIFEST} there with at least the line annotations = "<file>"'
        )
    if path.suffix == ".toml":
        return _load_manifest(path, chosen, strict, name)
    if path.name == SAVED and (path.parent / TENSORS).exists():
        return _renamed(Corpus(**read_saved(path, strict=strict)), chosen, name)
    return _load_files([path], chosen, strict, name)


def is_corpus(folder: Path) -> bool:
    """Return whether a folder is a corpus: it has `corpus.toml`, was saved by `Corpus.save`, or is a released data set."""
    from erc_graph.data.files.formats.iemocap import is_release

    known = any(all((folder / file).is_file() for file in files) for files in ((MANIFEST,), (SAVED,), *RELEASES))
    return known or is_release(folder)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError, RuntimeError):  # a name too long for the file system or with a NUL, links in a circle
        return False


def _renamed(corpus: Corpus, task: Task | None, name: str | None) -> Corpus:
    corpus = corpus if task is None or task == corpus.task else corpus.with_task(task)
    return corpus if name is None else replace(corpus, name=name)


def _load_manifest(path: Path, task: Task | None, strict: bool, name: str | None) -> Corpus:
    from erc_graph.data.files.manifest import read_manifest  # pydantic takes a while to import

    manifest = read_manifest(path)
    files = [
        *manifest.annotations,
        *([manifest.splits] if manifest.splits else []),
        *manifest.features.values(),
        *manifest.sequences.values(),
    ]
    place = {**manifest.sequences, **manifest.features}
    said = {name: read_note(file) for name, file in place.items()}
    made = {name: _located(note["extractor"], place[name].parent) for name, note in said.items() if isinstance(note.get("extractor"), str)}
    fitted = {name: note["fitted"] for name, note in said.items() if isinstance(note.get("fitted"), dict)}
    corpus = assemble(
        _read(manifest.annotations, manifest.dataset),
        dataset=manifest.dataset,
        task=task or (get_task(manifest.task) if manifest.task else None),
        labels=manifest.labels,
        splits=manifest.splits,
        features=manifest.features,
        sequences=manifest.sequences,
        extractors={**made, **manifest.extractors},
        name=name or manifest.name,
        strict=strict,
        files={file.relative_to(path.parent).as_posix(): file for file in files},
    )
    return replace(corpus, provenance={**corpus.provenance, "fitted": fitted}) if fitted else corpus


def _located(extractor: str, beside: Path) -> str:
    """Return the name of an encoder. If the name is a folder relative to the folder `beside`, it becomes an absolute path."""
    folder, colon, options = extractor.partition(":")
    return f"{(beside / folder).resolve()}{colon}{options}" if (beside / folder).is_dir() else extractor


def _load_files(files: Sequence[Path], task: Task | None, strict: bool, name: str | None) -> Corpus:
    annotations = _read(files)
    name = name or annotations.dataset or (files[0].stem if len(files) == 1 else files[0].resolve().parent.name)
    return assemble(annotations, task=task, name=name, strict=strict, files={file.name: file for file in files})


def _read(files: Iterable[Path], dataset: str | None = None) -> Annotations:
    from erc_graph.data.files.formats import merge_annotations, read_annotations

    parts = [read_annotations(file, dataset=dataset) for file in files]
    return parts[0] if len(parts) == 1 else merge_annotations(parts)
