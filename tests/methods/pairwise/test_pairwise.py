"""Pairwise fusion: streams, stages, roles, the rows of its tables, graphs, and nothing from later utterances."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from erc_graph.data.corpus import Corpus
from erc_graph.data.sample.vectors import sample_corpus
from erc_graph.data.tasks import get_task
from erc_graph.encoders.self_attention import SelfAttention
from erc_graph.errors import ConfigError
from erc_graph.inference.graphs import operators
from erc_graph.inference.pipeline import Pipeline
from erc_graph.methods.base import Method
from erc_graph.methods.inputs import InputsConfig
from erc_graph.methods.pairwise import MalConfig, MffConfig, Pairwise, PairwiseConfig, PmfConfig
from erc_graph.methods.penalties import density
from erc_graph.methods.schema import Schema
from tests.methods.rows import Row, changed, rows_of

SMALL: dict[str, Any] = {
    "pmf": PmfConfig(width=6),
    "mff": MffConfig(width=4),
    "mal": MalConfig(width=5, heads=2, hidden=6),
}
WIDTHS = {"text": 5, "audio": 3, "visual": 4}


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    corpus = sample_corpus(dialogues=8, seed=2)
    rows = torch.Generator().manual_seed(1)
    there = torch.ones(corpus.utterances, dtype=torch.bool)
    more = {"bert": torch.randn(corpus.utterances, 7, generator=rows), "speaker": torch.randn(corpus.utterances, 3, generator=rows)}
    return replace(corpus, features={**corpus.features, **more}, present={**corpus.present, "bert": there, "speaker": there})


def make(*modalities: str, inputs: InputsConfig | None = None, **changes: Any) -> Pairwise:
    widths = {**WIDTHS, "bert": 7, "speaker": 3}
    schema = Schema(widths={name: widths[name] for name in modalities or WIDTHS}, task=get_task("sample6"))
    return Pairwise(schema, PairwiseConfig(**{**SMALL, **changes}), inputs=inputs)


def shapes(method: Method) -> dict[str, tuple[int, ...]]:
    return {name: tuple(p.shape) for name, p in method.named_parameters()}


def changed_by(row: Row) -> tuple[Pairwise, Pairwise]:
    """The full method, and the row's."""
    schema = Schema(widths={name: WIDTHS[name] for name in row.changes.get("modalities", WIDTHS)}, task=get_task("sample6"))
    return make(), Pairwise(schema, changed(PairwiseConfig(**SMALL), row.changes))


# -- streams, shapes, stages --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("modalities", "pairs", "skip"),
    [
        (("audio",), ["audio"], "audio"),
        (("text",), ["text"], "text"),
        (("text", "audio"), ["audio+text"], "audio+text"),
        (("visual", "text", "audio"), ["audio+text", "audio+visual", "text+visual"], "audio+visual"),
    ],
)
def test_pairs_of_what_is_there(modalities, pairs, skip):
    method = make(*modalities)
    assert list(method.fusion) == pairs
    assert method.skip == skip
    names = [stage.name for stage in method.stages()]
    assert names == [*(f"pmf {pair}" for pair in pairs), "mff+mal"]


def test_shapes_are_those_of_the_table_in_the_docstring(corpus):
    method = make_for(corpus, "text", "audio", "visual").eval().requires_grad_(False)
    batch = corpus.batch(["text", "audio", "visual"])
    rows, given = batch.utterances, method.given(batch)
    for name, stage in zip(method.fusion, method.stages(), strict=False):
        fusion = method.fusion[name]
        assert fusion.nodes(given).states.shape == (rows, 2, 6)
        answer = stage.forward(batch)
        assert answer.scores.shape == (rows, 6)
        assert answer.states.shape == (rows, fusion.width) == (rows, 2 * 12)
        assert float(answer.penalty) == pytest.approx(2e-5 * float(answer.states.abs().mean()), rel=1e-5)
    pairs, present = method.pairs(given), method.present(given)
    nodes, hidden = method.mff.nodes(given, pairs)
    assert nodes.shape == (rows, 3, 4) and present.shape == (rows, 3)
    fused, hidden = method.mff(given, pairs, present)
    assert fused.shape == (rows, method.mff.width) == (rows, 3 * 8 + 4)
    assert {name: value.shape for name, value in hidden.items()} == dict.fromkeys([*method.fusion, "Bt"], (rows, 4))
    answer = method(batch)
    assert answer.scores.shape == (rows, 6)
    assert answer.states.shape == (rows, 5 + 4) == (rows, method.mal.width)
    assert answer.auxiliary == {}


