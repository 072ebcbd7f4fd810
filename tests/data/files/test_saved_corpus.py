from __future__ import annotations

import json
import math
import os
import resource
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from erc_graph.data.corpus import Corpus
from erc_graph.data.digest import corpus_sha256
from erc_graph.data.files.load import load_corpus
from erc_graph.data.files.saved_corpus import _digest, read_saved, save_corpus
from erc_graph.data.files.storage import save_tensors, sha256
from erc_graph.data.ragged import Ragged
from erc_graph.data.sample.vectors import sample_corpus
from erc_graph.data.tasks import Task
from erc_graph.errors import CorpusError, StorageError


def assert_same(one: Corpus, other: Corpus) -> None:
    assert (one.name, one.task) == (other.name, other.task)
    for name in ("dialogue_ids", "utterance_ids", "speakers", "texts"):
        assert getattr(one, name) == getattr(other, name), name
    assert dict(one.splits) == dict(other.splits)
    assert dict(one.annotations) == dict(other.annotations)
    assert json.dumps(one.provenance, sort_keys=True) == json.dumps(other.provenance, sort_keys=True)
    assert one.modalities == other.modalities
    pairs = [(one.ptr, other.ptr), (one.target, other.target)]
    pairs += [(mine[m], yours[m]) for mine, yours in ((one.features, other.features), (one.present, other.present)) for m in mine]
    for mine, yours in pairs:
        assert mine.dtype == yours.dtype and torch.equal(mine.nan_to_num(7), yours.nan_to_num(7))

    assert one.sequences.keys() == other.sequences.keys()
    for name, mine in one.sequences.items():
        yours = other.sequences[name]
        assert mine.values.dtype == yours.values.dtype and torch.equal(mine.values, yours.values) and torch.equal(mine.ptr, yours.ptr)


@pytest.fixture
def corpus() -> Corpus:
    return sample_corpus(dialogues=6)


@pytest.fixture
def folder(corpus, tmp_path) -> Path:
    corpus.save(tmp_path / "saved")
    return tmp_path / "saved"


def test_round_trip(corpus, folder):
    assert sorted(os.listdir(folder)) == ["corpus.json", "corpus.safetensors"]
    assert_same(load_corpus(folder), corpus)
    assert_same(load_corpus(folder / "corpus.json"), corpus)
    assert corpus_sha256(load_corpus(folder)) == corpus_sha256(corpus)
    assert load_corpus(folder, name="other").name == "other"


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_round_trip_of_sequences(tmp_path, corpus, data):
    lengths = st.lists(st.integers(0, 3), min_size=corpus.utterances, max_size=corpus.utterances)
    kinds = {"text": ((2,), torch.float32), "audio": ((), torch.float32), "visual": ((3, 2, 2), torch.uint8)}
    sequences = {}
    for name in data.draw(st.sets(st.sampled_from(sorted(kinds)), min_size=1)):
        item, dtype = kinds[name]
        parts = [torch.arange(n * math.prod(item)).view(n, *item).to(dtype) for n in data.draw(lengths)]
        sequences[name] = Ragged.of(parts)
    made = replace(corpus, sequences=sequences, features=data.draw(st.sampled_from([{}, corpus.features])))
    made = replace(made, present={name: corpus.present[name] for name in made.features})
    made.save(tmp_path / "sequences")
    loaded = load_corpus(tmp_path / "sequences", strict=True)
    assert_same(loaded, made)
    assert corpus_sha256(loaded) == corpus_sha256(made)
    part, same = loaded.split("test"), made.split("test")
    assert_same(part, same)


def test_opening_sequences_reads_none_into_memory(tmp_path, corpus):
    """Only what is taken is copied."""
    samples = 40_000_000 // corpus.utterances
    ptr = torch.arange(corpus.utterances + 1) * samples
    replace(corpus, sequences={"audio": Ragged(torch.zeros(int(ptr[-1])), ptr)}, features={}, present={}).save(tmp_path / "long")

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    if not Path("/proc/self/statm").exists():
        pytest.skip("no /proc")
    before = resident()
    loaded = load_corpus(tmp_path / "long")
    assert resident() - before < 40_000_000  # of 160 million bytes
    assert int(loaded[0].corpus.sequences["audio"].ptr[-1]) == samples * len(loaded[0])
    assert resident() - before < 160_000_000


