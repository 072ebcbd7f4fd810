from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from erc_graph.data.corpus import Corpus
from erc_graph.data.sample.vectors import sample_corpus
from erc_graph.data.tasks import Task
from erc_graph.errors import CorpusError

SPEAKERS = st.lists(st.lists(st.text(max_size=3), min_size=1, max_size=8), min_size=1, max_size=6)


def corpus_of(speakers: list[list[str]]) -> Corpus:
    lengths = [len(turns) for turns in speakers]
    rows = sum(lengths)
    return Corpus(
        name="tiny",
        task=Task(name="two", labels=("no", "yes")),
        dialogue_ids=tuple(f"d{d}" for d in range(len(speakers))),
        ptr=torch.tensor([0, *torch.tensor(lengths).cumsum(0).tolist()]),
        utterance_ids=tuple(f"d{d}_{t}" for d, n in enumerate(lengths) for t in range(n)),
        speakers=tuple(name for turns in speakers for name in turns),
        target=torch.arange(rows) % 3 - 1,
        features={"text": torch.arange(rows * 2.0).view(rows, 2)},
        present={"text": torch.arange(rows) % 2 == 0},
        splits={"train": tuple(f"d{d}" for d in range(len(speakers)))},
        annotations={"label": tuple((None, "no", "yes")[i % 3] for i in range(rows))},
    )


@given(SPEAKERS)
def test_speaker_is_the_order_of_first_appearance(speakers):
    expected = []
    for turns in speakers:
        seen: list[str] = []
        for name in turns:
            if name not in seen:
                seen.append(name)
            expected.append(seen.index(name))
    assert corpus_of(speakers).speaker.tolist() == expected


def test_names_that_numpy_would_confuse_are_two_speakers():
    assert corpus_of([["a", "a\0", "a"]]).speaker.tolist() == [0, 1, 0]


def test_two_hundred_speakers():
    assert corpus_of([[str(i) for i in range(200)] + ["7"]]).speaker.tolist() == [*range(200), 7]


@given(SPEAKERS, st.randoms(use_true_random=False))
def test_a_subset_is_its_dialogues_in_the_order_asked_for(speakers, random):
    corpus = corpus_of(speakers)
    chosen = random.sample(range(len(speakers)), random.randint(1, len(speakers)))
    part = corpus.subset([f"d{d}" for d in chosen])
    rows = [row for d in chosen for row in range(int(corpus.ptr[d]), int(corpus.ptr[d + 1]))]
    assert part.dialogue_ids == tuple(f"d{d}" for d in chosen)
    assert part.ptr.diff().tolist() == [len(speakers[d]) for d in chosen]
    assert part.utterance_ids == tuple(corpus.utterance_ids[row] for row in rows)
    assert part.speakers == tuple(corpus.speakers[row] for row in rows)
    assert part.annotations["label"] == tuple(corpus.annotations["label"][row] for row in rows)
    assert torch.equal(part.target, corpus.target[rows])
    assert torch.equal(part.features["text"], corpus.features["text"][rows])
    assert torch.equal(part.present["text"], corpus.present["text"][rows])
    assert set(part.splits["train"]) == set(part.dialogue_ids)


def test_dialogues_by_position_and_by_name():
    corpus = corpus_of([["a", "b"], ["c"]])
    assert len(corpus) == 2
    assert [dialogue.id for dialogue in corpus] == ["d0", "d1"]
    assert corpus[-1].id == corpus["d1"].id == "d1"
    assert corpus["d0"].speakers == ("a", "b")
    assert corpus["d0"].labels == (None, "no")
    assert corpus["d0"].texts == ()
    assert len(corpus["d0"]) == 2
    assert repr(corpus["d0"]) == "Dialogue(d0: 2 utterances, 2 speakers)"
    assert repr(corpus) == "Corpus(tiny: 2 dialogues, 3 utterances; text 2; train 2; task two)"
    with pytest.raises(IndexError, match="no dialogue at position 2; the corpus has 2 dialogues"):
        corpus[2]
    with pytest.raises(CorpusError, match=r"no dialogue 'd7'; the corpus has 2 dialogues, the first is 'd0'"):
        corpus["d7"]
    with pytest.raises(CorpusError, match=r"unknown dialogue 'd7' \(1 of the 2 given ids are unknown\)"):
        corpus.subset(["d0", "d7"])
    with pytest.raises(CorpusError, match="tiny: dialogue 'd1' is given twice; expected each dialogue once"):
        corpus.subset(["d0", "d1", "d1"])


def test_splits():
    corpus = corpus_of([["a", "b"], ["c"]])
    assert corpus.split("train").dialogue_ids == ("d0", "d1")
    with pytest.raises(CorpusError, match=r"no split 'dev'; splits of the corpus: train; give a split file as `splits` in corpus.toml"):
        corpus.split("dev")


def test_a_batch_has_all_rows_and_the_modalities_asked_for():
    corpus = sample_corpus(dialogues=5)
    batch = corpus.batch(["audio"])
    assert list(batch.features) == list(batch.present) == ["audio"]
    assert list(corpus.batch().features) == list(corpus.modalities)
    assert torch.equal(batch.row, torch.arange(corpus.utterances))
    assert torch.equal(batch.judged, corpus.labelled)
    assert torch.equal(corpus[1].batch(["audio"]).features["audio"], batch.select(torch.tensor([1])).features["audio"])
    with pytest.raises(CorpusError, match=r"no modality 'smell'; found in the corpus: text, audio, visual"):
        corpus.batch(["smell"])


def test_unlabelled_utterances_are_context():
    corpus = corpus_of([["a", "b", "c"]])
    assert corpus.labelled.tolist() == corpus.batch().judged.tolist() == [False, True, True]


def test_another_task_and_a_score():
    corpus = corpus_of([["a", "b", "c"]])
    flipped = corpus.with_task(Task(name="flipped", labels=("yes", "no")))
    assert flipped.target.tolist() == [-1, 1, 0]
    assert corpus.target.tolist() == [-1, 0, 1]
    scored = Corpus(**{**corpus.__dict__, "annotations": {"score": (0.5, None, -1.25)}}).with_task("sentiment")
    assert scored.labelled.tolist() == [True, False, True]
    assert scored[0].labels == ("+0.5", None, "-1.2")