def make_for(corpus: Corpus, *modalities: str, inputs: InputsConfig | None = None, **changes: Any) -> Pairwise:
    torch.manual_seed(5)
    method = Pairwise(Schema.of(corpus, modalities), PairwiseConfig(**{**SMALL, **changes}), inputs=inputs)
    method.fit_inputs(corpus.batch())
    return method


def test_a_fused_pair_is_there_where_any_of_its_parts_is(corpus):
    batch = corpus.batch().select(torch.arange(len(corpus)))  # a copy
    method = make_for(corpus, "text", "audio", "visual")
    for row, (text, audio, visual) in enumerate([(1, 1, 1), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 0)]):
        for name, there in (("text", text), ("audio", audio), ("visual", visual)):
            batch.present[name][row] = bool(there)
        expected = {"audio+text": audio or text, "audio+visual": audio or visual, "text+visual": text or visual}
        assert dict(zip(method.fusion, method.present(method.given(batch))[row].tolist(), strict=True)) == expected


def test_stages_share_the_parameters_out():
    """Every parameter is trained in exactly one stage."""
    method = make()
    *pairs, last = method.stages()
    trained = [id(p) for stage in (*pairs, last) for p in stage.module.parameters()]
    assert sorted(trained) == sorted(id(p) for p in method.parameters())


@pytest.mark.parametrize("changes", [{"stages": "joint"}, {"pmf": PmfConfig(width=6, enabled=False)}])
def test_one_stage_where_all_is_trained_at_once(changes):
    method = make(**changes)
    (stage,) = method.stages()
    assert stage.module is method


def test_joint_training_has_the_pairs_losses_beside(corpus):
    method = make_for(corpus, "text", "audio", "visual", stages="joint", auxiliary=0.25).eval().requires_grad_(False)
    batch = corpus.batch()
    answer = method(batch)
    assert list(answer.auxiliary) == list(method.fusion)
    assert answer.auxiliary_weight == 0.25
    pairs = [fusion.predict(method.given(batch)) for fusion in method.fusion.values()]
    assert all(torch.equal(answer.auxiliary[name], pair.scores) for name, pair in zip(method.fusion, pairs, strict=True))
    expected = 2e-5 * answer.states.abs().mean() + 0.25 * sum(pair.penalty for pair in pairs)
    assert float(answer.penalty) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("modalities", [("audio",), ("text", "audio"), ("text", "audio", "visual")])