# Anything that Python can hold in a string, lone surrogates too.
ODD = st.text(st.characters(codec=None), max_size=6) | st.sampled_from(['"', "\\", "\n\r\u2028", "\0", "😀", "\ud800", "\udfff a", "NaN"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(ids=st.lists(ODD, min_size=3, max_size=3, unique=True), words=st.lists(ODD, min_size=3, max_size=3), score=st.floats(-3, 3))
def test_round_trip_of_odd_strings(tmp_path, ids, words, score):
    corpus = Corpus(
        name=words[0],
        task=Task(name=ids[0], kind="score", column="score", mapping={ids[1]: ids[2]}, drop=frozenset(ids)),
        dialogue_ids=tuple(ids[:2]),
        ptr=torch.tensor([0, 1, 3]),
        utterance_ids=tuple(ids),
        speakers=tuple(words),
        texts=tuple(words[::-1]),
        target=torch.tensor([score, float("nan"), 0.0]),
        features={"text": torch.tensor([[float("nan"), 1.0], [float("inf"), 2.0], [0.0, -0.0]])},
        present={"text": torch.tensor([True, False, True])},
        splits={"dev": (ids[1],)},
        annotations={"score": (score, None, 0), "label": (words[1], None, "x")},
        provenance={"notes": words, ids[0]: {"deep": [1, None, True, 0.1]}},
    )
    save_corpus(corpus, tmp_path / "odd")
    assert_same(load_corpus(tmp_path / "odd"), corpus)


def test_empty_parts(tmp_path):
    empty = sample_corpus(dialogues=3).subset([])
    save_corpus(replace(empty, features={}, present={}, annotations={}, texts=()), tmp_path / "empty")
    assert len(load_corpus(tmp_path / "empty")) == 0


def test_saving_again_replaces_even_the_folder_it_was_read_from(corpus, folder):
    loaded = load_corpus(folder)
    part = loaded.subset(loaded.dialogue_ids[:2])
    part.save(folder)
    assert_same(load_corpus(folder), part)
    assert torch.equal(loaded.features["text"], corpus.features["text"])  # its memory-mapped file lives on
    assert os.listdir(folder.parent) == ["saved"]


def test_what_stands_there_is_not_overwritten(corpus, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(StorageError, match=r"contains other files \(notes\.txt\), which would be lost"):
        corpus.save(tmp_path)
    with pytest.raises(StorageError, match="is a file"):
        corpus.save(tmp_path / "notes.txt")
    assert os.listdir(tmp_path) == ["notes.txt"]


def test_no_room_leaves_the_old_corpus(corpus, folder):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(StorageError, match="could not be written"):
            corpus.save(folder)
        with pytest.raises(StorageError, match="could not be written"):
            corpus.save(folder.parent / "new")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.listdir(folder.parent) == ["saved"]
    assert_same(load_corpus(folder), corpus)


def test_splits_that_cannot_be_read_again_are_not_saved(corpus, tmp_path):
    with pytest.raises(CorpusError, match=r"sample: splits: train: unknown dialogue 'none'"):
        replace(corpus, splits={"train": ("none",)}).save(tmp_path / "new")
    assert os.listdir(tmp_path) == []


def test_every_byte_counts(folder):
    for name in ("corpus.json", "corpus.safetensors"):
        whole = (folder / name).read_bytes()
        middle = len(whole) // 2
        for damaged in (whole[:-1], whole[:middle], b"", whole[:middle] + b"#" + whole[middle + 1 :], b"\xff" + whole[1:]):
            if damaged == whole[:-1] and name == "corpus.json":
                continue  # the last byte is a line end
            (folder / name).write_bytes(damaged)
            with pytest.raises(CorpusError, match=rf"{name}: .*(damaged|not valid JSON)"):
                load_corpus(folder)
        (folder / name).write_bytes(whole)
    load_corpus(folder)


def edit(folder: Path, **changes) -> None:
    """Change the manifest and make its digests fit, as someone would who wants to harm."""
    manifest = json.loads((folder / "corpus.json").read_text())
    manifest.pop("sha256")
    manifest.update(changes, files={"corpus.safetensors": sha256(folder / "corpus.safetensors")})
    (folder / "corpus.json").write_text(json.dumps({**manifest, "sha256": _digest(manifest)}))


def test_an_edited_label_is_noticed(folder):
    path = folder / "corpus.json"
    path.write_text(path.read_text().replace('"joy"', '"anger"', 1))
    with pytest.raises(CorpusError, match=r"corpus\.json: its content does not match its SHA-256 hash, so the file is damaged or edited"):
        load_corpus(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"version": 3},
            r"corpus\.json: the corpus was saved in version 3 of its format; this erc_graph reads versions up to 2; upgrade erc_graph",
        ),
        ({"version": None}, r"saved in version None"),
        ({"format": "other"}, r"not a saved corpus; expected the field \"format\""),
        ({"speakers": ["x"]}, r"corpus\.json: expected \d+ entries, one per utterance, in every list of speakers, texts and annotations"),
        ({"dialogue_ids": ["x"]}, r"corpus\.safetensors: ptr: expected the first utterance of each dialogue, and the number of utterances"),
        ({"dialogue_ids": 3}, r"corpus\.json: not a complete corpus \(TypeError: expected a list of strings"),
        ({"utterance_ids": [1]}, r"not a complete corpus"),
        ({"task": {"name": "x"}}, r"not a complete corpus \(KeyError: 'labels'"),
        ({"modalities": ["smell"]}, r"not a complete corpus \(KeyError: 'features/smell'"),
        ({"splits": {"train": ["x"]}}, r"corpus\.json: train: unknown dialogue 'x'"),
        ({"annotations": 1}, r"not a complete corpus"),
    ],
)
def test_manifests_that_fit_their_digest_and_nothing_else(folder, changes, message):
    edit(folder, **changes)
    with pytest.raises(CorpusError, match=message):
        load_corpus(folder)


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("ptr", torch.zeros(7, dtype=torch.long), r"ptr: expected slices of \d+ utterances"),
        ("target", torch.zeros(3, dtype=torch.long), r"target: expected \d+ values, found \(3,\)"),
        ("target", None, r"target: expected label indices"),
        ("features/audio", torch.zeros(3, 8), r"features/audio: expected \d+ rows"),
        ("present/audio", torch.zeros(3, dtype=torch.bool), r"present/audio: expected \d+ bools"),
    ],
)
def test_tensors_that_do_not_fit(corpus, folder, name, tensor, message):
    tensors = {"ptr": corpus.ptr, "target": corpus.target}
    for m in corpus.modalities:
        tensors |= {f"features/{m}": corpus.features[m], f"present/{m}": corpus.present[m]}
    save_tensors(folder / "corpus.safetensors", {**tensors, name: corpus.target + 6 if tensor is None else tensor})
    edit(folder)
    with pytest.raises(CorpusError, match=rf"corpus\.safetensors: {message}"):
        load_corpus(folder)


