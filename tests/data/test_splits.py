from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from erc_graph.data.corpus import Corpus
from erc_graph.data.sample.vectors import sample_corpus
from erc_graph.data.splits import PROTOCOLS, check_splits, development_split, folds, hold_out, judged_rows, read_splits
from erc_graph.data.tasks import Task
from erc_graph.errors import ConfigError, CorpusError


def iemocap_like(sessions: int = 5, dialogues: int = 6) -> Corpus:
    ids = tuple(f"Ses{s:02d}F_impro{d:02d}" for s in range(1, sessions + 1) for d in range(dialogues))
    turns = 3
    speakers = tuple(f"{name[:5]}{gender}" for name in ids for gender in "FMF")
    return Corpus(
        name="like",
        task=Task(name="two", labels=("no", "yes")),
        dialogue_ids=ids,
        ptr=torch.arange(len(ids) + 1) * turns,
        utterance_ids=tuple(f"{name}_{t}" for name in ids for t in range(turns)),
        speakers=speakers,
        target=torch.arange(len(speakers)) % 5 - 1,
        splits={"train": ids[:-dialogues], "test": ids[-dialogues:]},
    )


# -- split files ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({"train": ["d0"], "holdout": ["d1"]}, r"here: unknown split 'holdout'; expected train, dev, test"),
        ({"train": ["d0"], "val": ["d1"], "dev": ["d2"]}, r"here: two spellings of the split 'dev'; expected train, dev, test"),
        ({"train": ["d0_1"]}, r"unknown dialogue 'd0_1' .*, the first is 'd0'; a split lists dialogues, not utterances"),
        (
            {"train": ["d0", "d9", "d8"]},
            r"here: train: unknown dialogue 'd9' \(2 of 3 unknown\); the annotations have 3 dialogues, the first is 'd0'",
        ),
        (
            {"train": ["d0"], "test": ["d1", "d0"]},
            r"here: dialogue 'd0' is in train and in test; expected each dialogue once, in one split",
        ),
        ({"train": ["d0", "d0"]}, r"here: dialogue 'd0' is twice in train"),
        ({"train": "d0"}, r"here: train: expected a list of dialogue ids"),
        ({"train": [0]}, r"here: train: expected a list of dialogue ids"),
    ],
)
def test_splits_that_do_not_fit(splits, message):
    with pytest.raises(CorpusError, match=message):
        check_splits(splits, ["d0", "d1", "d2"], "here")


def test_splits_keep_their_order_and_lose_what_is_empty():
    assert check_splits({"Train": ["d0"], "VAL": ["d1"]}, ["d0", "d1"], "here") == {"train": ("d0",), "dev": ("d1",)}
    assert check_splits({"test": ["d2"], "dev": [], "train": ["d1", "d0"]}, ["d0", "d1", "d2"], "here") == {
        "train": ("d1", "d0"),
        "test": ("d2",),
    }


@pytest.mark.parametrize("text", ["{", '{"train": [}', "\x00", "[" * 99999, "1" * 5000])
def test_broken_json(tmp_path, text):
    (tmp_path / "s.json").write_text(text)
    with pytest.raises(CorpusError, match=r"s\.json: not valid JSON"):
        read_splits(tmp_path / "s.json")


def test_a_split_that_stands_twice(tmp_path):
    (tmp_path / "s.json").write_text('{"train": ["d0"], "test": ["d1"], "train": ["d2"]}')
    with pytest.raises(CorpusError, match=r"s\.json: the split 'train' is in the file twice; expected each split once"):
        read_splits(tmp_path / "s.json")


def test_json_that_is_no_object(tmp_path):
    (tmp_path / "s.json").write_text(json.dumps([["d0"]]))
    with pytest.raises(
        CorpusError,
        match=r"s\.json: expected a JSON object with the keys train, dev and test, each with a list of dialogue ids, found a list",
    ):
        read_splits(tmp_path / "s.json")


# -- development splits --------------------------------------------------------------------

NAMES = st.lists(st.text(max_size=4), min_size=2, max_size=30, unique=True)


@given(NAMES, st.floats(0.01, 0.99), st.integers(0, 3), st.randoms(use_true_random=False))
def test_held_out_dialogues_do_not_depend_on_the_order(names, fraction, seed, random):
    stay, held_out = hold_out(names, fraction, seed)
    assert sorted([*stay, *held_out]) == sorted(names)
    assert stay and held_out
    assert abs(len(held_out) - fraction * len(names)) <= 1
    assert [name for name in names if name in stay] == list(stay)
    shuffled = random.sample(names, len(names))
    assert set(hold_out(shuffled, fraction, seed)[1]) == set(held_out)


def test_another_seed_holds_out_others():
    names = [str(i) for i in range(100)]
    assert len({hold_out(names, seed=seed)[1] for seed in range(5)}) == 5


