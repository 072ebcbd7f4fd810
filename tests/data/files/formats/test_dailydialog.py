"""DailyDialog's text files and rows, with parts missing, in other orders and encodings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from erc_graph.data.files.formats import read_annotations
from erc_graph.data.files.load import load_corpus
from erc_graph.data.files.notes import noting
from erc_graph.errors import CorpusError

TEXT = "Hi . __eou__ Hello ! __eou__ Bye . __eou__\nOh no ! __eou__ Why ? __eou__\n"


def official(folder: Path, split: str, labels: str | None = "0 4 0\n1 6\n", text: str = TEXT) -> Path:
    path = folder / split / f"dialogues_{split}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    if labels is not None:
        path.with_name(f"dialogues_emotion_{split}.txt").write_text(labels)
    return path


def test_the_official_folders(tmp_path: Path) -> None:
    for split in ("train", "validation", "test"):
        official(tmp_path, split)
    corpus = load_corpus(tmp_path)
    assert corpus.name == "dailydialog" and corpus.task.name == "dailydialog7"
    assert corpus.dialogue_ids == ("train_0", "train_1", "dev_0", "dev_1", "test_0", "test_1") and corpus.lengths.tolist() == [3, 2] * 3
    assert corpus.annotations["label"][:5] == ("neutral", "happiness", "neutral", "anger", "surprise")
    assert corpus.speakers[:5] == ("A", "B", "A", "A", "B") and {name: len(ids) for name, ids in corpus.splits.items()} == {
        "train": 2,
        "dev": 2,
        "test": 2,
    }


@pytest.mark.parametrize(
    ("text", "labels", "texts", "found", "said"),
    [
        (TEXT, None, 5, None, "no labels"),
        (TEXT, "0 4\n1 6\n", 5, [None, None, None, "anger", "surprise"], "1 dialogues have a different number of labels and utterances"),
        (
            TEXT.replace("\n", "\r\n\r\n"),
            "0 4 0\r\n1 6\r\n",
            5,
            ["neutral", "happiness", "neutral", "anger", "surprise"],
            "alternating speakers",
        ),
        ("你好。 __eou__ 再见。__eou__\n", "-1 5", 2, [None, "sadness"], "alternating speakers"),
        ("No end __eou__ of this", "3 2", 2, ["fear", "disgust"], "alternating speakers"),
    ],
)
def test_variants(tmp_path: Path, text: str, labels: str | None, texts: int, found: list[str | None] | None, said: str) -> None:
    with noting() as notes:
        read = read_annotations(official(tmp_path, "test", labels, text))
    assert len(read.texts) == texts and read.columns.get("label") == found and said in "\n".join(notes)


@pytest.mark.parametrize("names", [("dialog", "emotion"), ("utterances", "emotions")])
@pytest.mark.parametrize("form", ["jsonl", "json", "parquet"])
def test_rows_of_a_hub(tmp_path: Path, names: tuple[str, str], form: str) -> None:
    rows = [{names[0]: ["Hi .", "Hello !"], "act": [1, 1], names[1]: [0, 4]}, {names[0]: ["Oh"], "act": [1], names[1]: [5]}]
    path = tmp_path / f"validation-00000-of-00001.{form}"
    if form == "parquet":
        pa = pytest.importorskip("pyarrow")
        import pyarrow.parquet

        pyarrow.parquet.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text(json.dumps(rows) if form == "json" else "\n".join(map(json.dumps, rows)))
    read = read_annotations(path)
    assert read.texts == ["Hi .", "Hello !", "Oh"] and read.columns["label"] == ["neutral", "happiness", "sadness"]
    assert read.splits == {"dev": ["dev_0", "dev_1"]} and read.dataset == "dailydialog"


def test_one_row_is_one_conversation(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"dialog": ["Hi .", "Oh"], "emotion": [0, 5]}))
    assert read_annotations(path).lengths == [2]


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"1 lines of labels for 2 dialogues in dialogues_test.txt; expected one line per dialogue"):
        read_annotations(official(tmp_path, "test", "0 4 0\n"))
    with pytest.raises(CorpusError, match="dialogue 2, utterance 1: emotion '7' is not a number from 0 to 6"):
        read_annotations(official(tmp_path, "test", "0 4 0\n1 7\n"))
