"""The graph of the starter model: trained among the classes that were offered, calibrated, and packed without names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from erc_graph.data.corpus import Corpus
from erc_graph.training.config import TrainingConfig
from starter.graph import CHANCES, NEVER, Offered, among, balanced, build, cool, held_out, judged, last_layer, temperature, train_graph
from starter.joined import EMORYNLP, GOEMOTIONS, Joined, training_corpus

DIRECTED = {"method": "dagerc", "pipeline": {"width": 8, "layers": 1, "head_layers": 1}}


@pytest.fixture(scope="module")
def joined(goemotions: Path, emorynlp: Path) -> Joined:
    return training_corpus(str(goemotions), str(emorynlp), ())


@pytest.fixture(scope="module")
def corpus(joined: Joined) -> Corpus:
    """Log-probabilities that favour the right class in most utterances."""
    random = torch.Generator().manual_seed(0)
    count = joined.corpus.utterances
    right = F.one_hot(joined.corpus.target.clamp_min(0), 7) * (joined.corpus.target >= 0)[:, None]
    chances = (right + 2 * torch.rand(count, 7, generator=random)).log_softmax(-1)
    return replace(joined.corpus, features={CHANCES: chances}, present={CHANCES: torch.ones(count, dtype=torch.bool)})


def test_at_first_the_answer_is_that_of_the_encoders(corpus: Corpus) -> None:
    for method in (build(corpus, **DIRECTED).eval(), build(corpus, "linear", {}).eval()):
        assert method.causal
        scores = method(method.schema.batch(corpus)).scores
        assert torch.allclose(scores.log_softmax(-1), corpus.features[CHANCES], atol=1e-6)


def test_what_was_not_offered_has_no_chance_and_no_gradient(joined: Joined, corpus: Corpus) -> None:
    method = build(corpus, **DIRECTED)
    scores = Offered(method, joined.offered)(method.schema.batch(corpus)).scores
    assert (scores[~joined.offered] == NEVER).all() and (scores.softmax(-1)[~joined.offered] == 0).all()
    rows = corpus.rows(joined.dialogues(EMORYNLP, "train"))
    F.cross_entropy(scores[rows], corpus.target[rows], ignore_index=-1).backward()
    gradient = last_layer(method).bias.grad
    assert gradient is not None
    assert [bool(one) for one in gradient != 0] == joined.offered[rows[0]].tolist()


def test_corpora_count_about_as_much(joined: Joined) -> None:
    places = balanced(joined, "train").tolist()
    assert sorted(places) == sorted([*joined.dialogues(GOEMOTIONS, "train"), *joined.dialogues(EMORYNLP, "train")])  # 7 labels and 10
    target = torch.where(torch.arange(joined.corpus.utterances) < 14, -1, joined.corpus.target)
    target[0] = 1  # one label of GoEmotions is left, against ten
    few = replace(joined, corpus=replace(joined.corpus, target=target))
    assert balanced(few, "train").tolist().count(0) == 10


def test_the_temperature_makes_probabilities_right(joined: Joined) -> None:
    random = torch.Generator().manual_seed(0)
    scores = 2 * torch.randn(4000, 7, generator=random)
    target = torch.multinomial(scores.softmax(-1), 1, generator=random)[:, 0]
    assert temperature([(3 * scores, target)]) == pytest.approx(3, rel=0.05)
    apart = temperature([(3 * scores[:3900], target[:3900]), (scores[3900:], target[3900:])])
    assert 1.2 < apart < 2.8  # a small part counts as much as a large one


def test_cooling_divides_the_scores(corpus: Corpus) -> None:
    method = build(corpus, **DIRECTED)
    torch.nn.init.normal_(last_layer(method).weight)
    method.eval()
    batch = method.schema.batch(corpus)
    before = method(batch).scores
    cool(method, 2.5)
    assert torch.allclose(method(batch).scores, before / 2.5, atol=1e-6)


def test_a_graph_is_trained_and_judged_on_development_splits(joined: Joined, corpus: Corpus) -> None:
    training = TrainingConfig(epochs=2, batch_size=4, learning_rate=1e-3)
    method, figures = train_graph(joined, corpus, DIRECTED, training, seed=0)
    assert method.schema.provenance["extractors"] == {CHANCES: "../encoder:output=log-probabilities"}
    assert {GOEMOTIONS, EMORYNLP, "temperature", "epoch", "mean_weighted_f1"} == figures.keys()
    scores = method(method.schema.batch(corpus)).scores.detach()
    again = judged(joined, scores)
    assert again["mean_weighted_f1"] == pytest.approx(figures["mean_weighted_f1"])
    assert temperature(list(held_out(joined, scores).values())) == pytest.approx(1, abs=0.02)  # it is in the weights


def test_among_leaves_other_scores_as_they_are() -> None:
    scores, offered = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[True, False, True]])
    assert among(scores, offered).tolist() == [[1.0, NEVER, 3.0]] and scores.tolist() == [[1.0, 2.0, 3.0]]