def test_the_cache_of_the_last_stage_is_what_the_pairs_say(modalities, corpus):
    method = make_for(corpus, *modalities)
    batch = corpus.batch()
    last = len(method.stages()) - 1
    for index in range(last):
        assert method.start_stage(index, batch) is batch
    cached = method.start_stage(last, batch)
    assert list(cached.cache) == list(method.fusion)
    assert not any(value.requires_grad for value in cached.cache.values())
    method.eval()
    torch.testing.assert_close(method(cached).scores, method(batch).scores, rtol=1e-5, atol=1e-6)
    chosen = torch.tensor([5, 1, 3])
    torch.testing.assert_close(method(cached.select(chosen)).scores, method(batch.select(chosen)).scores, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        for parameter in method.fusion.parameters():
            parameter.zero_()
    torch.testing.assert_close(method(cached).scores, method(cached).scores)
    assert not torch.allclose(method(cached).scores, method(batch).scores)  # the pairs were not asked again


def test_training_the_last_stage_leaves_the_pairs_alone(corpus):
    method = make_for(corpus, "text", "audio", "visual")
    last = len(method.stages()) - 1
    method(method.start_stage(last, corpus.batch())).scores.sum().backward()
    assert all(p.grad is None for p in method.fusion.parameters())
    own = [p for stage in method.stages()[last:] for name, p in stage.module.named_parameters() if "missing" not in name]
    assert all(p.grad is not None for p in own)


# -- roles ---------------------------------------------------------------------------------------------------------------------------


def test_a_second_text_feature_takes_both_roles(corpus):
    method = make_for(corpus, "text", "audio", "bert", inputs=InputsConfig(second_text="bert"))
    assert list(method.fusion) == ["audio+text"]
    assert method.inputs.shapes.second_text == 7 and method.mff.missing.vectors["Bt"].shape == (7,)
    batch, other = corpus.batch(), corpus.batch()
    other = replace(other, features={**other.features, "bert": torch.zeros_like(other.features["bert"])})
    method.eval()
    assert not torch.allclose(method(batch).scores, method(other).scores)
    stages = method.stages()
    assert torch.equal(stages[0].forward(batch).scores, stages[0].forward(other).scores)


def test_given_speaker_vectors_take_the_place_of_the_embedding(corpus):
    method = make_for(corpus, "text", "audio", "speaker", inputs=InputsConfig(given_speakers=True)).eval()
    assert list(method.fusion) == ["audio+text"]
    assert not any("embedding" in name for name, _ in method.named_parameters())
    batch = corpus.batch()
    assert torch.equal(method(batch).scores, method(replace(batch, speaker=batch.speaker.flip(0))).scores)
    with pytest.raises(ConfigError, match=r"inputs.given_speakers: expected a feature set `speaker`; the corpus has text, audio"):
        make("text", "audio", inputs=InputsConfig(given_speakers=True))


def test_without_any_modality_there_is_nothing_to_fuse() -> None:
    with pytest.raises(ConfigError, match="modalities: expected one or more, such as text, audio or visual; found speaker"):
        make("speaker")
    with pytest.raises(ConfigError, match="modalities: expected one or more, such as text, audio or visual; found bert"):
        make("bert", inputs=InputsConfig(second_text="bert"))


@pytest.mark.parametrize("noise", [{"swap_noise": {"text": 0.5}}, {"modality_dropout": 0.3}])
def test_with_noise_nothing_is_kept_for_the_last_stage(noise: dict[str, Any], corpus: Corpus) -> None:
    """Frozen pairs see other features in every epoch."""
    method = make_for(corpus, "text", "audio", inputs=InputsConfig(**noise))
    batch = corpus.batch()
    assert method.start_stage(len(method.stages()) - 1, batch) is batch


def test_gamma_is_a_scale_of_the_cross_edges(corpus):
    scales = {rule.relation: rule.scale for rule in make(gamma=0.3).recipe.edges}
    assert scales == {"context": 1.0, "cross": 0.3}
    assert {rule.relation: rule.scale for rule in make().recipe.edges} == {"context": 1.0, "cross": 0.7}
    batch = corpus.batch()
    one, two = (make_for(corpus, "text", "audio", gamma=gamma).eval()(batch).scores for gamma in (0.3, 0.9))
    assert not torch.allclose(one, two)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (lambda: PmfConfig(width=7), r"pipeline\.pmf\.width: expected an even number"),
        (lambda: PmfConfig(dropout=1.0), r"pipeline\.pmf\.dropout: expected a number in \[0, 1\), found 1\.0"),
        (lambda: PmfConfig(density=-1), r"pipeline\.pmf\.density: expected a number of 0 or more, found -1"),
        (lambda: MffConfig(heads=0), r"pipeline\.mff\.heads: expected 1 or more, found 0"),
        (lambda: MalConfig(layers=0), r"pipeline\.mal\.layers: expected 1 or more, found 0"),
        (lambda: PairwiseConfig(depth=0), r"pipeline\.depth: expected 1 or more, found 0"),
        (lambda: PairwiseConfig(auxiliary=-1), r"pipeline\.auxiliary: expected a number of 0 or more, found -1"),
        (lambda: make(graph="none"), r"pipeline\.graph: expected a recipe \(.*pairwise.*\), which Pairwise needs, found 'none'"),
        (lambda: PairwiseConfig(gamma=-0.1), r"pipeline\.gamma: expected a number .*, found -0\.1"),
    ],
)
def test_impossible_values_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        values()


