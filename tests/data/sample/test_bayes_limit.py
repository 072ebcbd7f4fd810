"""The limit of the sample corpus is exact: a loop over all sequences of emotions gives the same."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from erc_graph.data.sample import bayes_limit
from erc_graph.data.sample import vectors as sample
from erc_graph.data.sample.bayes_limit import sample_bayes_limit, sample_posterior
from erc_graph.data.sample.vectors import SampleConfig, sample_corpus
from erc_graph.errors import CorpusError
from tests.data.sample.test_vectors import PRIOR, loop_chance


@pytest.fixture(scope="module")
def corpus():
    return sample_corpus()


@pytest.fixture(scope="module")
def large():
    return sample_corpus(dialogues=1000, seed=7)


def loop_posterior(speakers: list[int], likelihood: np.ndarray, config: SampleConfig) -> np.ndarray:
    """All sequences of emotions, one after the other."""
    turns = len(speakers)
    total = np.zeros((turns, 6))
    for path in itertools.product(range(6), repeat=turns):
        weight = 1.0
        for t in range(turns):
            own = [path[j] for j in range(t) if speakers[j] == speakers[t]]
            other = [path[j] for j in range(t) if speakers[j] != speakers[t]]
            weight *= loop_chance(path[t], own[-1] if own else None, other[-1] if other else None, config) * likelihood[t, path[t]]
        for t in range(turns):
            total[t, path[t]] += weight
    return total / total.sum(1, keepdims=True)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=4), st.integers(0, 999))
def test_posterior_equals_enumeration(names: list[int], seed: int) -> None:
    speakers = [list(dict.fromkeys(names)).index(name) for name in names]
    rng = np.random.default_rng(seed)
    config = SampleConfig(inertia=rng.uniform(0, 0.6), contagion=rng.uniform(0, 0.4))
    likelihood = rng.uniform(0, 1, (len(speakers), 6)) ** 3
    assert bayes_limit._smooth(np.array(speakers), likelihood, config) == pytest.approx(loop_posterior(speakers, likelihood, config))


@pytest.mark.parametrize("speakers", [[0, 1, 2, 0, 1], [0, 1, 0, 0, 1], [0, 0, 0, 1, 2], [0, 1, 2, 3, 4]])
def test_posterior_equals_enumeration_of_longer_dialogues(speakers: list[int]) -> None:
    likelihood = np.random.default_rng(1).uniform(0, 1, (5, 6)) ** 4
    found = bayes_limit._smooth(np.array(speakers), likelihood, SampleConfig())
    assert found == pytest.approx(loop_posterior(speakers, likelihood, SampleConfig()))


def test_posterior_of_a_corpus_equals_enumeration_from_vectors() -> None:
    config = SampleConfig(turns=(1, 4), missing=0.3, separation=1.2)
    corpus = sample_corpus(dialogues=12, seed=2, config=config)
    means = sample.class_means(config)
    found = sample_posterior(corpus)
    for i, dialogue in enumerate(corpus):
        likelihood = np.ones((len(dialogue), 6))
        for t, e, name in itertools.product(range(len(dialogue)), range(6), corpus.modalities):
            if dialogue.corpus.present[name][t]:
                likelihood[t, e] *= np.exp(-0.5 * ((dialogue.corpus.features[name][t].numpy() - means[name][e]) ** 2).sum())
        rows = slice(int(corpus.ptr[i]), int(corpus.ptr[i + 1]))
        expected = loop_posterior(dialogue.corpus.speaker.tolist(), likelihood, config)
        assert found[rows] == pytest.approx(expected, rel=1e-4, abs=1e-9)
        alone = likelihood * PRIOR
        assert sample_posterior(corpus, context=False)[rows] == pytest.approx(alone / alone.sum(1, keepdims=True), rel=1e-4, abs=1e-9)


@pytest.mark.slow
def test_the_best_rule_is_as_often_right_as_it_expects(large) -> None:
    for context in (True, False):
        posterior = sample_posterior(large, context=context)
        assert posterior.sum(1) == pytest.approx(np.ones(large.utterances))
        expected = sample_bayes_limit(large, split=None, context=context)
        realised = sample_bayes_limit(large, split=None, context=context, realised=True)
        right = posterior.argmax(1) == large.target.numpy()
        per_dialogue = np.add.reduceat(right - posterior.max(1), large.ptr[:-1].numpy())
        error = per_dialogue.std() * np.sqrt(len(large)) / large.utterances
        assert abs(realised - expected) < 4 * error < 0.02
        # Calibrated over the whole range, not just on the average.
        for low in (0.3, 0.5, 0.7, 0.9):
            rows = (posterior.max(1) >= low) & (posterior.max(1) < low + 0.2)
            assert right[rows].mean() == pytest.approx(posterior.max(1)[rows].mean(), abs=0.05)


def test_context_is_worth_at_least_six_points_and_the_limit_is_not_trivial(corpus) -> None:
    limit = sample_bayes_limit()
    assert limit == sample_bayes_limit(corpus) == sample_bayes_limit(corpus.split("test"), split=None)
    assert 0.85 < limit < 0.92
    assert sample_bayes_limit(corpus, context=False) < limit - 0.06


def test_no_context_in_the_generator_means_none_in_the_limit() -> None:
    corpus = sample_corpus(dialogues=20, config=SampleConfig(inertia=0, contagion=0))
    assert sample_posterior(corpus) == pytest.approx(sample_posterior(corpus, context=False))


def test_limit_survives_json() -> None:
    config = SampleConfig(turns=(2, 5), separation=1.0)
    small = sample_corpus(dialogues=10, config=config)
    loaded = replace(small, provenance=json.loads(json.dumps(small.provenance)))
    assert sample_bayes_limit(loaded) == sample_bayes_limit(small) != sample_bayes_limit(sample_corpus(dialogues=10))


def test_limit_of_another_corpus(corpus) -> None:
    with pytest.raises(CorpusError, match="known only for a generated corpus with task sample6, found task sample6 of format 'MELD'"):
        sample_bayes_limit(replace(corpus, provenance={"format": "MELD"}))


def test_the_limit_is_not_known_of_other_vectors():
    corpus = sample_corpus(dialogues=4)
    other = replace(corpus, features={**corpus.features, "text": corpus.features["text"][:, :5]})
    with pytest.raises(CorpusError, match=r"features\.text: .* generated vectors of width 16, found width 5"):
        sample_bayes_limit(other)
