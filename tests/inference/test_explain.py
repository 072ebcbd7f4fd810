"""Attributions add up, agree with leaving an edge out where that is exact, and find what the generator of the sample corpus made."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

import pytest
import torch
from torch import Tensor, nn

import erc_graph.report.explanation
from erc_graph.conv.angular.angular import AngularConv, AngularConvConfig
from erc_graph.conv.hypergraph import Hypergraph
from erc_graph.data.batch import Batch
from erc_graph.data.corpus import Corpus, Dialogue
from erc_graph.data.nodes import Nodes
from erc_graph.data.sample.vectors import SampleConfig, sample_corpus
from erc_graph.data.tasks import Task
from erc_graph.errors import ConfigError, CorpusError
from erc_graph.graphs.edges import Watch
from erc_graph.graphs.recipe import GraphRecipe, HyperedgeRule
from erc_graph.inference.explain import Explanation, explain
from erc_graph.inference.graphs import operators, watched
from erc_graph.inference.pipeline import Pipeline
from erc_graph.methods.base import Method
from erc_graph.methods.bigru import BiGRU, BiGRUConfig
from erc_graph.methods.inputs import Given, Inputs, Shapes
from erc_graph.methods.pairwise import MalConfig, MffConfig, Pairwise, PairwiseConfig, PmfConfig
from erc_graph.methods.parts import Streams
from erc_graph.methods.schema import Schema
from erc_graph.report.explanation import draw_explanation
from erc_graph.training.config import TrainingConfig
from erc_graph.training.loop import fit

NARROW = PairwiseConfig(stages="joint", pmf=PmfConfig(width=8), mff=MffConfig(width=8), mal=MalConfig(width=8, hidden=8))


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return sample_corpus(dialogues=8, seed=3, config=SampleConfig(turns=(6, 9), missing=0.2))


@pytest.fixture(scope="module")
def pipeline(corpus: Corpus) -> Pairwise:
    torch.manual_seed(1)
    pipeline = Pairwise(Schema.of(corpus), NARROW)
    pipeline.fit_inputs(corpus.batch())
    with torch.no_grad():
        for weight in pipeline.parameters():
            weight.mul_(3)  # an untrained net hardly reacts
    return pipeline


@pytest.fixture(scope="module")
def explanation(pipeline: Pairwise, corpus: Corpus) -> Explanation:
    return explain(pipeline, corpus[0], 3)


def silent(conv: AngularConv, given: tuple[Nodes, Batch], _: Nodes) -> Nodes:
    """What the operator says where no message comes: P h is zero in every layer."""
    nodes, alpha = given[0], conv.config.alpha
    initial = hidden = torch.relu(conv.first(nodes.masked()))
    for theta, matrix in zip(conv.config.thetas, conv.weights, strict=True):
        own = torch.cat([torch.zeros_like(initial), initial], -1)
        hidden = torch.relu((1 - theta) * alpha * initial + theta * own @ matrix)
    return nodes.with_states(torch.cat([nodes.masked(), hidden], -1) * nodes.present[..., None])


def log_odds(pipeline: Method, batch: Batch, turn: int, label: str) -> float:
    with torch.no_grad():
        p = pipeline.eval()(batch).scores[turn].double().softmax(-1)[pipeline.task.labels.index(label)]
    return float(p.log() - (1 - p).log())


def mean_features(pipeline: Method, batch: Batch) -> Batch:
    parts = [module for module in pipeline.modules() if isinstance(module, Inputs)]
    means = {name: module.get_buffer(f"mean_{name}") for module in parts for name in module.scaled}
    return replace(batch, features={name: torch.zeros_like(value) + means[name] for name, value in batch.features.items()})


def test_edges_add_up_to_what_the_messages_change(explanation: Explanation, pipeline: Pairwise, corpus: Corpus) -> None:
    batch = corpus[0].batch()
    whole = log_odds(pipeline, batch, 3, explanation.label)
    with ExitStack() as stack:
        for conv in operators(pipeline).values():
            stack.callback(conv.register_forward_hook(silent).remove)
        without = log_odds(pipeline, batch, 3, explanation.label)
    assert explanation.value == pytest.approx(whole, abs=1e-4)
    assert abs(whole - without) > 0.02
    assert explanation.graph_effect == pytest.approx(whole - without, abs=1e-4)
    total = sum(edge.attribution for edge in explanation.edges())
    assert total == pytest.approx(whole - without, abs=0.01)
    assert explanation.edge_gap == pytest.approx(total - (whole - without), abs=1e-4)


def test_inputs_add_up_to_what_the_features_change(explanation: Explanation, pipeline: Pairwise, corpus: Corpus) -> None:
    batch = corpus[0].batch()
    change = log_odds(pipeline, batch, 3, explanation.label) - log_odds(pipeline, mean_features(pipeline, batch), 3, explanation.label)
    assert abs(change) > 0.02
    assert explanation.input_effect == pytest.approx(change, abs=1e-4)
    assert float(explanation.turns.sum()) == pytest.approx(change, abs=0.01)
    assert explanation.input_gap == pytest.approx(float(explanation.turns.sum()) - change, abs=1e-3)


def test_parts_are_the_graphs_of_the_method(explanation: Explanation, pipeline: Pairwise, corpus: Corpus) -> None:
    assert list(explanation.graphs) == ["audio+text", "audio+visual", "text+visual", "fused"]
    for part, graph in explanation.graphs.items():
        expected = Pipeline(pipeline).graph(corpus[0], part)
        assert expected is not None
        assert graph.node_types == expected.node_types and graph.edge_types == expected.edge_types
        for kind in graph.edge_types:
            assert torch.equal(graph[kind].edge_index, expected[kind].edge_index)
            torch.testing.assert_close(graph[kind].edge_weight, expected[kind].edge_weight, rtol=1e-4, atol=1e-4)
            assert graph[kind].edge_attribution.shape == graph[kind].edge_weight.shape
    edges = explanation.edges()
    assert len(edges) == sum(graph.num_edges for graph in explanation.graphs.values())
    assert [abs(edge.attribution) for edge in edges] == sorted((abs(edge.attribution) for edge in edges), reverse=True)
    assert explanation.edges(3) == edges[:3]
    assert explanation.edges(2, "fused") == [edge for edge in edges if edge.part == "fused"][:2]


def test_the_predicted_label_or_the_one_that_is_asked_for(explanation: Explanation, pipeline: Pairwise, corpus: Corpus) -> None:
    scores = pipeline.eval()(corpus[0].batch()).scores[3].detach().softmax(-1)
    assert explanation.label == pipeline.task.labels[int(scores.argmax())]
    assert explanation.probability == pytest.approx(float(scores.max()), abs=1e-4)
    other = explain(pipeline, corpus[0], 3 - len(corpus[0]), label=pipeline.task.labels[int(scores.argmin())])
    assert other.turn == 3 and other.probability == pytest.approx(float(scores.min()), abs=1e-4)
    assert other.value == pytest.approx(log_odds(pipeline, corpus[0].batch(), 3, other.label), abs=1e-4)
    assert not torch.allclose(other.turns, explanation.turns, atol=1e-3)


def test_what_is_missing_stays_missing(explanation: Explanation, corpus: Corpus) -> None:
    batch = corpus[0].batch()
    assert not all(bool(mask.all()) for mask in batch.present.values())
    for name, attribution in explanation.inputs.items():
        assert torch.equal(attribution != 0, batch.present[name])
    for edge in explanation.edges(part="audio+text"):
        assert batch.present[edge.source][edge.source_turn] and batch.present[edge.target][edge.target_turn]


@pytest.mark.parametrize("training", [True, False])
def test_the_method_is_left_as_it_was(training: bool, pipeline: Pairwise, corpus: Corpus) -> None:
    pipeline.train(training)
    pipeline.mal.requires_grad_(False)
    before = {name: value.clone() for name, value in pipeline.state_dict().items()}
    asked = [weight.requires_grad for weight in pipeline.parameters()]
    first, second = explain(pipeline, corpus[1], 0), explain(pipeline, corpus[1], 0)
    assert pipeline.training is training and [weight.requires_grad for weight in pipeline.parameters()] == asked
    assert all(torch.equal(value, before[name]) for name, value in pipeline.state_dict().items())
    assert all(weight.grad is None for weight in pipeline.parameters())
    assert first.edges() == second.edges() and torch.equal(first.turns, second.turns)
    pipeline.requires_grad_(True).eval()


@dataclass(frozen=True, kw_only=True)
class ScorerConfig:
    """Which graph."""

    graph: str


class Scorer(Method):
    """Features → one layer of the graph → a score; with weights above zero it is linear in the messages."""

    Config = ScorerConfig

    def build(self, config: ScorerConfig, shapes: Shapes) -> None:
        assert self.recipe is not None
        self.conv = AngularConv(16, self.recipe, AngularConvConfig(depth=1))
        self.conv.label = "turns"
        self.classify = nn.Linear(self.conv.width, 1)
        with torch.no_grad():
            self.conv.weights[0].abs_()

    def encode(self, given: Given) -> Tensor:
        nodes = Nodes(given.values["text"][:, None], given.present["text"][:, None], ("text",))
        return self.conv(nodes, given.batch).states.flatten(1)


def scorer(corpus: Corpus, graph: str) -> Scorer:
    task = Task(name="score", kind="score", column="score")
    return Scorer(Schema(widths={"text": corpus.features["text"].shape[1]}, task=task), ScorerConfig(graph=graph)).eval()


def test_where_the_model_is_linear_an_edge_is_worth_what_leaving_it_out_costs(corpus: Corpus) -> None:
    pipeline, dialogue = scorer(corpus, "window"), corpus[2]
    turn = max(i for i in range(len(dialogue) - 1) if dialogue.batch().present["text"][i])
    found = explain(pipeline, dialogue, turn)
    assert found.label == "score" and found.probability is None
    batch = dialogue.batch(["text"])
    assert found.value == pytest.approx(pipeline(batch).scores[turn].item(), abs=1e-5)
    graph = found.graphs["turns"]
    kinds = graph.edge_types
    attribution = torch.cat([graph[kind].edge_attribution for kind in kinds])
    reach = torch.cat([graph[kind].edge_index[1] for kind in kinds]) == turn
    assert reach.sum() > 3 and not attribution[~reach].any()
    for edge in range(len(attribution)):
        multiplier = torch.ones(1, len(attribution))
        multiplier[0, edge] = 0
        with torch.no_grad(), watched(pipeline.conv, Watch(multiplier)):
            left_out = pipeline(batch).scores[turn].item()
        assert attribution[edge].item() == pytest.approx(found.value - left_out, abs=1e-5)


def test_a_causal_graph_gives_later_turns_nothing(corpus: Corpus) -> None:
    found = explain(scorer(corpus, "causal"), corpus[2], 2)
    assert found.turns[:3].any() and not found.turns[3:].any()


def test_a_method_without_a_graph_still_has_turns(corpus: Corpus) -> None:
    pipeline = BiGRU(Schema.of(corpus), BiGRUConfig(width=8))
    found = explain(pipeline, corpus[0], 1)
    assert found.graphs == {} and found.edges() == [] and found.graph_effect == 0
    assert float(found.turns.sum()) == pytest.approx(found.input_effect, abs=0.01)
    assert "edges" not in found.table()


def test_dialogues_of_one_turn(pipeline: Pairwise) -> None:
    alone = sample_corpus(dialogues=3, config=SampleConfig(turns=(1, 1), missing=0))[0]
    found = explain(pipeline, alone, 0)
    assert {(edge.source_turn, edge.target_turn) for edge in found.edges()} == {(0, 0)}
    assert abs(found.edge_gap) < 0.01


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"turn": 99}, r"turn: expected the position of an utterance, from -\d to \d in dialogue 'sample-0', found 99"),
        ({"turn": -99}, "turn: expected .* found -99"),
        ({"turn": 1.5}, r"turn: expected the position of an utterance as a whole number, found 1\.5"),
        ({"turn": "1"}, "turn: expected the position of an utterance as a whole number, found '1'"),
        ({"turn": 0, "label": "bored"}, "label: expected one of the labels joy, .*, found 'bored'"),
        ({"turn": 0, "tolerance": 0.0}, r"tolerance: expected a number above 0, found 0\.0"),
    ],
)
def test_impossible_questions_are_refused(arguments: dict, message: str, pipeline: Pairwise, corpus: Corpus) -> None:
    with pytest.raises(ConfigError, match=message):
        explain(pipeline, corpus[0], **arguments)


def test_a_model_of_sequences_is_refused(corpus: Corpus) -> None:
    words = BiGRU(Schema(widths={}, sequences={"text": (4,)}, task=corpus.task), BiGRUConfig(width=8))
    with pytest.raises(ConfigError, match=r"explain: expected a model that uses one vector per utterance, found one that uses seq"):
        explain(words, corpus[0], 0)


def test_a_pipeline_explains_its_method(pipeline: Pairwise, explanation: Explanation, corpus: Corpus) -> None:
    found = Pipeline(pipeline).explain(corpus[0], 3)
    assert found.edges() == explanation.edges() and torch.equal(found.turns, explanation.turns)
    assert explain(Pipeline(pipeline), corpus[0], 3).edges() == explanation.edges()


def test_incidences_of_hyperedges_are_explained(corpus: Corpus) -> None:
    """Both ways of them, and all add up to what the operator's messages change."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        graph: GraphRecipe
        dropout: float = 0.0

    class Hyper(Method):
        def build(self, config: Config, shapes: Shapes) -> None:
            assert self.recipe is not None
            self.streams = Streams(shapes.widths, 6)
            self.conv = Hypergraph(6, 6, self.recipe)
            self.classify = self.head(config, 6 * len(shapes.widths), shapes.outputs)

        def encode(self, given: Given) -> Tensor:
            return self.conv(self.streams(given), given.batch).masked().flatten(1)

    Hyper.Config = Config
    rules = tuple(HyperedgeRule(relation=over, over=over) for over in ("turn", "stream"))
    method = Hyper(
        Schema.of(corpus, ("audio", "text")), Config(graph=GraphRecipe(name="h", description="", source="", hyperedges=rules))
    ).eval()
    found = explain(method, corpus[0], 2)
    graph = found.graphs["conv"]
    assert graph.node_types == ["audio", "text", "hyperedge"] and abs(found.graph_effect) > 1e-3
    assert all((kind[2], kind[1], kind[0]) in graph.edge_types for kind in graph.edge_types)
    total = sum(float(graph[kind].edge_attribution.sum()) for kind in graph.edge_types)
    assert total == pytest.approx(found.graph_effect, abs=0.01)