# -- the switches of the paper's tables ----------------------------------------------------------------------------------------------

# What a change takes away (prefix of parameter names), and whose input it makes narrower.
ABLATED = {
    "pipeline.pmf.enabled": ("fusion.{pair}.speaker", "fusion.{pair}.conv", "fusion.{pair}.classify"),
    "pipeline.mal.attention": ("mal.attention",),
    "pipeline.mff.gcn": ("mff.conv",),
    "pipeline.mff.speaker": ("mff.speaker",),
    "pipeline.mff.context_encoder": ("mff.transform",),
}
NARROWER = {
    "pipeline.mal.pair_skip": "mal.attention.1.query_key_value.weight",
    "pipeline.mal.context_skip": "mal.classify.layers.1.weight",
}
ROWS = rows_of("pairwise")


def test_all_rows_of_the_four_tables_are_there():
    assert sorted({row.number for row in ROWS}) == [2, 3, 4, 5]
    assert len(ROWS) == 26


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_row_changes_the_parameters_it_says(row: Row) -> None:
    full, other = changed_by(row)
    before, after = shapes(full), shapes(other)
    gone = {name for name in before if name not in after}
    if row.number == 3 and len(row.changes["modalities"]) < 3:
        absent = set(WIDTHS) - set(row.changes["modalities"])
        assert not any(name in key.split(".")[1].split("+") for key in after for name in absent if key.startswith("fusion"))
        assert len(other.fusion) == 1
        return
    expected = {
        prefix.format(pair=pair) + "."
        for key, value in row.changes.items()
        if value is False
        for prefix in ABLATED.get(key, ())
        for pair in full.fusion
    }
    if row.changes.get("pipeline.mff.context_encoder") is False and row.changes.get("pipeline.mal.context_skip") is False:
        expected |= {"mff.encode_context.", "mff.missing."}  # the second text feature is not used at all
    assert gone == {name for name in before if any(name.startswith(prefix) for prefix in expected)}
    assert not {name for name in after if name not in before}
    for key, weight in NARROWER.items():
        if row.changes.get(key) is False and weight in after:
            rest = {k: v for k, v in row.changes.items() if k != key}
            assert after[weight][1] == shapes(changed_by(replace(row, changes=rest))[1])[weight][1] - 4
    if not row.changes or set(row.changes) == {"modalities"}:
        assert after == before
    densities = {key: row.changes.get(key, 2e-5) for key in ("pipeline.pmf.density", "pipeline.mal.density")}
    assert [other.config.pmf.density, other.config.mal.density] == list(densities.values())


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_row_runs_and_uses_all_it_has(row: Row, corpus: Corpus) -> None:
    """Every parameter has a gradient: nothing is built (and counted) that takes no part."""
    _, other = changed_by(row)
    widths = {name: WIDTHS[name] for name in other.schema.widths}
    batch = corpus.batch()
    batch = replace(batch, features={name: batch.features[name][:, :width] for name, width in widths.items()})
    for stage in other.stages():
        other.zero_grad()
        answer = stage.forward(batch)
        (answer.scores.square().sum() + answer.penalty).backward()
        unused = [name for name, p in stage.module.named_parameters() if p.grad is None]
        assert unused == []
    assert answer.scores.shape == (batch.utterances, 6)


