from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from erc_graph.data.corpus import Corpus
from erc_graph.data.sample.vectors import sample_corpus
from erc_graph.data.tasks import TASKS
from erc_graph.errors import CheckpointError, CorpusError
from erc_graph.inference import answer
from erc_graph.inference.pipeline import Pipeline
from erc_graph.methods import METHODS
from erc_graph.methods.schema import Schema


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return sample_corpus(dialogues=9, seed=4)


@pytest.fixture(scope="module", params=[name for name, kind in METHODS.items() if "features" in kind.reads])
def pipeline(request: pytest.FixtureRequest, corpus: Corpus) -> Pipeline:
    torch.manual_seed(0)
    return Pipeline(METHODS[request.param](Schema.of(corpus, reads=METHODS[request.param].reads)))


@pytest.mark.slow
def test_rows_are_those_of_each_dialogue_alone(pipeline: Pipeline, corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline.method.train()
    monkeypatch.setattr(answer, "BUDGET", 40)  # several forward passes
    rows = pipeline.predict(corpus)
    assert pipeline.method.training
    pipeline.method.eval()
    expected = []
    for dialogue in corpus:
        with torch.no_grad():
            chances = pipeline(dialogue.batch(pipeline.schema.widths)).scores.softmax(-1).tolist()
        for turn, (speaker, text, chance) in enumerate(zip(dialogue.speakers, dialogue.texts, chances, strict=True)):
            best = corpus.task.labels[max(range(len(chance)), key=chance.__getitem__)]
            expected.append((dialogue.id, turn, speaker, text, best, chance))
    assert [(r.dialogue, r.turn, r.speaker, r.text, r.emotion) for r in rows] == [row[:5] for row in expected]
    found = torch.tensor([list(row.probabilities.values()) for row in rows])
    torch.testing.assert_close(found, torch.tensor([row[5] for row in expected]), atol=1e-5, rtol=1e-4)
    assert all(list(row.probabilities) == list(corpus.task.labels) and row.confidence == max(row.probabilities.values()) for row in rows)
    assert set(rows[0].as_dict()) == {"turn", "speaker", "text", "emotion", "probabilities"}


def test_a_subset_a_conversation_and_several(pipeline: Pipeline, corpus: Corpus) -> None:
    ids = [corpus.dialogue_ids[5], corpus.dialogue_ids[1]]
    chosen = pipeline.predict(corpus.subset(ids))
    assert [row.emotion for row in chosen] == [row.emotion for id in ids for row in pipeline.predict(corpus[id])]
    assert len(pipeline.predict([corpus[0], corpus[1]])) == len(corpus[0]) + len(corpus[1])
    assert pipeline.predict(corpus.subset([])) == []


def test_a_modality_that_is_not_there_counts_as_missing(pipeline: Pipeline, corpus: Corpus) -> None:
    without = replace(corpus, features={"text": corpus.features["text"]}, present={"text": corpus.present["text"]}, texts=())
    absent = {name: corpus.present[name] & (name == "text") for name in corpus.modalities}
    expected = pipeline.predict(replace(corpus, present=absent))
    assert [row.probabilities for row in pipeline.predict(without)] == [row.probabilities for row in expected]
    assert pipeline.predict(without)[0].text == ""


def test_features_that_do_not_fit(pipeline: Pipeline, corpus: Corpus) -> None:
    bare = replace(corpus, features={}, present={})
    with pytest.raises(CorpusError, match=r"this model names no text encoder for the vectors that it uses"):
        pipeline.predict(bare)
    with pytest.raises(CorpusError, match=r"expected the features that the model uses, .*text \(.*found none"):
        answer.answers(pipeline.method, bare)
    wide = {**corpus.features, "text": torch.zeros(corpus.utterances, 3)}
    with pytest.raises(CorpusError, match=r"features\.text: expected vectors of \d+ numbers, found 3"):
        pipeline.predict(replace(corpus, features=wide))


def test_scores(corpus: Corpus) -> None:
    pipeline = Pipeline(METHODS["bigru"](Schema(widths={"text": corpus.features["text"].shape[1]}, task=TASKS["sentiment"])))
    row = pipeline.predict(corpus[0])[0]
    assert row.score is not None and row.emotion == f"{row.score:+.1f}" and row.probabilities == {} and row.confidence is None
    assert row.as_dict()["score"] == row.score


def test_answers_are_a_list_and_a_table(corpus: Corpus) -> None:
    pytest.importorskip("pandas")
    pipeline = Pipeline(METHODS["bigru"](Schema.of(corpus)))
    rows = pipeline.predict(replace(corpus, annotations={**corpus.annotations, "start": tuple(map(float, range(corpus.utterances)))}))
    assert isinstance(rows, list) and isinstance(rows[:2], answer.Answers) and rows[:2] + rows[2:] == list(rows)
    frame = rows.to_frame()
    labels = [f"p({label})" for label in corpus.task.labels]
    assert list(frame) == ["dialogue", "turn", "start", "speaker", "text", "emotion", *labels] and len(frame) == len(rows)
    assert frame[labels].values.tolist() == [list(row.probabilities.values()) for row in rows]
    assert frame[["dialogue", "turn"]].values.tolist() == corpus.to_frame()[["dialogue", "turn"]].values.tolist()
    assert frame["start"].tolist() == [row.start for row in rows]
    assert rows[3:5].to_frame()["emotion"].tolist() == [row.emotion for row in rows[3:5]]
    marked = answer.Answers(replace(row, unsure=turn > 2) for turn, row in enumerate(rows))
    assert marked.to_frame()["unsure"].tolist() == [False] * 3 + [True] * (len(rows) - 3)
    assert list(pipeline.predict([]).to_frame()) == ["dialogue", "turn", "speaker", "text", "emotion"]


def test_scores_are_a_column(corpus: Corpus) -> None:
    pytest.importorskip("pandas")
    rows = Pipeline(METHODS["bigru"](Schema(widths={"text": corpus.features["text"].shape[1]}, task=TASKS["sentiment"]))).predict(corpus[0])
    assert list(rows.to_frame()) == ["dialogue", "turn", "speaker", "text", "emotion", "score"]
    assert rows.to_frame()["score"].tolist() == [row.score for row in rows]


def test_a_network_that_diverged_gives_no_answer(corpus: Corpus) -> None:
    pipeline = Pipeline(METHODS["bigru"](Schema.of(corpus)))
    with torch.no_grad():
        next(iter(pipeline.method.parameters())).fill_(float("nan"))
    with pytest.raises(
        CheckpointError, match=r"BiGRU: expected finite scores, found NaN or inf in \d+ of \d+ utterances; the training div"
    ):
        pipeline.predict(corpus)
