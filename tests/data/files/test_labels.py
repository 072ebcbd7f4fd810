"""Labels are translated once, for every reader."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from erc_graph.data.files.labels import is_empty, translate, whole
from erc_graph.data.files.load import load_corpus
from erc_graph.data.files.notes import noting
from erc_graph.data.tasks import IEMOCAP6, MELD7
from erc_graph.errors import CorpusError


@pytest.mark.parametrize(
    ("values", "names", "expected"),
    [
        (["hap", "SAD", "neu", "Ang", "exc", "frustration"], IEMOCAP6, [*IEMOCAP6]),
        (["xxx", "", None, float("nan"), "nan", "-1", "#N/A", "n/a", "-"], IEMOCAP6, [None] * 9),
        (["NEUTRAL", " surprised", "Fearful", "sad", "Joy", "disgusted", "angry"], MELD7, [*MELD7]),
        (["0.0", "4.0", "", "-1"], MELD7, ["neutral", "joy", None, None]),
        ([0, 4.0, math.nan, -1], MELD7, ["neutral", "joy", None, None]),
        (["0.0", "1.0", "10"], (), ["0", "1", "10"]),
        (["joy", "Joy", "JOY", "sad"], (), ["joy", "joy", "joy", "sad"]),
        (["Mad", "MAD", "Mad", "Sad"], (), ["Mad", "Mad", "Mad", "Sad"]),
        (["happiness", "joyous"], MELD7, ["happiness", "joyous"]),  # other words are not translated
        (["happy", "joy"], (), ["happy", "joy"]),
        (["sad", "sadness"], ("sad", "sadness"), ["sad", "sadness"]),
        (["7"], MELD7, ["7"]),
        (["Радость", "радость"], (), ["радость", "радость"]),
    ],
)
def test_translate(values: list[object], names: tuple[str, ...], expected: list[object]) -> None:
    assert translate(values, names) == expected


def test_what_is_changed_is_said_once() -> None:
    with noting() as notes:
        translate(["hap", "hap", "sad", "-1"], IEMOCAP6)
        translate([-1, 0, -1])
        translate(["joy", "sad", None])
    assert notes == ["labels: 'hap' as 'happy', '-1' as none", "labels: 2 labels are -1 and count as unlabelled"]


def test_forms_of_one_word_that_stay_apart_are_said() -> None:
    with noting() as notes:
        assert translate(["hap", "Happy", "HAPPINESS", "joy", "neu"]) == ["hap", "Happy", "HAPPINESS", "joy", "neu"]
    assert [str(one) for one in notes] == [
        "labels: 'Happy', 'hap', 'HAPPINESS' stay separate classes; to join them, set `labels` or `dataset` in corpus.toml"
    ]
    with noting() as notes:
        translate(["0.5", "joy", "5.0", "joyless"])
    assert "some labels are numbers and others are words, such as '0.5'; each number stays a separate class" in str(notes[0])


def test_values() -> None:
    assert [whole(value) for value in ("3", "3.0", 3.0, "3.5", "x", None, "1e300", math.inf)] == [3, 3, 3, None, None, None, None, None]
    assert is_empty(" NaN ") and is_empty(None) and not is_empty(-1) and not is_empty("none")


def table(tmp_path: Path, labels: list[str], head: str = "label") -> Path:
    lines = [f"d{i // 2},{i % 2},A,Hi,{label}" for i, label in enumerate(labels)]
    path = tmp_path / "t.csv"
    path.write_text("\n".join([f"dialogue,turn,speaker,text,{head}", *lines]), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("labels", "dataset", "expected", "counts"),
    [
        (["joy", "Joy", "JOY", ""], None, ("joy",), [0, 0, 0, -1]),
        (["0.0", "1.0", "", "1.0"], None, ("0", "1"), [0, 1, -1, 1]),
        (["10", "9", "2", "-1"], None, ("2", "9", "10"), [2, 1, 0, -1]),
        (["hap", "exc", "oth", "xxx"], "iemocap6", IEMOCAP6, [0, 4, -1, -1]),
        (["Anger", "JOY", "neu", "fea"], "meld", MELD7, [6, 4, 0, 2]),
    ],
)
def test_the_corpus_has_them(tmp_path: Path, labels: list[str], dataset: str | None, expected: tuple[str, ...], counts: list[int]) -> None:
    table(tmp_path, labels, "Emotion")
    (tmp_path / "corpus.toml").write_text('annotations = "t.csv"\n' + (f'dataset = "{dataset}"\n' if dataset else ""))
    corpus = load_corpus(tmp_path)
    assert corpus.task.labels == expected and corpus.target.tolist() == counts


def test_words_of_another_task_than_the_data_sets_own(tmp_path: Path) -> None:
    table(tmp_path, ["angry", "Joyful", "sad", "neutral"])
    (tmp_path / "corpus.toml").write_text('annotations = "t.csv"\ndataset = "iemocap6"\ntask = "meld7"\n')
    assert load_corpus(tmp_path).annotations["label"] == ("anger", "joy", "sadness", "neutral")


def test_a_word_outside_the_set_is_refused_by_its_place(tmp_path: Path) -> None:
    table(tmp_path, ["joy", "boredom"])
    (tmp_path / "corpus.toml").write_text('annotations = "t.csv"\ndataset = "meld"\n')
    with pytest.raises(CorpusError, match=r"dialogue 'd0', utterance 'd0_1': label 'boredom' is not in the label set of task meld7"):
        load_corpus(tmp_path)
