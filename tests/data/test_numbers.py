"""What single precision cannot compute with is masked or refused under the utterance's name, before anything is written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from erc_graph.cli.main import main
from erc_graph.data.annotations import Annotations
from erc_graph.data.corpus import Corpus
from erc_graph.data.files.assembly import assemble
from erc_graph.data.numbers import LARGEST, check_numbers, fit, fit_items
from erc_graph.data.ragged import Ragged
from erc_graph.data.sample.vectors import sample_corpus
from erc_graph.data.tasks import TASKS
from erc_graph.errors import CorpusError

TOO_LARGE = (3e38, 1e300, -1e20, float("inf"), float("nan"))


def said(**changes: Any) -> Annotations:
    """Two utterances."""
    values: dict[str, Any] = {"dialogue_ids": ["d"], "lengths": [2], "utterance_ids": ["u0", "u1"], "speakers": ["a", "b"]}
    return Annotations(format="a test", **{**values, "columns": {"label": ["x", "y"]}, **changes})


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return sample_corpus(dialogues=20)


def test_the_squares_of_what_is_taken_add_up() -> None:
    assert torch.tensor(LARGEST**2).expand(10**8).sum().isfinite()
    assert fit(torch.tensor([LARGEST, -LARGEST, 0.0])).all() and not fit(torch.tensor(TOO_LARGE)).any()
    assert fit_items(torch.tensor([[1.0, 2.0], [1.0, 1e30]])).tolist() == [True, False]


@pytest.mark.parametrize("value", TOO_LARGE)
def test_a_row_or_an_item_is_masked_in_the_name_of_its_utterance(value: float, tmp_path: Path) -> None:
    np.savez(tmp_path / "f.npz", utterance=["u0", "u1"], features=np.array([[1.0, 2.0], [3.0, value]]))
    np.savez(tmp_path / "s.npz", utterance=["u0", "u1"], values=np.array([[1.0], [2.0], [value]]), offsets=[0, 1, 3])
    own = {"audio": np.array([[value], [1.0]])}
    found = assemble(said(features=own), features={"text": tmp_path / "f.npz"}, sequences={"words": tmp_path / "s.npz"})
    assert found.present["text"].tolist() == [True, False] and found.present["audio"].tolist() == [False, True]
    assert found.features["text"].tolist() == [[1, 2], [0, 0]] and found.sequences["words"].values.tolist() == [[1], [2]]
    notes = found.provenance["notes"]
    for begin, first in (
        ("features.text (f.npz): 1 rows", "u1"),
        ("features.audio (annotation file): 1 rows", "u0"),
        ("sequences.words (s.npz): words", "u1"),
    ):
        assert any(begin in note and f"{first})" in note and "NaN, inf or numbers beyond 1e15" in note for note in notes), notes
    check_numbers(found)


@pytest.mark.parametrize("score", [1e300, -3e38, 10**400, 1e16])
def test_a_score_is_refused_in_the_name_of_its_utterance(score: float) -> None:
    with pytest.raises(CorpusError, match=r"dialogue 'd', utterance 'u1': score .*; expected a finite number of at most ±1e\+15"):
        assemble(said(columns={"score": [0.5, score]}))


def test_a_corpus_that_was_made_by_hand_is_refused(corpus: Corpus) -> None:
    check_numbers(corpus)
    name, first = "text", corpus.utterance_ids[7]
    rows = corpus.features[name].clone()
    rows[7, 0] = 3e38
    of = f"1 of {corpus.utterances} utterances .first: '{first}'.; correct these numbers"
    with pytest.raises(CorpusError, match=f"sample: features.text: NaN, inf or numbers beyond 1e15 in {of}"):
        check_numbers(replace(corpus, features={**corpus.features, name: rows}))
    sequences = {
        "text": Ragged.of_rows(rows, torch.ones(len(rows), dtype=torch.bool)),
        "audio": Ragged.of([rows[i, :2] for i in range(len(rows))]),
    }
    for key, value in sequences.items():
        with pytest.raises(CorpusError, match=rf"sequences\.{key}: .* in {of}"):
            check_numbers(replace(corpus, sequences={key: value}))
    scores = torch.zeros(corpus.utterances)
    scores[7] = 1e30
    with pytest.raises(CorpusError, match=f"score: .* in {of}"):
        check_numbers(replace(corpus, task=TASKS["sentiment"], target=scores))


def test_an_experiment_that_is_refused_for_its_numbers_writes_nothing(
    corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = {name: torch.where(torch.arange(len(value))[:, None] == 3, 3e38, value) for name, value in corpus.features.items()}
    replace(corpus, features=rows).save(tmp_path / "corpus")
    assert main(["experiment", "bigru", "--data", str(tmp_path / "corpus"), "--out", str(tmp_path / "run")]) == 2
    assert "error: sample: features." in capsys.readouterr().err and not (tmp_path / "run").exists()
    (tmp_path / "u.csv").write_text("dialogue,turn,speaker,text,sentiment\nd,0,Ann,hi,1e300\nd,1,Bob,ho,0.5\n")
    assert main(["experiment", "bigru", "--data", str(tmp_path / "u.csv"), "--out", str(tmp_path / "run")]) == 2
    assert "utterance 'd_0': score 1e+300; expected" in capsys.readouterr().err and not (tmp_path / "run").exists()
