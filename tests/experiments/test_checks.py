"""What a corpus must not have (features that know what is judged, nothing to learn from), and limits for methods of single utterances."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from erc_graph.data.corpus import Corpus
from erc_graph.data.files.feature_files import write_features
from erc_graph.data.files.load import load_corpus
from erc_graph.data.sample.raw import sample_raw_corpus
from erc_graph.data.sample.vectors import sample_corpus
from erc_graph.data.tasks import TASKS, Task
from erc_graph.errors import ConfigError, CorpusError
from erc_graph.experiments import checks
from erc_graph.experiments.checks import check
from erc_graph.experiments.experiment import Experiment, from_dict
from erc_graph.experiments.run import build


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return sample_corpus(dialogues=20)


@pytest.fixture(scope="module")
def experiment() -> Experiment:
    return from_dict("bigru", {"dataset": "sample", "seeds": 1}, "a test")


def fitted(corpus: Corpus, ids: tuple[str, ...], cross_fit: int) -> Corpus:
    known = {"text": {"dialogues": list(ids), "cross_fit": cross_fit}}
    return replace(corpus, provenance={**corpus.provenance, "fitted": known})


def test_features_that_know_the_labels_of_test_dialogues_are_refused(corpus: Corpus, experiment: Experiment) -> None:
    check(experiment, fitted(corpus, corpus.splits["train"], 0))
    first = corpus.splits["test"][0]
    with pytest.raises(
        ConfigError, match=f"text: expected features of an encoder that was not fine-tuned on test .* found 1 test dialogues .*{first}"
    ):
        check(experiment, fitted(corpus, (*corpus.splits["train"], first), 0))
    without = replace(experiment, run=replace(experiment.run, modalities=["audio"]))
    check(without, fitted(corpus, (first,), 0))


def test_cross_fitted_features_are_let_through_and_it_is_said(
    corpus: Corpus, experiment: Experiment, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        check(experiment, fitted(corpus, corpus.splits["test"][:2], 3))
    assert "tuned on the labels of 2 test dialogues" in caplog.text and "encoders that were not fine-tuned on them" in caplog.text


def test_a_corpus_that_nothing_can_be_learnt_from_is_refused_before_a_network_is_built(
    corpus: Corpus, experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "build", None)
    none = torch.full_like(corpus.target, -1)
    for task in (corpus.task, Task(name="unlabelled")):
        with pytest.raises(
            CorpusError, match=rf"expected labels to learn from, found none in {len(none)} utterances; add the column `label`"
        ):
            check(experiment, replace(corpus, task=task, target=none))
    label = corpus.task.labels[2]
    with pytest.raises(
        CorpusError,
        match=f"train split of fold official: expected at least two different labels, found only the label '{label}'; label more",
    ):
        check(experiment, replace(corpus, target=none.where(corpus.target < 0, torch.tensor(2))))
    score = replace(corpus, task=TASKS["sentiment"], target=torch.full_like(corpus.target, 1.5, dtype=torch.float32))
    with pytest.raises(CorpusError, match=r"expected at least two different labels, found only the label 1\.5"):
        check(experiment, score)
    silent = replace(corpus, present={name: torch.zeros_like(here) for name, here in corpus.present.items()})
    with pytest.raises(
        CorpusError,
        match=r"expected utterances with features, found none: in all \d+ utterances, the features of audio, text, visual are missing "
        "or contain NaN, inf or numbers beyond 1e15; check the feature files",
    ):
        check(experiment, silent)


def test_the_note_of_a_feature_file_reaches_the_corpus(tmp_path: Path, corpus: Corpus) -> None:
    rows = "".join(f"d,{i},ann,hello,u{i},joy,{split}\n" for i, split in enumerate(("train",) * 3))
    (tmp_path / "turns.csv").write_text("dialogue,turn,speaker,text,utterance,label,split\n" + rows)
    note = {"extractor": "x", "fitted": {"dialogues": ["d"], "cross_fit": 0}}
    write_features(tmp_path / "text.safetensors", ["u0", "u1", "u2"], corpus.features["text"][:3], note)
    (tmp_path / "corpus.toml").write_text('dataset = "mine"\nannotations = "turns.csv"\n[features]\ntext = "text.safetensors"\n')
    loaded = load_corpus(tmp_path)
    assert loaded.provenance["fitted"] == {"text": note["fitted"]} and loaded.provenance["extractors"] == {"text": "x"}


@pytest.mark.parametrize("method", ["mfdr", "hff", "wavfusion"])
def test_a_method_without_a_graph_sees_single_utterances(method: str) -> None:
    raw = sample_raw_corpus(dialogues=4)
    for graph, alone in (("none", True), ("window", False)):
        experiment = from_dict(method, {"dataset": "sample-raw", "pipeline": {"graph": graph}}, "a test")
        assert build(experiment, raw, 0).utterance_level is alone


def test_over_vectors_the_third_level_of_hff_reads_other_turns(corpus: Corpus, experiment: Experiment) -> None:
    assert not build(experiment, corpus, 0).utterance_level
    for turns in (True, False):
        hff = from_dict("hff", {"dataset": "sample", "pipeline": {"graph": "none", "turns": turns}}, "a test")
        assert build(hff, corpus, 0).utterance_level is not turns


@pytest.mark.parametrize("method", ["bigru", "mmgcn"])
def test_what_does_not_add_up_to_one_is_no_prior(method: str, corpus: Corpus) -> None:
    experiment = from_dict(method, {"dataset": "sample", "seeds": 1, "prior": {"features": ["logp"]}}, "a test")
    values = torch.randn(corpus.utterances, len(corpus.task.labels), generator=torch.Generator().manual_seed(0)).log_softmax(-1)

    def with_prior(values: torch.Tensor) -> Corpus:
        here = torch.ones(corpus.utterances, dtype=torch.bool)
        return replace(corpus, features={**corpus.features, "logp": values}, present={**corpus.present, "logp": here})

    check(experiment, with_prior(values))
    with pytest.raises(
        CorpusError,
        match=r"expected log-probabilities in the feature set 'logp', but the probabilities of \d+ of its \d+ utterances "
        r"\(first: .*\) do not add up to one; make the feature set with",
    ):
        check(experiment, with_prior(values * 2))


def test_what_is_longer_than_a_method_reads_is_said_and_with_strict_refused(caplog: pytest.LogCaptureFixture) -> None:
    corpus = sample_raw_corpus(dialogues=20)
    few = {"dataset": "sample-raw", "seeds": 1, "pipeline": {"words": 7}}
    with caplog.at_level(logging.WARNING):
        check(from_dict("mfdr", few, "a test"), corpus)
    assert "the rest is cut off" in caplog.text
    with pytest.raises(CorpusError, match="leave out --strict to cut off the rest"):
        check(from_dict("mfdr", {**few, "strict": True}, "a test"), corpus)