# -- graph ---------------------------------------------------------------------------------------------------------------------------


def test_graph_of_a_part(corpus):
    method = make_for(corpus, "text", "audio", "visual")
    method.train()
    dialogue, held = corpus[0], Pipeline(method)
    assert list(held.graphs(dialogue)) == list(operators(method)) == [*method.fusion, "fused"]
    assert held.graph(dialogue).node_types == list(method.fusion)
    graph = held.graph(dialogue, "audio+text")
    assert graph.node_types == ["audio", "text"]
    assert graph.texts == list(dialogue.texts) and graph.speakers == list(dialogue.speakers)
    assert method.training  # as before
    assert list(Pipeline(make_for(corpus, "text", "audio")).graphs(dialogue)) == ["audio+text", "fused"]
    assert torch.equal(held.graph(dialogue)["audio+text"].x, held.graph(dialogue)["audio+text"].x)  # no dropout
    with pytest.raises(
        ConfigError,
        match=r"part: expected the name of a graph operator of the method \(audio\+text, audio\+visual, text\+visual, fused\), found 'all'",
    ):
        held.graph(dialogue, "all")


def test_the_printed_norm_is_an_option(corpus):
    states = torch.tensor([[1.0, -2.0], [0.0, 5.0]])
    assert float(density(states)) == 2.0
    assert float(density(states, "sum")) == 8.0
    pipelines = (make_for(corpus, "text", "audio", density_reduction=how).requires_grad_(False).eval() for how in ("mean", "sum"))
    mean, total = (method(corpus.batch()) for method in pipelines)
    assert float(total.penalty) == pytest.approx(float(mean.penalty) * mean.states.numel(), rel=1e-4)


@pytest.mark.parametrize("layout", ["tiled", "list", "blocks"])
def test_the_layout_of_the_operators_changes_nothing(layout: Any, corpus: Corpus) -> None:
    method, batch = make_for(corpus, "text", "audio", "visual").eval(), corpus.batch()
    before = method(batch).scores
    for part in operators(method).values():
        part.layout = layout
    torch.testing.assert_close(method(batch).scores, before, rtol=1e-4, atol=1e-5)


# -- nothing from later utterances -------------------------------------------------------------------------------------------------------


def test_causal_needs_nets_that_read_forward() -> None:
    assert make(causal=True).causal and not make().causal
    assert make(causal=True, graph="causal", mff=MffConfig(width=4, bidirectional=True)).causal
    with pytest.raises(
        ConfigError, match=r"pipeline\.causal: expected only modules that read no later utterances, found inputs.speaker_relative;"
    ):
        make(causal=True, graph="causal", inputs=InputsConfig(speaker_relative=["audio"]))
    with pytest.raises(ConfigError, match=r"inputs\.speaker_relative: expected modalities of the corpus \(.*\), found 'smell'"):
        make(inputs=InputsConfig(speaker_relative=["smell"]))


def test_causal_parts_reach_as_far_back_as_the_recipe():
    for graph, past in (("causal", None), ("causal_window", 10)):
        method = make(causal=True, graph=graph, mff=MffConfig(width=4, layers=2))
        attention = [module for module in method.modules() if isinstance(module, SelfAttention)]
        assert len(attention) == 4
        assert {(module.causal, module.past) for module in attention} == {(True, past)}
        assert {len(layer) for fusion in method.fusions.values() for net in fusion.encode.values() for layer in net.layers} == {1}
        assert method.causal
    assert not make(graph="causal").causal


def test_the_switch_off_leaves_every_weight_as_it_was():
    """Same parameters in the same order from the same seed, whatever the graph."""
    torch.manual_seed(1)
    one = make(graph="causal")
    torch.manual_seed(1)
    other = make()
    assert list(one.state_dict()) == list(other.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))
