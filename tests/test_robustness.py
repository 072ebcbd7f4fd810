"""The robustness benchmark: what fails, who is judged, whose vectors are carried."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from benchmarks.robustness import divisions, failed, measure, with_vectors_of_others
from erc_graph.data.corpus import Corpus
from erc_graph.data.sample.vectors import sample_corpus
from erc_graph.experiments.experiment import Experiment, from_dict


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return sample_corpus(dialogues=30, seed=3)


def experiment(selection: str = "last") -> Experiment:
    found = from_dict("hff", {"training": {"selection": selection}}, "here")
    return replace(found, run=replace(found.run, data="sample"))


def test_in_folds_every_other_dialogue_is_judged_once_and_never_by_who_was_trained_on_it(corpus: Corpus) -> None:
    cut = divisions(corpus, experiment(), 4)
    judged = [name for fold in cut for name in fold.test]
    assert sorted(judged) == sorted(corpus.splits["train"] + corpus.splits["dev"])
    for fold in cut:
        assert sorted(fold.train + fold.test) == sorted(judged)


def test_without_folds_the_test_part_is_judged(corpus: Corpus) -> None:
    (fold,) = divisions(corpus, experiment(), 0)
    assert fold.test == corpus.splits["test"]


@pytest.mark.parametrize("parts", [1, -2, 99])
def test_folds_that_cannot_be(parts: int, corpus: Corpus) -> None:
    with pytest.raises(SystemExit, match="--folds: expected 2 to"):
        divisions(corpus, experiment(), parts)


def test_folds_have_no_development_part_to_choose_epochs_by(corpus: Corpus) -> None:
    with pytest.raises(SystemExit, match=r"--folds: expected settings with training\.selection = 'last', found 'dev'"):
        divisions(corpus, experiment("dev"), 4)


def test_an_unknown_modality() -> None:
    with pytest.raises(SystemExit, match=r"--others: expected modalities of the corpus \(.*\), found smell"):
        measure("sample", 1, 0, ["smell"])


def test_what_is_missing_at_one_share_is_missing_at_a_larger_one(corpus: Corpus) -> None:
    batch, before = corpus.batch(), torch.zeros(corpus.utterances, dtype=torch.bool)
    for share in (0.0, 0.3, 0.8):
        lost = failed(batch, batch, "audio", "missing", share)
        gone = batch.present["audio"] & ~lost.present["audio"]
        assert (before & ~gone).sum() == 0 and abs(float(gone.double().mean()) - share) < 0.1
        assert torch.equal(lost.present["text"], batch.present["text"])
        before = gone


def test_noise_has_the_moments_of_the_training_part(corpus: Corpus) -> None:
    batch = corpus.batch()
    known = batch.features["audio"][batch.present["audio"]]
    noise = failed(batch, batch, "audio", "noise", 1.0).features["audio"]
    torch.testing.assert_close(noise.mean(0), known.mean(0), atol=0.2, rtol=0)
    torch.testing.assert_close(noise.std(0), known.std(0), atol=0, rtol=0.15)
    assert not (noise == batch.features["audio"]).all(1).any()


def test_vectors_of_others_are_of_other_dialogues(corpus: Corpus) -> None:
    batch = corpus.batch()
    numbered = replace(batch, features={**batch.features, "visual": torch.arange(batch.utterances)[:, None].float()})
    taken = with_vectors_of_others(numbered, ["visual"]).features["visual"][:, 0].long()
    assert not (batch.dialogue[taken] == batch.dialogue).any()
    assert len(taken.unique()) > batch.utterances / 2 and batch.dialogue[taken].unique().tolist() == list(range(len(batch)))
    assert with_vectors_of_others(numbered, []).features["visual"] is numbered.features["visual"]
    with pytest.raises(SystemExit, match="--others: expected two or more dialogues in every fold, found one"):
        with_vectors_of_others(corpus[0].corpus.batch(), ["visual"])