def test_a_development_split_is_made_only_where_there_is_none():
    corpus = iemocap_like()
    made = development_split(corpus)
    assert list(made.splits) == ["train", "dev", "test"]
    assert set(made.splits["train"]) | set(made.splits["dev"]) == set(corpus.splits["train"])
    assert made.splits["test"] == corpus.splits["test"]
    assert len(made.splits["dev"]) == 2
    assert development_split(made) is made


def test_development_splits_that_cannot_be():
    corpus = iemocap_like()
    with pytest.raises(ConfigError, match=r"fraction of development dialogues: expected a number between 0 and 1, found 1.5"):
        development_split(corpus, fraction=1.5)
    with pytest.raises(ConfigError, match=r"expected two or more training dialogues, from which one can be taken, found 1"):
        development_split(replace(corpus, splits={"train": corpus.dialogue_ids[:1]}))
    with pytest.raises(ConfigError, match=r"like: no training split, from which development dialogues could be taken"):
        development_split(replace(corpus, splits={}))


# -- protocols -----------------------------------------------------------------------------


def test_official_is_what_the_corpus_says():
    corpus = sample_corpus(dialogues=20)
    (fold,) = folds(corpus)
    assert (fold.train, fold.dev, fold.test) == tuple(corpus.splits[name] for name in ("train", "dev", "test"))
    assert fold.dev_speakers is None and fold.test_speakers is None
    (made,) = folds(iemocap_like(), "official")
    assert len(made.dev) == 2 and not set(made.dev) & set(made.train)


def test_leave_one_session_out():
    corpus = iemocap_like()
    result = folds(corpus, "session5")
    assert [fold.name for fold in result] == [f"session {k}" for k in range(1, 6)]
    for k, fold in enumerate(result, start=1):
        assert all((f"Ses{k:02d}" in name) == (name in fold.test) for name in corpus.dialogue_ids)
        assert sorted([*fold.train, *fold.dev, *fold.test]) == sorted(corpus.dialogue_ids)
        assert len(fold.dev) == 2
    assert folds(corpus, "session5", seed=1) != result == folds(corpus, "session5")


def test_leave_one_speaker_out():
    corpus = iemocap_like()
    result = folds(corpus, "speaker10")
    assert [fold.name for fold in result] == [f"speaker Ses{k:02d}{g}" for k in range(1, 6) for g in "FM"]
    judged = torch.zeros(corpus.utterances, dtype=torch.long)
    for fold in result:
        assert fold.dev == fold.test and not set(fold.train) & set(fold.test)
        assert len(fold.train) == 24 and len(fold.test) == 6
        dev, test = judged_rows(corpus, fold.dev, fold.dev_speakers), judged_rows(corpus, fold.test, fold.test_speakers)
        assert not (dev & test).any()
        assert torch.equal(dev | test, judged_rows(corpus, fold.test))
        judged += test
    assert torch.equal(judged, corpus.labelled.long())  # every labelled utterance is judged once


@pytest.mark.parametrize("speakers", [None, {"Ses02F"}, {"Ses02F", "Ses02M"}, set()])
def test_judged_rows_by_loop(speakers):
    corpus = iemocap_like()
    chosen = corpus.dialogue_ids[4:9]
    expected = [
        corpus.dialogue_ids[corpus.dialogue_of[i]] in chosen
        and (speakers is None or corpus.speakers[i] in speakers)
        and bool(corpus.target[i] >= 0)
        for i in range(corpus.utterances)
    ]
    assert judged_rows(corpus, chosen, speakers).tolist() == expected
    with pytest.raises(CorpusError, match=r"like: unknown dialogue 'x' \(1 of the 1 given ids are unknown\)"):
        judged_rows(corpus, ["x"])


def test_protocols_that_do_not_fit_say_which_do():
    sample, like = sample_corpus(dialogues=10), iemocap_like()
    with pytest.raises(ConfigError, match=r"protocol: unknown 'loso'; known protocols: official, session5, speaker10"):
        folds(like, "loso")
    with pytest.raises(
        ConfigError,
        match=r"session5 does not fit sample: expected dialogue ids that name their session.*protocols that fit: official",
    ):
        folds(sample, "session5")
    with pytest.raises(ConfigError, match=r"official does not fit like: the corpus has no split test; .*that fit: session5, speaker10"):
        folds(replace(like, splits={"train": like.dialogue_ids}))
    with pytest.raises(ConfigError, match=r"the corpus has no split train and no split test; .*that fit: none"):
        folds(replace(sample, splits={}))
    with pytest.raises(ConfigError, match=r"expected dialogues of three or more sessions, found 2 in the dialogue ids of like"):
        folds(iemocap_like(sessions=2), "speaker10")
    with pytest.raises(ConfigError, match=r"two speakers per session, .*found 18 in session 01; protocols that fit: official, session5"):
        folds(replace(like, speakers=like.utterance_ids), "speaker10")
    with pytest.raises(ConfigError, match=r"speakers that each belong to only one session, found 'F' in several sessions"):
        folds(replace(like, speakers=tuple(name[-1] for name in like.speakers)), "speaker10")
    assert set(PROTOCOLS) == {"official", "session5", "speaker10"}
