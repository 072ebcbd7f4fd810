"""What readers hand over is checked and joined."""

from __future__ import annotations

import re

import numpy as np
import pytest

from erc_graph.data.annotations import Annotations
from erc_graph.data.files.assembly import assemble
from erc_graph.errors import CorpusError


def said(**changes) -> Annotations:
    values = {
        "format": "a test", "dialogue_ids": ["d0", "d1"], "lengths": [2, 1], "utterance_ids": ["u0", "u1", "u2"],
        "speakers": ["a", "b", "c"], "columns": {"label": ["x", None, "y"]},
    }  # fmt: skip
    return Annotations(**{**values, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dialogue_ids": [], "lengths": []}, r"a test: no dialogue found"),
        (
            {"lengths": [2, 2]},
            r"one length per dialogue \(2\), which sum to the number of utterances \(3\), found 2 lengths with the sum 4",
        ),
        ({"lengths": [3]}, r"one length per dialogue \(2\), which sum to the number of utterances \(3\), found 1 lengths"),
        ({"lengths": [3, 0]}, r"dialogue 'd1' is empty; expected one utterance or more"),
        ({"dialogue_ids": ["d", "d"]}, r"duplicate dialogue id 'd' \(2 times\)"),
        ({"utterance_ids": ["u", "v", "u"]}, r"duplicate utterance id 'u' \(2 times\)"),
        ({"speakers": ["a"]}, r"speakers: expected one value for each of 3 utterances, found 1 values"),
        ({"texts": ["a"]}, r"texts: expected one value for each of 3 utterances, found 1 values"),
        ({"columns": {"label": ["x"]}}, r"label: expected one value for each of 3 utterances, found 1 values"),
        ({"features": {"text": np.ones((2, 4))}}, r"text: expected one value for each of 3 utterances, found 2 values"),
        ({"columns": {"score": [1, "high", 2]}}, r"dialogue 'd0', utterance 'u1': score 'high'; expected a finite number"),
        ({"columns": {"score": [1, 2, float("inf")]}}, r"dialogue 'd1', utterance 'u2': score inf; expected a finite number"),
        ({"splits": {"train": ["d0"], "test": ["d0"]}}, r"a test: dialogue 'd0' is in train and in test"),
    ],
)
def test_annotations_that_contradict_themselves(changes, message):
    with pytest.raises(CorpusError, match=message):
        assemble(said(**changes))


def test_features_of_the_annotation_file_are_masked_too_and_those_of_the_manifest_win(tmp_path):
    own = {"text": np.array([[1.0], [np.inf], [3.0]]), "audio": np.ones((3, 1))}
    np.savez(tmp_path / "f.npz", utterance=["u2", "u0"], features=[[7.0, 7.0], [8.0, 8.0]])
    corpus = assemble(said(features=own), features={"audio": tmp_path / "f.npz"})
    assert corpus.present["text"].tolist() == [True, False, True]
    assert corpus.features["audio"].tolist() == [[8, 8], [0, 0], [7, 7]]
    with pytest.raises(
        CorpusError,
        match=r"features\.text \(annotation file\): 1 rows with NaN, inf or numbers beyond 1e15 "
        r"\(first: u1\), which the option .strict. does not",
    ):
        assemble(said(features=own), strict=True)


def test_a_score_or_a_sentiment_where_there_is_no_label():
    scored = assemble(said(dataset="mosi", columns={"score": [1, float("nan"), None]}))
    assert scored.task.name == "sentiment" and scored.labelled.tolist() == [True, False, False]
    assert scored.annotations["score"] == (1.0, None, None)
    felt = assemble(said(columns={"sentiment": ["good", None, "bad"]}))
    assert (felt.task.column, felt.task.labels, felt.target.tolist()) == ("sentiment", ("bad", "good"), [1, -1, 0])
    assert assemble(said(labels=["y", "x"])).target.tolist() == [1, -1, 0]


def test_other_differences_from_the_published_sizes_are_counted(caplog):
    assemble(said(dataset="mosi", columns={"score": [1, 2, 3]}))
    assert caplog.messages[-1].endswith("; and 1 more difference from the published sizes")
    assemble(said(dataset="iemocap6", columns={"label": ["sadness", None, "anger"]}))
    assert re.search(r"; and \d more differences from the published sizes$", caplog.messages[-1])
