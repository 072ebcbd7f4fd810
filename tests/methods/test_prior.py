from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from erc_graph.data.corpus import Corpus
from erc_graph.data.sample.vectors import sample_corpus
from erc_graph.errors import ConfigError, CorpusError
from erc_graph.experiments.baseline import baseline_of
from erc_graph.experiments.checks import check
from erc_graph.experiments.experiment import Experiment, RunConfig, from_dict
from erc_graph.methods.base import Schema
from erc_graph.methods.bigru import BiGRU, BiGRUConfig
from erc_graph.methods.pairwise import MffConfig, Pairwise, PairwiseConfig, PmfConfig
from erc_graph.methods.prior import Prior
from erc_graph.training.config import TrainingConfig
from erc_graph.training.loop import fit
from erc_graph.training.metrics import evaluate

SMALL = {"pmf": PmfConfig(width=8), "mff": MffConfig(width=8)}


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    """The sample corpus with log-probabilities that are right for four utterances of five, and missing for every tenth."""
    plain = sample_corpus(dialogues=60, seed=1)
    generator = torch.Generator().manual_seed(0)
    said = torch.where(torch.rand(plain.utterances, generator=generator) < 0.8, plain.target, (plain.target + 1) % 6)
    logp = (3.0 * torch.nn.functional.one_hot(said, 6)).log_softmax(-1)
    present = torch.arange(plain.utterances) % 10 > 0
    features = {"audio": plain.features["audio"], "text": plain.features["text"], "logp": logp * present[:, None]}
    return replace(plain, features=features, present={**{name: plain.present[name] for name in ("audio", "text")}, "logp": present})


@pytest.mark.parametrize(
    "make",
    [
        lambda schema: Pairwise(schema, PairwiseConfig(prior="logp", **SMALL)),
        lambda schema: Pairwise(schema, PairwiseConfig(prior="logp", prior_stream=True, **SMALL)),
        lambda schema: BiGRU(schema, BiGRUConfig(prior="logp", width=8)),
    ],
    ids=["pairwise", "pairwise with its stream", "bigru"],
)
def test_it_is_added_to_the_scores_where_it_is_there(make: object, corpus: Corpus) -> None:
    pipeline = make(Schema.of(corpus)).eval()  # type: ignore[operator]
    batch = corpus.batch()
    scores, weight = pipeline(batch).scores, pipeline.prior.weight
    with torch.no_grad():
        weight.fill_(0.0)
        without = pipeline(batch).scores
        weight.fill_(2.0)
        twice = pipeline(batch).scores
    torch.testing.assert_close(scores - without, corpus.features["logp"], atol=1e-4, rtol=0)
    torch.testing.assert_close(twice - without, 2 * corpus.features["logp"], atol=1e-4, rtol=0)
    assert (scores == without)[::10].all()  # missing there


def test_it_is_no_modality_of_the_graph_unless_it_is_asked_to_be(corpus: Corpus) -> None:
    schema = Schema.of(corpus)
    assert Pairwise(schema, PairwiseConfig(prior="logp")).modalities == ("audio", "text")
    assert Pairwise(schema, PairwiseConfig(prior="logp", prior_stream=True)).modalities == ("audio", "logp", "text")
    assert Pairwise.roles(PairwiseConfig(prior="logp")) == ("logp",)


@pytest.mark.parametrize("stages", ["two", "joint"])
def test_training_starts_from_what_it_says(stages: str, corpus: Corpus) -> None:
    """After one epoch with hardly a step the model is as good as the prior; the weight is among what is trained."""
    pipeline = Pairwise(Schema.of(corpus), PairwiseConfig(prior="logp", stages=stages, **SMALL))  # type: ignore[arg-type]
    train, dev = corpus.split("train").batch(), corpus.split("dev").batch()
    fit(pipeline, train, dev, TrainingConfig(epochs=1, learning_rate=1e-3), seed=0, quiet=True)
    assert pipeline.prior is not None and pipeline.prior.weight != 1
    own = evaluate(pipeline.eval()(dev).scores, dev.target, corpus.task)["accuracy"]
    assert own > evaluate(dev.features["logp"], dev.target, corpus.task)["accuracy"] - 0.05


def test_the_baseline_gets_it_too(corpus: Corpus) -> None:
    experiment = Experiment(method="pairwise", run=RunConfig(), pipeline=PairwiseConfig(prior="logp"), training=TrainingConfig())
    assert baseline_of(experiment, corpus).pipeline.prior == "logp"
    around = experiment.changed({"pipeline.prior_around": True})
    assert baseline_of(around, corpus).pipeline.prior_around and not baseline_of(experiment, corpus).pipeline.prior_around


