"""Folds of training dialogues: everyone is held out once, and the folds are about as long as each other."""

from __future__ import annotations

from dataclasses import replace

import pytest

from erc_graph.data.sample.vectors import sample_corpus
from erc_graph.errors import ConfigError
from erc_graph.features.cross_fitting import members, unseen_by

CORPUS = sample_corpus(dialogues=60)
TRAIN = CORPUS.splits["train"]


@pytest.mark.parametrize("folds", [2, 3, 5])
def test_every_training_dialogue_is_held_out_once_in_folds_of_similar_length(folds: int) -> None:
    found = members(CORPUS, folds, seed=0)
    assert list(found) == [f"fold-{k}" for k in range(folds)]
    assert sorted(name for unseen in found.values() for name in unseen) == sorted(TRAIN)
    sizes = [sum(len(CORPUS[name]) for name in unseen) for unseen in found.values()]
    longest = max(len(CORPUS[name]) for name in TRAIN)
    assert max(sizes) - min(sizes) <= 2 * longest


def test_as_many_folds_as_dialogues_hold_out_one_each() -> None:
    assert sorted(members(CORPUS, len(TRAIN), seed=0).values()) == sorted([name] for name in TRAIN)


def test_repeats_have_the_folds_of_the_next_seeds() -> None:
    found = members(CORPUS, 2, seed=4, repeats=2)
    first, second = members(CORPUS, 2, seed=4), members(CORPUS, 2, seed=5)
    assert found == {**first, **{f"repeat-1-{name}": unseen for name, unseen in second.items()}}
    assert first != second


def test_without_folds_one_encoder_sees_everything() -> None:
    assert members(CORPUS, 0, seed=0) == {"all": []} and unseen_by({"all": []}) == {}


def test_a_dialogue_goes_through_the_encoders_that_never_saw_it() -> None:
    found = members(CORPUS, 3, seed=0, repeats=2)
    for name in TRAIN:
        assert unseen_by(found)[name] == {member for member, unseen in found.items() if name in unseen}
        assert len(unseen_by(found)[name]) == 2  # one of each repeat
    assert not unseen_by(found).keys() & set(CORPUS.splits["test"])


def test_impossible_numbers_of_folds() -> None:
    for folds in (1, len(TRAIN) + 1):
        with pytest.raises(ConfigError, match=f"cross-fit: expected 2 to {len(TRAIN)} folds"):
            members(CORPUS, folds, seed=0)
    one = replace(CORPUS, splits={"train": TRAIN[:1]})
    with pytest.raises(ConfigError, match="expected 0, because only one training dialogue exists, found 2"):
        members(one, 2, seed=0)
