from __future__ import annotations

import csv
import json
import logging
import os
import pickle
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from erc_graph.data.digest import corpus_sha256
from erc_graph.data.files.feature_files import write_features
from erc_graph.data.files.load import load_corpus
from erc_graph.data.files.storage import sha256
from erc_graph.errors import ConfigError, CorpusError

COLUMNS = ("dialogue", "turn", "utterance", "speaker", "text", "label")
ROWS = [
    ("d0", 0, "d0_0", "Ada", "Hello", "joy"),
    ("d0", 1, "d0_1", "Ben", "No!", "anger"),
    ("d0", 2, "d0_2", "Ada", "Why?", ""),
    ("d1", 0, "d1_0", "Cy", "Well", "neutral"),
    ("d1", 1, "d1_1", "Cy", "So", "joy"),
    ("d2", 0, "d2_0", "Di", "Hm", "neutral"),
]
IDS = [row[2] for row in ROWS]
SPLITS = {"train": ["d0"], "dev": ["d1"], "test": ["d2"]}


class Folder:
    """A corpus on disk; every part can be replaced by something bad."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        self.table()
        self.splits(SPLITS)
        self.features(IDS, np.arange(12.0).reshape(6, 2))
        self.manifest()

    def table(self, rows=ROWS, columns=COLUMNS) -> None:
        with (self.path / "table.csv").open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([columns, *rows])

    def splits(self, value) -> None:
        (self.path / "splits.json").write_text(json.dumps(value))

    def features(self, ids, array) -> None:
        np.savez(self.path / "audio.npz", utterance=np.array(ids), features=array)

    def manifest(self, dataset="meld", extra="") -> None:
        (self.path / "corpus.toml").write_text(
            f'dataset = "{dataset}"\nannotations = "table.csv"\nsplits = "splits.json"\n{extra}\n[features]\naudio = "audio.npz"\n'
        )

    def load(self, **options):
        before = sorted(os.listdir(self.path))
        try:
            return load_corpus(self.path, **options)
        finally:
            assert sorted(os.listdir(self.path)) == before  # reading writes nothing


@pytest.fixture
def folder(tmp_path) -> Folder:
    return Folder(tmp_path / "mine")


def test_everything_joins(folder, caplog):
    with caplog.at_level(logging.INFO, logger="erc_graph"):
        corpus = folder.load()
    assert repr(corpus) == "Corpus(meld: 3 dialogues, 6 utterances; audio 2; train 1 dev 1 test 1; task meld7)"
    assert corpus.dialogue_ids == ("d0", "d1", "d2")
    assert corpus.ptr.tolist() == [0, 3, 5, 6]
    assert corpus.utterance_ids == tuple(IDS)
    assert corpus["d0"].speakers == ("Ada", "Ben", "Ada")
    assert corpus["d0"].texts == ("Hello", "No!", "Why?")
    assert corpus["d0"].labels == ("joy", "anger", None)
    assert corpus["d1"].batch().features["audio"].tolist() == [[6, 7], [8, 9]]
    assert corpus.present["audio"].all() and corpus.features["audio"].dtype == torch.float32
    files = corpus.provenance["files"]
    assert files == {name: sha256(folder.path / name) for name in ("table.csv", "splits.json", "audio.npz")}
    assert json.loads(json.dumps(corpus.provenance)) == corpus.provenance
    assert any("recognised table of utterances" in record.message for record in caplog.records)
    # The numbers of MELD are other ones: said in the notes and as a warning, hidden nowhere.
    assert "meld: 3 dialogues, the published number is 1432" in corpus.provenance["notes"]
    assert any(r.levelno == logging.WARNING and "3 dialogues, the published number is 1432" in r.message for r in caplog.records)


def test_manifest_or_folder_or_table(folder):
    by_file = load_corpus(folder.path / "corpus.toml")
    assert by_file.utterance_ids == folder.load().utterance_ids
    table = load_corpus(folder.path / "table.csv")
    assert (table.name, table.modalities, table.splits) == ("table", (), {})
    assert table.task.labels == ("anger", "joy", "neutral")
    assert load_corpus(folder.path / "table.csv", name="mine").name == "mine"


def test_sample_is_always_the_generated_corpus(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_corpus("sample", name="s").name == "s"
    os.rename(folder.path, tmp_path / "sample")
    assert load_corpus("sample").task.name == "sample6"
    assert load_corpus("./sample").name == "meld"
    assert load_corpus(tmp_path / "sample").name == "meld"


def test_links_in_a_circle_are_no_traceback(folder):
    os.symlink("a", folder.path / "b")
    os.symlink("b", folder.path / "a")
    with pytest.raises(CorpusError, match="no such file or folder"):
        load_corpus(folder.path / "a")


def test_the_task_of_the_argument_wins_over_the_manifest_and_that_over_the_data_set(folder):
    folder.table([(*row, "positive" if row[5] == "joy" else "") for row in ROWS], (*COLUMNS, "sentiment_label"))
    folder.manifest(extra='task = "meld7"')
    assert folder.load().task.name == "meld7"
    folder.manifest("iemocap6", extra='task = "meld7"')
    assert folder.load().task.name == "meld7"
    with pytest.raises(CorpusError, match=r"task sentiment: needs the annotation 'score'"):
        folder.load(task="sentiment")
    with pytest.raises(ConfigError, match=r"task: unknown 'x'; known tasks: "):
        folder.load(task="x")


def test_a_data_set_of_ones_own(folder):
    folder.manifest("mine", extra='labels = ["neutral", "joy", "anger"]')
    corpus = folder.load()
    assert (corpus.name, corpus.task.name, corpus.task.labels) == ("mine", "mine", ("neutral", "joy", "anger"))
    assert corpus.target.tolist() == [1, 2, -1, 0, 1, 0]
    folder.manifest("mine")
    corpus = folder.load()
    assert corpus.task.labels == ("anger", "joy", "neutral")
    assert any("label names of the file, in this order: anger, joy, neutral" in note for note in corpus.provenance["notes"])
    folder.manifest("mine", extra='name = "other"')
    assert folder.load().name == "other"


def test_indices_become_the_names_of_the_manifest(folder):
    index = {"joy": 1, "anger": 2, "neutral": 0, "": ""}
    folder.table([(*row[:5], index[row[5]]) for row in ROWS])
    folder.manifest("mine", extra='labels = ["neutral", "joy", "anger"]')
    assert folder.load()["d0"].labels == ("joy", "anger", None)
    folder.manifest("mine", extra='labels = ["neutral", "joy"]')
    with pytest.raises(
        CorpusError, match=r"dialogue 'd0', utterance 'd0_1': label '2' is not in the label set of task mine \(neutral, joy\)"
    ):
        folder.load()
    folder.manifest("mine", extra='task = "meld7"')
    with pytest.raises(
        CorpusError, match=r"choose another task, or set `dataset` in corpus.toml, or `labels` in the order of these numbers"
    ):
        folder.load()


def test_transcripts_without_labels(folder):
    folder.table([row[:5] for row in ROWS], COLUMNS[:5])
    corpus = folder.load()
    assert not corpus.labelled.any()
    assert "no labels: emotions can be predicted, but the predictions cannot be evaluated" in corpus.provenance["notes"]
    folder.manifest("mine")
    assert folder.load().task.labels == ()


def test_extractors_travel(folder):
    folder.manifest(extra='extractors.audio = "free words"')
    assert folder.load().provenance["extractors"] == {"audio": "free words"}
    write_features(folder.path / "text.safetensors", IDS, torch.ones(6, 2), {"extractor": "MiniLM:layer=1"})
    with (folder.path / "corpus.toml").open("a") as manifest:
        manifest.write('text = "text.safetensors"\n')
    assert folder.load().provenance["extractors"] == {"text": "MiniLM:layer=1", "audio": "free words"}
    folder.manifest(extra='extractors.text = "wins"\nfeatures.text = "text.safetensors"')
    (folder.path / "corpus.toml").write_text((folder.path / "corpus.toml").read_text().replace("[features]\n", "features."))
    assert folder.load().provenance["extractors"] == {"text": "wins"}
    folder.manifest(extra='extractors.adio = "free words"')
    with pytest.raises(CorpusError, match=r"extractors\.adio: the corpus has no modality of this name; modalities of the corpus: audio"):
        folder.load()


# -- bad input -----------------------------------------------------------------------------


def test_rows_that_are_missing_left_over_or_not_finite(folder, caplog):
    array = np.arange(12.0).reshape(6, 2)
    array[1, 0] = np.nan
    folder.features([*IDS[:5], "d9_9"], array)
    with caplog.at_level(logging.INFO, logger="erc_graph"):
        corpus = folder.load()
    assert corpus.present["audio"].tolist() == [True, False, True, True, True, False]
    assert corpus.features["audio"][[1, 5]].tolist() == [[0, 0], [0, 0]]
    for sentence in (
        "features.audio (audio.npz): 1 of 6 rows match no utterance (first: d9_9)",
        "features.audio (audio.npz): 1 rows with NaN, inf or numbers beyond 1e15 are masked as missing (first: d0_1)",
        "features.audio (audio.npz): 1 of 6 utterances have no row and count as missing (first: d2_0)",
    ):
        assert corpus.provenance["notes"].count(sentence) == 1
        assert sum(sentence in record.message for record in caplog.records) == 1
    with pytest.raises(
        CorpusError,
        match=r"features\.audio \(audio\.npz\): 1 rows with NaN, inf or numbers beyond 1e15 "
        r"\(first: d0_1\), which the option `strict` does not allow",
    ):
        folder.load(strict=True)


@pytest.mark.parametrize(
    ("ids", "array", "message"),
    [
        (
            ["x", "y"],
            np.ones((2, 2)),
            r"none of the 2 rows has the id of an utterance \(id of the first row: 'x', id of the first utterance: 'd0_0'\)",
        ),
        (IDS[:5], np.ones((6, 2)), r"audio\.npz: 5 utterance ids but 6 rows"),
        (["d0_0", "d0_0"], np.ones((2, 2)), r"audio\.npz: utterance id 'd0_0' occurs twice"),
        (IDS, np.ones((6, 2), dtype=object), r"audio\.npz: holds Python objects"),
        (IDS, np.ones((6, 3, 2)), r"list a file of sequences under .sequences"),
        (IDS, np.array(["x"] * 6), r"expected numbers"),
    ],
)
def test_features_that_do_not_fit(folder, ids, array, message):
    folder.features(ids, array)
    with pytest.raises(CorpusError, match=message):
        folder.load()


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({"train": ["d0"], "test": ["d7"]}, r"splits\.json: test: unknown dialogue 'd7' \(1 of 1 unknown\)"),
        ({"train": ["d0", "d1"], "test": ["d1"]}, r"splits\.json: dialogue 'd1' is in train and in test"),
        ({"held": ["d0"]}, r"splits\.json: unknown split 'held'; expected train, dev, test"),
        (["d0"], r"splits\.json: expected a JSON object"),
    ],
)
def test_splits_that_do_not_fit(folder, splits, message):
    folder.splits(splits)
    with pytest.raises(CorpusError, match=message):
        folder.load()


def test_broken_files(folder):
    (folder.path / "splits.json").write_text('{"train": ["d0"')
    with pytest.raises(CorpusError, match=r"splits\.json: not valid JSON"):
        folder.load()
    folder.splits({"train": ["d0"]})
    corpus = folder.load()
    assert "2 of 3 dialogues are in no split" in corpus.provenance["notes"]
    whole = (folder.path / "audio.npz").read_bytes()
    (folder.path / "audio.npz").write_bytes(whole[:100])
    with pytest.raises(CorpusError, match=r"audio\.npz: not a readable numpy file"):
        folder.load()


def test_labels_outside_the_set(folder):
    folder.table([*ROWS[:4], ("d1", 1, "d1_1", "Cy", "So", "bliss"), ("d2", 0, "d2_0", "Di", "Hm", "bliss")])
    message = (
        r"dialogue 'd1', utterance 'd1_1': label 'bliss' is not in the label set of task meld7 \(neutral, .*\); labels outside the set: 2"
    )
    with pytest.raises(CorpusError, match=message):
        folder.load()


def test_duplicate_utterances(folder):
    folder.table([*ROWS[:-1], ("d2", 0, "d0_0", "Di", "Hm", "joy")])
    with pytest.raises(CorpusError, match=r"d0_0"):
        folder.load()


def test_what_is_not_there(tmp_path):
    for path in (tmp_path / "none", "nowhere\0", "x" * 5000, "Sample"):
        with pytest.raises(CorpusError, match=r"no such file or folder; expected a folder with corpus\.toml"):
            load_corpus(path)
    with pytest.raises(
        CorpusError,
        match=r"a folder without corpus\.toml, corpus\.json, or the files of a released data set; found .*; write a corpus\.toml",
    ):
        load_corpus(tmp_path)


def test_what_cannot_be_read(folder, monkeypatch):
    (folder.path / "splits.json").unlink()
    (folder.path / "splits.json").mkdir()
    with pytest.raises(CorpusError, match=r"splits\.json: cannot be read \(Is a directory\)"):
        folder.load()

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied", "secret.npz")

    monkeypatch.setattr("erc_graph.data.files.assembly.read_features", refuse)
    with pytest.raises(CorpusError, match=r"secret\.npz: cannot be read \(Permission denied\)"):
        folder.load()


class Hostile:
    def __reduce__(self):
        return (Path.touch, (Path("ran"),))


def test_pickles_never_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(({}, Hostile())))
    with pytest.raises(CorpusError, match=r"a\.pkl"):
        load_corpus(tmp_path / "a.pkl")
    (tmp_path / "a.pkl").write_bytes(pickle.dumps([{}] * 6)[:-5])
    with pytest.raises(CorpusError, match=r"a\.pkl"):
        load_corpus(tmp_path / "a.pkl")
    assert os.listdir(tmp_path) == ["a.pkl"]


# -- real corpora --------------------------------------------------------------------------

DATA = Path(os.environ.get("ERC_GRAPH_DATA", "no-corpora"))
corpus_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"no corpora in {DATA}; set ERC_GRAPH_DATA")


@corpus_data
@pytest.mark.corpus
@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("iemocap", "iemocap6: 151 dialogues, 7433 utterances; text 384, audio 8; train 108 dev 12 test 31; task iemocap6"),
        ("meld", "meld: 1432 dialogues, 13708 utterances; text 384, audio 8; train 1038 dev 114 test 280; task meld7"),
        ("mosi", "mosi: 93 dialogues, 2199 utterances; text 384, audio 73, visual 100; train 52 dev 10 test 31; task mosi2"),
    ],
)
def test_real_corpora_have_the_published_numbers(name, shown, caplog):
    load_corpus(DATA / name)  # imports
    start = time.perf_counter()
    with caplog.at_level(logging.WARNING, logger="erc_graph"):
        corpus = load_corpus(DATA / name)
    assert time.perf_counter() - start < 2
    assert repr(corpus) == f"Corpus({shown})"
    assert not caplog.records
    assert corpus.labelled.all()
    missing = {m: int((~p).sum()) for m, p in corpus.present.items() if not p.all()}
    assert missing == {"iemocap": {"audio": 50}, "meld": {"audio": 542}, "mosi": {}}[name]


@corpus_data
@pytest.mark.corpus
@pytest.mark.parametrize(
    ("task", "count", "test"), [("iemocap4", 5584, 1242), ("iemocap4-noexc", 4543, None), ("iemocap4-merged", 7433, 1623)]
)
def test_iemocap_four_is_three_tasks(task, count, test):
    corpus = load_corpus(DATA / "iemocap", task=task)
    assert int(corpus.labelled.sum()) == count
    assert corpus.utterances == 7433  # what is left out stays as context
    if test:
        assert int(corpus.split("test").labelled.sum()) == test


@corpus_data
@pytest.mark.corpus
def test_protocols_of_iemocap():
    from erc_graph.data.splits import folds, judged_rows

    corpus = load_corpus(DATA / "iemocap")
    assert sum(len(fold.test) for fold in folds(corpus, "session5")) == 151
    speakers = folds(corpus, "speaker10")
    assert len(speakers) == 10
    assert sum(int(judged_rows(corpus, fold.test, fold.test_speakers).sum()) for fold in speakers) == 7433


@corpus_data
@pytest.mark.corpus
def test_three_csvs_without_a_manifest(tmp_path):
    for split in ("train", "dev", "test"):
        shutil.copy(DATA / "meld" / f"{split}_sent_emo.csv", tmp_path)
    corpus = load_corpus(tmp_path)
    assert {name: len(ids) for name, ids in corpus.splits.items()} == {"train": 1038, "dev": 114, "test": 280}
    assert corpus.utterance_ids == load_corpus(DATA / "meld").utterance_ids


@corpus_data
@pytest.mark.corpus
@pytest.mark.parametrize("name", ["iemocap", "meld", "mosi"])
def test_real_corpora_survive_saving(name, tmp_path):
    corpus = load_corpus(DATA / name)
    corpus.save(tmp_path / "saved")
    again = load_corpus(tmp_path / "saved")
    assert repr(again) == repr(corpus) and again.texts == corpus.texts and corpus_sha256(again) == corpus_sha256(corpus)
    for modality in corpus.modalities:
        assert torch.equal(again.features[modality], corpus.features[modality])
