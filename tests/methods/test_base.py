"""What every method shares: what follows from its parts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from erc_graph.conv.relational import Relational
from erc_graph.data.batch import Batch
from erc_graph.data.corpus import Corpus
from erc_graph.data.nodes import Nodes
from erc_graph.data.sample.vectors import sample_corpus
from erc_graph.encoders.frontend import FrontEnds
from erc_graph.encoders.recurrent import Recurrent
from erc_graph.encoders.turns import OverTurns
from erc_graph.errors import ConfigError
from erc_graph.inference.pipeline import Pipeline
from erc_graph.methods.base import Method, in_parts
from erc_graph.methods.inputs import Given, InputsConfig, Shapes
from erc_graph.methods.parts import Rowwise, Turn
from erc_graph.methods.prior import PriorConfig
from erc_graph.methods.schema import Schema
from erc_graph.methods.stage import Prediction


@dataclass(frozen=True, kw_only=True)
class OwnConfig:
    """Options of a method of one's own."""

    graph: str = "speaker"
    causal: bool = False
    width: int = 6
    dropout: float = 0.0


class Chain(Method):
    """Parts, one behind the other."""

    Config = OwnConfig

    def parts(self, config: OwnConfig, shapes: Shapes) -> Iterator[nn.Module]:
        assert self.recipe is not None
        yield Turn(shapes.widths)
        yield Relational(sum(shapes.widths.values()), config.width, self.recipe)
        yield Rowwise(nn.ReLU())


class Branches(Method):
    """Two readings of a turn, put side by side."""

    Config = OwnConfig

    def build(self, config: OwnConfig, shapes: Shapes) -> None:
        self.turn = Turn(shapes.widths)
        self.near = nn.Linear(self.turn.width, config.width)
        self.far = Recurrent("gru", self.turn.width, config.width, bidirectional=not config.causal)
        self.classify = self.head(config, 2 * config.width, shapes.outputs)

    def encode(self, given: Given) -> Tensor:
        nodes = self.turn(given)
        return torch.cat([self.near(nodes.masked()[:, 0]), self.far(nodes, given.batch).states[:, 0]], -1)


class Sees(OverTurns):
    """A part that always reads the whole dialogue."""

    width = 6

    @property
    def causal(self) -> bool:
        return False

    def forward(self, nodes: Nodes, batch: Batch) -> Nodes:
        return nodes.with_states(nodes.states[..., :6] + nodes.masked().mean())


class Ahead(Method):
    """A part of it reads later utterances whatever is asked for."""

    Config = OwnConfig

    def parts(self, config: OwnConfig, shapes: Shapes) -> Iterator[nn.Module]:
        yield Turn(shapes.widths)
        yield Sees()


class Never(Ahead):
    """Says that it cannot be causal."""

    can_be_causal = False