def test_a_corpus_is_no_dialogue(pipeline: Pairwise, corpus: Corpus) -> None:
    with pytest.raises(CorpusError, match=r"dialogue: expected a conversation, such as corpus\[0\], found a Corpus"):
        explain(pipeline, corpus, 0)  # type: ignore[arg-type]


def test_features_must_be_those_of_the_training(pipeline: Pairwise, corpus: Corpus) -> None:
    wide = replace(corpus[0].corpus, features={**corpus[0].corpus.features, "text": torch.zeros(len(corpus[0]), 17)})
    with pytest.raises(
        CorpusError, match="'sample-0': expected 16 text features per utterance, as in training, found 17; use the same features"
    ):
        explain(pipeline, Dialogue(wide), 0)


def test_a_score_has_no_labels(corpus: Corpus) -> None:
    with pytest.raises(ConfigError, match="label: expected no label, because the task has scores, found 'joy'"):
        explain(scorer(corpus, "window"), corpus[0], 0, label="joy")


def test_table(explanation: Explanation) -> None:
    lines = explanation.table(most=2).splitlines()
    assert lines[0].startswith(f"turn 3 of sample-0: {explanation.label} (log-odds {explanation.value:+.2f}, p = 0.")
    first = explanation.edges(1)[0]
    assert (
        f"{first.attribution:+.3f}" in lines[3] and f"{first.source} {first.source_turn} → {first.target} {first.target_turn}" in lines[3]
    )
    assert set(lines[7].split()) == {"turn", "all", *explanation.inputs}
    assert len(lines) == 10 and max(map(len, lines)) <= 80
    assert repr(explanation) == str(explanation) == explanation.table()
    named = replace(explanation.dialogue.corpus, dialogue_ids=("a\x1b[31m\nb",))
    assert "a\\x1b[31m\\nb" in replace(explanation, dialogue=Dialogue(named)).table()


