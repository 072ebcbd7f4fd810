"""predictions.csv: read as it was written, refused where it is something else, and counted as scikit-learn counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from erc_graph.errors import CheckpointError
from erc_graph.report.predictions import Predictions, read_predictions

LABELS = ("joy", "sadness", "fear")
HEAD = "dialogue,utterance,label,prediction,p(joy),p(sadness),p(fear)\n"


def some(rows: int = 60) -> Predictions:
    random = np.random.default_rng(0)
    chances = random.dirichlet(np.ones(3), rows)
    return Predictions(
        labels=LABELS, dialogue=("d",) * rows, utterance=tuple(map(str, range(rows))),
        target=random.integers(0, 3, rows), guess=chances.argmax(1), probabilities=chances,
    )  # fmt: skip


def test_read(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    path.write_text(HEAD + 'd1,"d1,\n0",joy,fear,0.1,0.2,0.7\nd1,d1_1,sadness,sadness,0.1,0.8,0.1\n', encoding="utf-8")
    found = read_predictions(path, LABELS)
    assert found.utterance == ("d1,\n0", "d1_1") and found.target.tolist() == [0, 1] and found.guess.tolist() == [2, 1]
    assert found.probabilities is not None and found.probabilities[0].tolist() == [0.1, 0.2, 0.7]
    assert found.confusion.tolist() == [[0, 0, 1], [0, 1, 0], [0, 0, 0]] and len(found) == 2


def test_read_scores(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    path.write_text("dialogue,utterance,label,prediction\nd,d_0,-1.2,2.6\nd,d_1,3.0,-7\n", encoding="utf-8")
    found = read_predictions(path, ())
    assert found.labels[found.target[0]] == "-1" and found.labels[found.guess[0]] == "+3" and found.labels[found.guess[1]] == "-3"
    assert found.probabilities is None and found.worst() == [1, 0]


@pytest.mark.parametrize(
    "content",
    [
        "",
        HEAD,
        "a,b\n1,2\n",
        HEAD + "d,d_0,joy,fear,0.1,0.2\n",
        HEAD + "d,d_0,rage,fear,0,0,1\n",
        HEAD + "d,d_0,joy,fear,x,0,1\n",
        HEAD + "d,d_0,joy,fear,nan,0,1\n",
        HEAD + "d,d_0,joy,fear,0,0,1\n" * 2,
        "\ud800",
    ],
)
def test_something_else_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    path.write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(
        CheckpointError, match=r"expected predictions of joy, sadness, fear, found an invalid file \((?s:.*)\); continue the"
    ):
        read_predictions(path, LABELS)


def test_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"predictions\.csv: expected the predictions of a finished run, found no such file"):
        read_predictions(tmp_path / "predictions.csv", LABELS)
    (tmp_path / "predictions.csv").symlink_to("/dev/zero")
    with pytest.raises(CheckpointError, match=r"predictions\.csv: expected a regular file, found a device"):
        read_predictions(tmp_path / "predictions.csv", LABELS)


def test_classes_are_counted_as_scikit_learn_does() -> None:
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    found = some()
    assert (found.confusion == confusion_matrix(found.target, found.guess)).all()
    expected = precision_recall_fscore_support(found.target, found.guess)
    assert np.allclose(np.array(found.per_class()), np.array(expected).T)


def test_the_worst_errors_are_the_surest_and_not_all_of_a_kind() -> None:
    found = some(400)
    assert found.probabilities is not None
    rows = found.worst(most=12, each=2)
    kinds = [(int(found.target[row]), int(found.guess[row])) for row in rows]
    assert len(rows) == 12 and all(true != guess for true, guess in kinds) and max(map(kinds.count, kinds)) == 2
    sure = [found.probabilities[row].max() for row in rows]
    assert sure == sorted(sure, reverse=True)
    assert rows[0] == max(np.flatnonzero(found.target != found.guess), key=lambda row: found.probabilities[row].max())  # type: ignore[index]