class Single(Method):
    """One utterance at a time, no graph."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """No option but one."""

        dropout: float = 0.0

    def parts(self, config: Any, shapes: Shapes) -> Iterator[nn.Module]:
        yield Turn(shapes.widths)


class Nothing(Method):
    """Forgets to say what it is made of."""

    Config = OwnConfig


class Mute(Method):
    """Its parts do not say how wide they are."""

    Config = OwnConfig

    def parts(self, config: OwnConfig, shapes: Shapes) -> Iterator[nn.Module]:
        yield Rowwise(nn.ReLU())


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return sample_corpus(dialogues=6, seed=2)


# -- parts, or build and encode ------------------------------------------------------------------------------------------------------


def test_parts_are_asked_one_after_the_other_and_classified(corpus: Corpus) -> None:
    method = Chain(Schema.of(corpus)).eval()
    batch = corpus.batch()
    turn, conv, relu = method.chain
    given = method.given(batch)
    states = relu(conv(turn(given), batch), batch).masked()[:, 0]
    answer = method(batch)
    assert torch.equal(answer.states, states) and states.shape == (batch.utterances, 6)
    classify = method.classify[1]
    torch.testing.assert_close(answer.scores, states @ classify.weight.T + classify.bias)


def test_a_method_that_branches_writes_build_and_encode(corpus: Corpus) -> None:
    method = Branches(Schema.of(corpus)).eval()
    answer = method(corpus.batch())
    assert answer.states is not None and answer.states.shape[1] == 12 and answer.scores.shape == (corpus.utterances, 6)
    assert list(dict(method.over_turns())) == ["far"] and not method.causal and not method.utterance_level


def test_several_streams_go_side_by_side_into_the_classifier(corpus: Corpus) -> None:
    class Two(Chain):
        def parts(self, config: OwnConfig, shapes: Shapes) -> Iterator[nn.Module]:
            yield Both()

        def head(self, config: OwnConfig, width: int, outputs: int) -> nn.Module:
            return nn.Linear(2 * width, outputs)

    class Both(nn.Module):
        width = 3

        def forward(self, given: Given) -> Nodes:
            rows = given.batch.utterances
            return Nodes(torch.ones(rows, 2, 3), torch.tensor([[True, False]]).expand(rows, 2), ("a", "b"))

    answer = Two(Schema.of(corpus))(corpus.batch())
    assert answer.states is not None and torch.equal(answer.states, torch.tensor([1.0, 1, 1, 0, 0, 0]).expand(corpus.utterances, 6))


def test_a_method_without_parts_says_what_is_missing(corpus: Corpus) -> None:
    with pytest.raises(
        ConfigError, match=r"Nothing: expected the methods parts\(\), or build\(\) and encode\(\), in the class, found neither"
    ):
        Nothing(Schema.of(corpus))
    with pytest.raises(ConfigError, match=r"Mute.parts: expected a module with an attribute `width` \(of its output\), found none"):
        Mute(Schema.of(corpus))


def test_a_method_of_sequences_alone_reads_no_vectors(corpus: Corpus) -> None:
    class Heard(Single):
        reads = ("sequences",)

    with pytest.raises(
        ConfigError,
        match=r"modalities: expected only sequences, because Heard reads no vectors, found vectors of audio, text, visual; leave",
    ):
        Heard(Schema.of(corpus))


# -- causal --------------------------------------------------------------------------------------------------------------------------


def test_what_a_method_is_follows_from_its_parts(corpus: Corpus) -> None:
    schema = Schema.of(corpus)
    kinds = {"plain": Chain(schema), "causal": Chain(schema, OwnConfig(causal=True)), "single": Single(schema), "ahead": Ahead(schema)}
    assert {name: kind.causal for name, kind in kinds.items()} == {"plain": False, "causal": True, "single": True, "ahead": False}
    assert {name for name, kind in kinds.items() if kind.utterance_level} == {"single"}


@pytest.mark.parametrize("kind", [Chain, Branches])
def test_causal_means_that_no_gradient_comes_from_later_turns(kind: type[Method], corpus: Corpus) -> None:
    for causal in (True, False):
        method = kind(Schema.of(corpus), OwnConfig(causal=causal)).eval()
        batch = corpus[0].batch()
        features = {name: value.clone().requires_grad_() for name, value in batch.features.items()}
        method(replace(batch, features=features)).scores[2].square().sum().backward()
        later = [value.grad is not None and bool(value.grad[3:].any()) for value in features.values()]
        assert method.causal is causal and any(later) is not causal


def test_causal_drops_the_edges_from_later_turns(corpus: Corpus) -> None:
    schema = Schema.of(corpus)
    plain, causal = Chain(schema), Chain(schema, OwnConfig(causal=True))
    assert causal.recipe == plain.recipe.past_only() != plain.recipe and causal.recipe.causal
    assert Chain(schema, OwnConfig(graph="causal")).causal
    assert Single(schema).graph is None
    with pytest.raises(ConfigError, match=r"pipeline\.graph: expected a recipe \(.*pairwise.*\), which Single needs, found .none."):
        _ = Single(schema).recipe


def test_causal_is_refused_by_the_name_of_the_part_that_reads_later_turns(corpus: Corpus) -> None:
    schema, causal = Schema.of(corpus), OwnConfig(causal=True)
    with pytest.raises(
        ConfigError, match=r"pipeline.causal: expected only modules that read no later utterances, found chain.1; change their options"
    ):
        Ahead(schema, causal)
    with pytest.raises(
        ConfigError, match=r"expected only modules that read no later utterances, found inputs.speaker_relative; change their options"
    ):
        Chain(schema, causal, inputs=InputsConfig(speaker_relative=["audio"]))
    with pytest.raises(ConfigError, match=r"pipeline.causal: expected false, because Never always reads later utterances, found true"):
        Never(schema, causal)
    assert not Never(schema).causal


# -- around it -----------------------------------------------------------------------------------------------------------------------


def test_inputs_and_prior_are_around_any_method(corpus: Corpus) -> None:
    said = torch.randn(corpus.utterances, 6).log_softmax(-1)
    here = torch.arange(corpus.utterances) % 4 > 0
    more = replace(corpus, features={**corpus.features, "said": said}, present={**corpus.present, "said": here})
    prior = PriorConfig(features=["said"])
    method = Chain(Schema.of(more), inputs=InputsConfig(speaker_relative=["audio"]), prior=prior).eval()
    assert method.inputs.shapes.widths == {"audio": 16, "text": 16, "visual": 8}
    batch = more.batch()
    scores = method(batch).scores
    bare = method.answer(method.given(batch)).scores
    torch.testing.assert_close(scores - bare, said * here[:, None], atol=1e-5, rtol=0)
    asked = method(batch, lambda given: Prediction(scores=given.values["text"]))
    assert torch.equal(asked.scores, method.given(batch).values["text"])  # another question has no prior


def test_a_stage_trains_the_prior_beside_its_modules(corpus: Corpus) -> None:
    said = torch.zeros(corpus.utterances, 6).log_softmax(-1)
    more = replace(
        corpus, features={**corpus.features, "said": said}, present={**corpus.present, "said": torch.ones(corpus.utterances) > 0}
    )
    method = Chain(Schema.of(more), prior=PriorConfig(features=["said"]))
    assert method.prior is not None
    (whole,) = method.stages()
    assert whole.module is method and whole.name == "train" and whole.rates == ()
    own = method.stage("own", method.classify)
    assert {*own.module.parameters()} == {*method.classify.parameters(), *method.prior.parameters()}
    other = method.stage("other", method.classify, answer=lambda given: Prediction(scores=given.values["text"]))
    assert other.module is method.classify and other.forward(more.batch()).scores.shape == (more.utterances, 16)


def test_defaults_of_a_method_that_adds_nothing(corpus: Corpus) -> None:
    method, batch = Chain(Schema.of(corpus)), corpus.batch()
    assert method.cut(batch) == [] and method.trust(batch) == {} and method.keep(0, batch) is batch
    assert method.start_stage(0, batch) is batch and method.task is corpus.task and method.device.type == "cpu"
    assert method.config == OwnConfig() and method.inputs_config == InputsConfig() and method.prior_config == PriorConfig()
    assert method.paper is None and Chain.narrow(method.schema) is method.schema


def test_front_ends_anywhere_are_fitted_and_asked_once() -> None:
    from erc_graph.data.sample.raw import sample_raw_corpus

    class Heard(Single):
        reads = ("sequences",)

        def build(self, config: Any, shapes: Shapes) -> None:
            self.front = nn.ModuleList([FrontEnds({"audio": ()}, 4)])
            self.classify = nn.Linear(4, shapes.outputs)

    raw = sample_raw_corpus(dialogues=3)
    method = Heard(Schema.of(raw, ("audio",), reads=Heard.reads))
    batch = method.schema.batch(raw)
    method.fit_inputs(batch)
    assert method.front[0]["audio"].mean.any()
    assert batch.sequences["audio"].item == () and method.start_stage(0, batch).sequences["audio"].item == (40,)


def test_a_description_is_all_that_it_takes_to_build_it_again(corpus: Corpus) -> None:
    method = Chain(Schema.of(corpus), OwnConfig(width=4), inputs=InputsConfig(modality_dropout=0.1))
    found = method.describe()
    assert found["method"] == "Chain" and found["config"] == {"graph": "speaker", "causal": False, "width": 4, "dropout": 0.0}
    assert found["inputs"]["modality_dropout"] == 0.1 and found["prior"] == {"features": [], "around": False, "stream": False}
    assert found["widths"] == {"audio": 8, "text": 16, "visual": 8} and found["recipe"]["name"] == "speaker"
    assert Single(Schema.of(corpus)).describe()["recipe"] is None


def test_a_users_own_class_is_held_like_any_other(corpus: Corpus) -> None:
    pipeline = Pipeline(Chain(Schema.of(corpus), OwnConfig(causal=True)).eval())
    dialogue = corpus[0]
    rows = pipeline.predict(dialogue)
    graph = pipeline.graph(dialogue)
    assert len(rows) == len(dialogue) and graph is not None and graph["turn"].num_nodes == len(dialogue)
    stream, batch = pipeline.stream(), dialogue.batch()
    expected = pipeline(batch).scores
    for row, speaker in enumerate(dialogue.speakers):
        features = {name: value[row] for name, value in batch.features.items() if batch.present[name][row]}
        turn = stream.push(speaker, features)
        torch.testing.assert_close(torch.tensor(turn.scores), expected[row], rtol=1e-4, atol=1e-5)


def test_in_parts_is_the_whole_in_row_order(corpus: Corpus) -> None:
    batch, asked = corpus.batch(), []

    def double(part: Batch) -> Tensor:
        asked.append(len(part))
        return 2 * part.features["text"]

    assert torch.equal(in_parts(double, batch, dialogues=4), 2 * batch.features["text"])
    assert asked == [4, 2]
