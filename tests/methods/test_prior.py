"""Log-probabilities of other classifiers behind the scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from erc_graph.data.corpus import Corpus
from erc_graph.data.sample.vectors import sample_corpus
from erc_graph.data.tasks import TASKS
from erc_graph.errors import ConfigError
from erc_graph.methods.base import Method
from erc_graph.methods.bigru import BiGRU, BiGRUConfig
from erc_graph.methods.pairwise import MffConfig, Pairwise, PairwiseConfig, PmfConfig
from erc_graph.methods.prior import Prior, PriorConfig
from erc_graph.methods.schema import Schema
from erc_graph.training.config import TrainingConfig
from erc_graph.training.loop import fit
from erc_graph.training.metrics import evaluate

SMALL: dict[str, Any] = {"pmf": PmfConfig(width=8), "mff": MffConfig(width=8)}
LOGP = PriorConfig(features=["logp"])


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
        lambda schema: Pairwise(schema, PairwiseConfig(**SMALL), prior=LOGP),
        lambda schema: Pairwise(schema, PairwiseConfig(**SMALL), prior=PriorConfig(features=["logp"], stream=True)),
        lambda schema: BiGRU(schema, BiGRUConfig(width=8), prior=LOGP),
    ],
    ids=["pairwise", "pairwise with its stream", "bigru"],
)
def test_it_is_added_to_the_scores_where_it_is_there(make: Callable[[Schema], Method], corpus: Corpus) -> None:
    method = make(Schema.of(corpus)).eval()
    assert method.prior is not None
    batch = corpus.batch()
    scores, weight = method(batch).scores, method.prior.weight
    with torch.no_grad():
        weight.fill_(0.0)
        without = method(batch).scores
        weight.fill_(2.0)
        twice = method(batch).scores
    torch.testing.assert_close(scores - without, corpus.features["logp"], atol=1e-4, rtol=0)
    torch.testing.assert_close(twice - without, 2 * corpus.features["logp"], atol=1e-4, rtol=0)
    assert (scores == without)[::10].all()  # missing there


def test_it_is_no_modality_unless_it_is_asked_to_be(corpus: Corpus) -> None:
    schema = Schema.of(corpus)
    streamed = PriorConfig(features=["logp"], stream=True)
    assert Pairwise(schema, prior=LOGP).inputs.shapes.modalities == ("audio", "text")
    assert Pairwise(schema, prior=streamed).inputs.shapes.modalities == ("audio", "logp", "text")
    assert BiGRU(schema, prior=LOGP).inputs.scaled == ("audio", "text") and BiGRU(schema, prior=streamed).inputs.scaled == (
        "audio",
        "logp",
        "text",
    )


@pytest.mark.parametrize("stages", ["two", "joint"])
def test_training_starts_from_what_it_says(stages: str, corpus: Corpus) -> None:
    """After one epoch with hardly a step the model is as good as the prior; the weight is among what is trained."""
    method = Pairwise(Schema.of(corpus), PairwiseConfig(stages=stages, **SMALL), prior=LOGP)  # type: ignore[arg-type]
    train, dev = corpus.split("train").batch(), corpus.split("dev").batch()
    fit(method, train, dev, TrainingConfig(epochs=1, learning_rate=1e-3), seed=0, quiet=True)
    assert method.prior is not None and method.prior.weight != 1
    own = evaluate(method.eval()(dev).scores, dev.target, corpus.task)["accuracy"]
    assert own > evaluate(dev.features["logp"], dev.target, corpus.task)["accuracy"] - 0.05


@pytest.mark.parametrize("stages", ["two", "joint"])
def test_its_weight_is_trained_in_exactly_one_stage(stages: Any, corpus: Corpus) -> None:
    method = Pairwise(Schema.of(corpus), PairwiseConfig(stages=stages, **SMALL), prior=LOGP)
    assert method.prior is not None
    found = [method.prior.weight in set(stage.module.parameters()) for stage in method.stages()]
    assert found == [False] * (len(found) - 1) + [True]
    first = method.eval().stages()[0].forward(corpus.batch()).scores
    with torch.no_grad():
        method.prior.weight.fill_(5.0)
    same = torch.equal(first, method.stages()[0].forward(corpus.batch()).scores)
    assert same is (stages == "two")  # the pairs' own classifiers are asked without it


def test_the_conversation_is_an_expert_of_its_own(corpus: Corpus) -> None:
    """Against a loop over dialogues, turns and experts; nothing at first, for its weight is zero."""
    other = (corpus.features["logp"].roll(1, 1) * 0.5).log_softmax(-1)
    here = torch.arange(corpus.utterances) % 3 > 0
    first = corpus.rows([0])
    here[first] = False
    shown = {**corpus.present, "logp": corpus.present["logp"].clone(), "other": here}
    shown["logp"][first] = False  # nobody says anything of the first dialogue
    both = replace(corpus, features={**corpus.features, "other": other.masked_fill(~here[:, None], torch.nan)}, present=shown)
    batch, scores, schema = both.batch(), torch.randn(corpus.utterances, 6), Schema.of(both)
    plain = Prior(PriorConfig(features=["logp", "other"]), schema)
    around = Prior(PriorConfig(features=["logp", "other"], around=True), schema)
    assert torch.equal(plain(scores, batch), around(scores, batch)) and around.around is not None
    with torch.no_grad():
        around.around.weight.fill_(0.5)
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
    prior = Prior(PriorConfig(features=["p"], around=True), Schema(widths={"p": 1}, task=TASKS["sentiment"]))
    assert prior.around is not None
    with torch.no_grad():
        prior.around.weight.fill_(2.0)
        found = prior(torch.zeros(corpus.utterances, 1), batch)
    for start, end in zip(batch.ptr[:-1].tolist(), batch.ptr[1:].tolist(), strict=True):
        torch.testing.assert_close(found[start:end], said[start:end] + 2 * said[start:end].mean(0))


@pytest.mark.parametrize("kind", [Pairwise, BiGRU])
def test_frequencies_need_later_turns(kind: type[Method], corpus: Corpus) -> None:
    schema, around = Schema.of(corpus), PriorConfig(features=["logp"], around=True)
    with pytest.raises(
        ConfigError, match=r"pipeline.causal: expected only modules that read no later utterances, found prior.around; change"
    ):
        kind(schema, kind.Config(causal=True), prior=around)
    assert kind(schema, kind.Config(causal=True), prior=LOGP).causal and not kind(schema, prior=around).causal


@pytest.mark.parametrize("kind", [Pairwise, BiGRU])
def test_what_is_no_prior(kind: type[Method], corpus: Corpus) -> None:
    for name, found in (("text", "a width of 16"), ("logits", "none of that name among audio, logp, text")):
        with pytest.raises(ConfigError, match=f"prior.features: expected a feature set '{name}' of 6 log-probabilities .*found {found}"):
            kind(Schema.of(corpus), prior=PriorConfig(features=[name]))


def test_options_that_contradict_each_other() -> None:
    with pytest.raises(ConfigError, match=r"prior\.features: expected every feature set once, found logp, logp"):
        PriorConfig(features=["logp", "logp"])
    for name in ("around", "stream"):
        with pytest.raises(ConfigError, match=rf"prior\.{name}: expected prior.features as well"):
            PriorConfig(**{name: True})


def test_several_begin_as_their_mean_and_each_has_a_weight(corpus: Corpus) -> None:
    other = corpus.features["logp"].roll(1, 1)
    both = replace(corpus, features={**corpus.features, "other": other}, present={**corpus.present, "other": corpus.present["logp"]})
    method = Pairwise(Schema.of(both), PairwiseConfig(**SMALL), prior=PriorConfig(features=["logp", "other"])).eval()
    assert method.inputs.shapes.modalities == ("audio", "text") and method.prior is not None
    batch = both.batch()
    scores = method(batch).scores
    with torch.no_grad():
        method.prior.weight.copy_(torch.tensor([0.0, 2.0]))
        moved = method(batch).scores
    torch.testing.assert_close(moved - scores, 1.5 * other - 0.5 * corpus.features["logp"], atol=1e-4, rtol=0)
    with pytest.raises(ConfigError, match="expected a feature set 'third' of 6"):
        Pairwise(Schema.of(both), PairwiseConfig(**SMALL), prior=PriorConfig(features=["logp", "third"]))


def test_missing_rows_with_anything_in_them_count_for_nothing() -> None:
    corpus = sample_corpus(dialogues=3, seed=1)
    batch = replace(
        corpus,
        features={"p": torch.full((corpus.utterances, 6), torch.inf)},
        present={"p": torch.zeros(corpus.utterances, dtype=torch.bool)},
    )
    scores = torch.randn(corpus.utterances, 6)
    prior = Prior(PriorConfig(features=["p"]), Schema.of(batch))
    assert torch.equal(prior(scores, batch.batch()), scores)
