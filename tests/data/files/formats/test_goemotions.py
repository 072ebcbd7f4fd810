"""GoEmotions' files, with names of labels missing, several labels, broken lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from erc_graph.data.files.formats import read_annotations
from erc_graph.data.files.load import load_corpus
from erc_graph.data.files.notes import noting
from erc_graph.errors import CorpusError

ROWS = "I won!\t1\teeaaa1\nOh \u201cno\u201d\t0,2\teeaaa2\n\t2\teeaaa3\n"


def write(folder: Path, split: str = "train", rows: str = ROWS, names: str | None = "labels.txt") -> Path:
    if names:
        (folder / names).write_text("anger\njoy\nneutral\n")
    path = folder / f"{split}.tsv"
    path.write_text(rows, encoding="utf-8")
    return path


@pytest.mark.parametrize("names", ["labels.txt", "emotions.txt", "ekman_labels.txt"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_a_file(names: str, ending: str, tmp_path: Path) -> None:
    with noting() as notes:
        read = read_annotations(write(tmp_path, rows=ROWS.replace("\n", ending), names=names))
    assert read.dialogue_ids == ["eeaaa1", "eeaaa2", "eeaaa3"] and read.lengths == [1, 1, 1] and read.splits == {"train": read.dialogue_ids}
    assert read.texts == ["I won!", "Oh “no”", ""] and read.columns == {"label": ["joy", None, "neutral"]}
    assert read.labels == ["anger", "joy", "neutral"]
    assert [str(note) for note in notes] == ["train.tsv: 1 of 3 comments have several emotions, and get no label"]


def test_without_names_there_are_no_labels(tmp_path: Path) -> None:
    with noting() as notes:
        read = read_annotations(write(tmp_path, names=None))
    assert read.columns == {} and "no emotions.txt or ekman_labels.txt or labels.txt in the same folder, so there are no labels" in str(
        notes[0]
    )


def test_the_folder_is_a_corpus(tmp_path: Path) -> None:
    for number, split in enumerate(("train", "dev", "test")):
        write(tmp_path, split, ROWS.replace("eeaaa", f"ee{number}aa"))
    corpus = load_corpus(tmp_path)
    assert corpus.name == tmp_path.name
    assert {name: len(ids) for name, ids in corpus.splits.items()} == {"train": 3, "dev": 3, "test": 3}
    assert corpus.task.labels == ("anger", "joy", "neutral") and corpus.target.tolist() == [1, -1, 2] * 3


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("a\t7\teeaaa1\n", "line 1: emotion number 7, but the file of names has only 3"),
        ("".join(f"a\t1\teeaa{n:02d}\n" for n in range(30)) + "b\t1\n", "line 31: expected text, numbers of emotions and an id"),
        ("a\t1\teeaaa1\nb\t1\teeaaa1\n", "1 ids occur twice"),
    ],
)
def test_what_is_wrong_is_one_line(rows: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=words):
        read_annotations(write(tmp_path, rows=rows))