def test_the_picture_takes_an_explanation_as_it_is(explanation: Explanation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert draw_explanation(explanation, tmp_path / "fused.png").read_bytes().startswith(b"\x89PNG")
    drawn = []
    monkeypatch.setattr(erc_graph.report.explanation, "draw_graph", lambda graph, path, title: drawn.append(graph))
    draw_explanation(explanation, "unused.png", "audio+text", most=5)
    joined = [edge for edge in explanation.edges(part="audio+text") if (edge.source, edge.source_turn) != (edge.target, edge.target_turn)]
    expected = {
        (edge.source, "for" if edge.attribution > 0 else "against", edge.target, edge.source_turn, edge.target_turn) for edge in joined[:5]
    }
    assert {(*kind, i, j) for kind in drawn[0].edge_types for i, j in drawn[0][kind].edge_index.T.tolist()} == expected


# -- what the generator made -----------------------------------------------------------------------------------------------------


def mean_by_role(inertia: float, contagion: float, dialogues: int, epochs: int) -> tuple[dict[str, float], dict[str, float]]:
    """Train on a world of two speakers; explain the middle turn of test dialogues.

    Returns:
        Mean size of the attribution of an earlier turn's features, and mean attribution of the edges from it into the turn: of the
        speaker's `own` last turn, of the `other`s' last turn, and of the `rest` of the earlier turns.
    """
    world = SampleConfig(speakers=(2, 2), turns=(10, 14), repeat=0.2, inertia=inertia, contagion=contagion, missing=0.0, separation=1.5)
    corpus, modalities = sample_corpus(dialogues=dialogues, config=world), ("audio", "text")
    torch.manual_seed(0)
    config = PairwiseConfig(
        stages="joint",
        depth=1,
        pmf=PmfConfig(width=32),
        mff=MffConfig(width=32, bidirectional=True, context_encoder=False, gcn=False),
        mal=MalConfig(width=32, hidden=32, layers=1, residual=True),
    )
    pipeline = Pairwise(Schema.of(corpus, modalities), config)
    train = corpus.split("train").batch(modalities)
    pipeline.fit_inputs(train)
    training = TrainingConfig(epochs=epochs, batch_size=16, learning_rate=5e-3, schedule="cosine", selection="last")
    fit(pipeline, train, None, training, seed=0, quiet=True)
    inputs: dict[str, list[float]] = {"own": [], "other": [], "rest": []}
    edges: dict[str, list[float]] = {"own": [], "other": [], "rest": []}
    test = corpus.split("test")
    for dialogue in (test[i] for i in range(30)):
        speaker, turn = dialogue.corpus.speaker.tolist(), len(dialogue) // 2
        found = explain(pipeline, dialogue, turn)
        own, other = (max((i for i in range(turn) if (speaker[i] == speaker[turn]) == same), default=-1) for same in (True, False))
        sent = [0.0] * len(dialogue)
        for edge in found.edges():
            sent[edge.source_turn] += edge.attribution * (edge.target_turn == turn)
        for i in range(turn):
            role = "own" if i == own else "other" if i == other else "rest"
            inputs[role].append(abs(found.turns[i].item()))
            edges[role].append(sent[i])
    return {role: fmean(values) for role, values in inputs.items()}, {role: fmean(values) for role, values in edges.items()}


@pytest.mark.slow
def test_on_the_sample_corpus_the_own_and_the_others_last_turn_come_out_on_top() -> None:
    """Of the earlier turns; later ones tell as much, for emotions go on to them."""
    inputs, edges = mean_by_role(inertia=0.35, contagion=0.45, dialogues=200, epochs=6)
    assert min(inputs["own"], inputs["other"]) > 1.5 * inputs["rest"]
    assert min(edges["own"], edges["other"]) > 1.1 * edges["rest"] > 0


@pytest.mark.slow
def test_which_of_the_two_comes_first_is_what_the_generator_made() -> None:
    """Nearness alone cannot pass this: the other's last turn is mostly the nearer one in both worlds."""
    inertia, _ = mean_by_role(inertia=0.75, contagion=0.0, dialogues=400, epochs=12)
    contagion, _ = mean_by_role(inertia=0.0, contagion=0.75, dialogues=400, epochs=12)
    assert inertia["own"] > inertia["other"]
    assert contagion["other"] > contagion["own"]
