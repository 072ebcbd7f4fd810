"""The sample corpus is what its docstring says."""

from __future__ import annotations

import hashlib
import itertools
import json
import time

import numpy as np
import pytest

from erc_graph.data.sample import vectors as sample
from erc_graph.data.sample.vectors import CONFUSED, SampleConfig, sample_corpus
from erc_graph.data.tasks import TASKS
from erc_graph.errors import ConfigError

LABELS = TASKS["sample6"].labels
PRIOR = [sample.BASE[name] for name in LABELS]


@pytest.fixture(scope="module")
def corpus():
    return sample_corpus()


@pytest.fixture(scope="module")
def large():
    return sample_corpus(dialogues=1000, seed=7)


def test_shape_of_the_corpus(corpus) -> None:
    assert corpus.name == "sample" and corpus.task is TASKS["sample6"]
    assert {name: tuple(value.shape) for name, value in corpus.features.items()} == {
        "text": (corpus.utterances, 16),
        "audio": (corpus.utterances, 8),
        "visual": (corpus.utterances, 8),
    }
    assert sorted(itertools.chain(*corpus.splits.values())) == sorted(corpus.dialogue_ids)
    assert [len(corpus.splits[name]) for name in ("train", "dev", "test")] == [360, 90, 150]
    assert (int(corpus.lengths.min()), int(corpus.lengths.max())) == (6, 30)
    assert {len(set(dialogue.speakers)) for dialogue in corpus} == {2, 3, 4, 5}
    assert len(set(corpus.utterance_ids)) == corpus.utterances
    assert len(corpus.split("test").batch()) == 150


def test_missing_vectors_are_zero_masked_and_some_utterances_have_none(corpus) -> None:
    present = np.stack([corpus.present[name].numpy() for name in corpus.modalities])
    assert (1 - present.mean(1)) == pytest.approx([0.08] * 3, abs=0.01)
    assert (~present).all(0).any(), "a model must live with an utterance that has no vector at all"
    for name, value in corpus.features.items():
        assert not value[~corpus.present[name]].any() and value[corpus.present[name]].any(1).all()
    assert all(bool(text) == bool(there) for text, there in zip(corpus.texts, corpus.present["text"], strict=True))


def test_text_is_made_from_the_emotion_and_speaks_to_somebody_else(corpus) -> None:
    for dialogue in corpus:
        for name, text, label in zip(dialogue.speakers, dialogue.texts, dialogue.labels, strict=True):
            assert name not in text
            if text:
                assert any(text == form.format(name=other) for form in sample.SENTENCES[label] for other in sample.NAMES)


def test_same_seed_same_corpus_on_any_machine() -> None:
    def fingerprint(seed: int) -> str:
        corpus = sample_corpus(dialogues=40, seed=seed)
        arrays = [corpus.target, *corpus.features.values(), *corpus.present.values()]
        words = json.dumps([corpus.speakers, corpus.texts, corpus.dialogue_ids])
        return hashlib.sha256(words.encode() + b"".join(array.numpy().tobytes() for array in arrays)).hexdigest()[:16]

    assert fingerprint(3) == fingerprint(3) != fingerprint(4)
    assert fingerprint(0) == "8c9756724bc3c046"


def test_generation_is_quick() -> None:
    start = time.perf_counter()
    sample_corpus()
    assert time.perf_counter() - start < 0.5


def test_emotions_follow_the_equation(large) -> None:
    """Counts of (own last, other's last) → next, gathered in a loop, against the equation written out."""
    counts = np.zeros((7, 7, 6))
    for dialogue in large:
        felt: dict[str, int] = {}
        for turn, (name, label) in enumerate(zip(dialogue.speakers, dialogue.corpus.target.tolist(), strict=True)):
            others = [s for s in dialogue.speakers[:turn] if s != name]
            counts[felt.get(name, 6), felt[others[-1]] if others else 6, label] += 1
            felt[name] = label
    config = SampleConfig()
    for a, b in itertools.product(range(7), range(7)):
        seen = counts[a, b].sum()
        for e in range(6):
            chance = loop_chance(e, None if a == 6 else a, None if b == 6 else b, config)
            if seen > 50:
                assert counts[a, b, e] / seen == pytest.approx(chance, abs=5 * np.sqrt(chance * (1 - chance) / seen) + 1e-9)
    assert counts.sum((0, 1)) / counts.sum() == pytest.approx(PRIOR, abs=0.02)  # each turn alone follows BASE


def test_each_modality_confuses_its_own_pairs() -> None:
    config = SampleConfig()
    means = sample.class_means(config)
    for modality, mean in means.items():
        for i, j in itertools.combinations(range(6), 2):
            distance = np.linalg.norm(mean[i] - mean[j])
            if (LABELS[i], LABELS[j]) in CONFUSED[modality] or (LABELS[j], LABELS[i]) in CONFUSED[modality]:
                assert distance == pytest.approx(config.detail * config.separation * np.sqrt(2))
            else:
                assert distance > 1.0 * config.separation
    assert not set.intersection(*(set(pairs) for pairs in CONFUSED.values()))


def test_vectors_scatter_normally_around_their_point(large) -> None:
    for modality, mean in sample.class_means(SampleConfig()).items():
        rows = large.present[modality].numpy()
        rest = large.features[modality].numpy()[rows] - mean[large.target.numpy()[rows]]
        assert np.cov(rest.T) == pytest.approx(np.eye(rest.shape[1]), abs=0.04)
        assert rest.mean(0) == pytest.approx(np.zeros(rest.shape[1]), abs=0.04)


def loop_chance(e: int, own: int | None, other: int | None, config: SampleConfig) -> float:
    chance, rest = 0.0, 1.0
    if own is not None:
        chance += config.inertia * (e == own)
        rest -= config.inertia
    if other is not None:
        chance += config.contagion * (e == other)
        rest -= config.contagion
    return chance + rest * PRIOR[e]


# -- bad input --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"turns": (8, 6)}, r"sample.turns: expected two numbers \(fewest, most\) with 1 <= fewest <= most, found \(8, 6\)"),
        ({"speakers": (1, 3)}, r"sample.speakers: expected two numbers \(fewest, most\) with 2 <= fewest"),
        ({"speakers": (2, 13)}, "sample.speakers: expected at most 12 speakers, found 13"),
        ({"missing": 1.5}, "sample.missing: expected a number from 0 to 1, found 1.5"),
        ({"separation": float("nan")}, "sample.separation: expected a number from 0 to 100, found nan"),
        ({"inertia": 0.7, "contagion": 0.5}, r"inertia \+ contagion of at most 1"),
    ],
)
def test_impossible_numbers(values, message) -> None:
    with pytest.raises(ConfigError, match=message):
        SampleConfig(**values)


def test_too_few_dialogues() -> None:
    with pytest.raises(ConfigError, match="at least 3 dialogues, one per split; found 2"):
        sample_corpus(dialogues=2)
    assert [len(names) for names in sample_corpus(dialogues=3).splits.values()] == [1, 1, 1]