def test_a_score_is_no_index(corpus, folder):
    edit(folder, task={"name": "s", "labels": [], "kind": "score", "column": "score", "mapping": {}, "drop": []})
    with pytest.raises(CorpusError, match=r"target: expected scores"):
        load_corpus(folder)


def test_missing_files(folder):
    with pytest.raises(CorpusError, match=r"corpus\.json: cannot be read \(No such file"):
        read_saved(folder.parent)
    (folder / "corpus.safetensors").unlink()
    with pytest.raises(CorpusError, match=r"corpus\.safetensors: missing, but corpus\.json needs this file"):
        load_corpus(folder)
    (folder / "corpus.json").write_text("[" * 99_999)
    with pytest.raises(CorpusError, match=r"corpus\.json: not valid JSON"):
        load_corpus(folder)


def test_hostile_tensors_with_a_fitting_digest(folder):
    (folder / "corpus.safetensors").write_bytes(b"\xff" * 100)
    edit(folder)
    with pytest.raises(CorpusError, match=r"corpus\.safetensors: not a readable safetensors file"):
        load_corpus(folder)


def test_strict_refuses_what_is_not_finite(corpus, tmp_path):
    audio = corpus.features["audio"].clone()
    audio[corpus.present["audio"].nonzero()[0]] = float("nan")
    save_corpus(replace(corpus, features={**corpus.features, "audio": audio}), tmp_path / "nan")
    assert load_corpus(tmp_path / "nan").features["audio"].isnan().any()
    with pytest.raises(
        CorpusError, match=r"features/audio: rows with NaN, inf or numbers beyond 1e15, which the option `strict` does not allow"
    ):
        load_corpus(tmp_path / "nan", strict=True)


def test_a_saved_corpus_can_be_moved(corpus, folder):
    shutil.move(folder, folder.with_name("elsewhere"))
    assert_same(load_corpus(folder.with_name("elsewhere")), corpus)