def test_the_conversation_is_an_expert_of_its_own(corpus: Corpus) -> None:
    """Against a loop over dialogues, turns and experts; nothing at first, for its weight is zero."""
    other = (corpus.features["logp"].roll(1, 1) * 0.5).log_softmax(-1)
    here = torch.arange(corpus.utterances) % 3 > 0
    first = corpus.rows([0])
    here[first] = False
    shown = {**corpus.present, "logp": corpus.present["logp"].clone(), "other": here}
    shown["logp"][first] = False  # nobody says anything of the first dialogue
    both = replace(corpus, features={**corpus.features, "other": other.masked_fill(~here[:, None], torch.nan)}, present=shown)
    batch, scores = both.batch(), torch.randn(corpus.utterances, 6)
    plain, around = Prior("logp", "other"), Prior("logp", "other", around=True)
    assert torch.equal(plain(scores, batch), around(scores, batch)) and around.around is not None
    with torch.no_grad():
        around.around.fill_(0.5)
    moved = (around(scores, batch) - plain(scores, batch)).detach()
    for start, end in zip(batch.ptr[:-1].tolist(), batch.ptr[1:].tolist(), strict=True):
        votes = [both.features[name][row].exp() for row in range(start, end) for name in ("logp", "other") if shown[name][row]]
        expected = 0.5 * (sum(votes) / len(votes)).log() if votes else torch.zeros(6)
        torch.testing.assert_close(moved[start:end], expected.expand(end - start, 6), atol=1e-5, rtol=1e-4)
    assert not moved[first].any() and moved.isfinite().all()


def test_the_frequencies_of_a_score_task_are_its_mean() -> None:
    corpus = sample_corpus(dialogues=3, seed=1)
    said = torch.randn(corpus.utterances, 1)
    batch = replace(corpus, features={"p": said}, present={"p": torch.ones(corpus.utterances, dtype=torch.bool)}).batch()
    mean = Prior("p", around=True).frequencies([said], batch)
    for start, end in zip(batch.ptr[:-1].tolist(), batch.ptr[1:].tolist(), strict=True):
        torch.testing.assert_close(mean[start:end], said[start:end].mean(0).expand(end - start, 1))


@pytest.mark.parametrize("kind", [Pairwise, BiGRU])
def test_frequencies_need_experts_and_later_turns(kind: type, corpus: Corpus) -> None:
    schema = Schema.of(corpus)
    with pytest.raises(ConfigError, match=r"prior_around: expected pipeline\.prior beside it"):
        kind(schema, kind.Config(prior_around=True))  # type: ignore[attr-defined]
    assert not BiGRU(schema, BiGRUConfig(prior="logp", prior_around=True, bidirectional=False)).causal
    with pytest.raises(ConfigError, match="prior_around is set, which need later turns"):
        PairwiseConfig(prior="logp", prior_around=True, causal=True, graph="causal")


@pytest.mark.parametrize("kind", [Pairwise, BiGRU])
def test_what_is_no_prior(kind: type, corpus: Corpus) -> None:
    for name, found in (("text", "a width of 16"), ("logits", "none of that name among audio, logp, text")):
        with pytest.raises(ConfigError, match=f"pipeline.prior: expected a feature set '{name}' of 6 log-probabilities .*found {found}"):
            kind(Schema.of(corpus), kind.Config(prior=name))  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=r"pipeline\.prior: expected every feature set once, found 'logp\+logp'"):
        kind(Schema.of(corpus), kind.Config(prior="logp+logp"))  # type: ignore[attr-defined]


def test_a_stream_of_a_prior_without_one() -> None:
    with pytest.raises(ConfigError, match=r"pipeline\.prior_stream: expected false without pipeline\.prior"):
        PairwiseConfig(prior_stream=True)


@pytest.mark.parametrize("method", ["pairwise", "bigru"])
def test_what_does_not_add_up_to_one_is_no_prior(method: str, corpus: Corpus) -> None:
    experiment = from_dict(method, {"dataset": "sample", "seeds": 1, "pipeline": {"prior": "logp"}}, "a test")
    check(experiment, corpus)
    twice = replace(corpus, features={**corpus.features, "logp": corpus.features["logp"] * 2})
    with pytest.raises(CorpusError, match=r"expected log-probabilities in 'logp', found .* whose probabilities do not add up to one"):
        check(experiment, twice)


def test_several_begin_as_their_mean_and_each_has_a_weight(corpus: Corpus) -> None:
    other = corpus.features["logp"].roll(1, 1)
    both = replace(corpus, features={**corpus.features, "other": other}, present={**corpus.present, "other": corpus.present["logp"]})
    pipeline = Pairwise(Schema.of(both), PairwiseConfig(prior="logp+other", **SMALL)).eval()  # type: ignore[arg-type]
    assert pipeline.modalities == ("audio", "text") and pipeline.prior is not None
    batch = both.batch()
    scores = pipeline(batch).scores
    with torch.no_grad():
        pipeline.prior.weight.copy_(torch.tensor([0.0, 2.0]))
        moved = pipeline(batch).scores
    torch.testing.assert_close(moved - scores, 1.5 * other - 0.5 * corpus.features["logp"], atol=1e-4, rtol=0)
    with pytest.raises(ConfigError, match="expected a feature set 'third' of 6"):
        Pairwise(Schema.of(both), PairwiseConfig(prior="logp+third", **SMALL))  # type: ignore[arg-type]


def test_missing_rows_with_anything_in_them_count_for_nothing() -> None:
    corpus = sample_corpus(dialogues=3, seed=1)
    batch = replace(
        corpus,
        features={"p": torch.full((corpus.utterances, 6), torch.inf)},
        present={"p": torch.zeros(corpus.utterances, dtype=torch.bool)},
    )
    scores = torch.randn(corpus.utterances, 6)
    assert torch.equal(Prior("p")(scores, batch.batch()), scores)
