"""The digest of a corpus is of its content, all of it, and the same everywhere."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from erc_graph.data.corpus import Corpus
from erc_graph.data.digest import corpus_sha256
from erc_graph.data.files.load import load_corpus
from erc_graph.data.tasks import Task
from tests.data.files.test_load import COLUMNS, IDS, ROWS, Folder


@pytest.fixture
def folder(tmp_path) -> Folder:
    return Folder(tmp_path / "mine")


def test_one_digest_for_results(folder):
    before = corpus_sha256(folder.load())
    assert before == corpus_sha256(folder.load())
    folder.features(IDS, np.ones((6, 2)))
    assert corpus_sha256(folder.load()) != before
    one, other = load_corpus("sample"), load_corpus("sample")
    assert corpus_sha256(one) == corpus_sha256(other)
    assert corpus_sha256(one) != corpus_sha256(one.subset(one.dialogue_ids[:5]))


def test_the_digest_is_of_the_content_not_of_the_files(folder, tmp_path):
    corpus = folder.load()
    digest = corpus_sha256(corpus)
    corpus.save(tmp_path / "saved")
    assert corpus_sha256(load_corpus(tmp_path / "saved")) == digest
    with (folder.path / "audio.npz").open("wb") as stream:  # the same rows in other bytes
        np.savez_compressed(stream, features=np.arange(12.0).reshape(6, 2)[::-1], utterance=np.array(IDS[::-1]))
    assert corpus_sha256(folder.load()) == digest
    folder.manifest(extra='task = "meld3"\n')
    folder.table([(*row, "neutral") for row in ROWS], (*COLUMNS, "sentiment"))
    assert corpus_sha256(folder.load()) != digest


def test_the_digest_notices_every_part(folder):
    corpus = folder.load()
    task, zero = corpus.task, corpus.features["audio"]
    others = [
        replace(corpus, task=replace(task, labels=task.labels[::-1])),  # only the manifest says so
        replace(corpus, task=replace(task, name="other")),
        replace(corpus, dialogue_ids=("d0", "d1", "d9")),
        replace(corpus, ptr=torch.tensor([0, 2, 5, 6])),
        replace(corpus, utterance_ids=(*IDS[:-1], "x")),
        replace(corpus, speakers=("x", *corpus.speakers[1:])),
        replace(corpus, texts=()),
        replace(corpus, target=corpus.target.clamp(max=0)),
        replace(corpus, target=corpus.target.float()),
        replace(corpus, splits={**corpus.splits, "train": ("d2",), "test": ("d0",)}),
        replace(corpus, features={"audio": zero + 1}),
        replace(corpus, features={"audio": zero.reshape(3, 4)}),
        replace(corpus, features={"video": zero}, present={"video": corpus.present["audio"]}),
        replace(corpus, present={"audio": torch.zeros(6, dtype=torch.bool)}),
    ]
    assert len({corpus_sha256(one) for one in [corpus, *others]}) == len(others) + 1


def test_the_digest_does_not_depend_on_the_order_of_names_or_the_layout_in_memory(folder):
    corpus = folder.load()
    rows, present = corpus.features["audio"], corpus.present["audio"]
    one = replace(corpus, features={"audio": rows, "text": rows + 1}, present={"audio": present, "text": present})
    other = replace(
        corpus,
        features={"text": (rows + 1).T.contiguous().T, "audio": rows},
        present={"text": present, "audio": present},
        splits={**dict(reversed(corpus.splits.items()))},
    )
    assert corpus_sha256(one) == corpus_sha256(other)
    assert corpus_sha256(replace(one, provenance={}, name="other")) == corpus_sha256(one)


def test_the_digest_is_the_same_on_every_machine():
    """A constant: a change of what is hashed makes old results look like those of other data."""
    corpus = Corpus(
        name="two",
        task=Task(name="two", labels=("no", "yes")),
        dialogue_ids=("d",),
        ptr=torch.tensor([0, 2]),
        utterance_ids=("a", "\ud800"),
        speakers=("Ä", "b"),
        target=torch.tensor([1, -1]),
        features={"audio": torch.tensor([[0.5], [0.0]])},
        present={"audio": torch.tensor([True, False])},
    )
    assert corpus_sha256(corpus) == "1094af7196e8fb53b7b9359de08048b3ffd3bf275ff2946bd9260bfe38008416"
