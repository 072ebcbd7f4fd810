"""Laws that hold for every recipe, way of computing, encoder and pipeline.

Each law is stated once. What it runs over is found in the package (`list_recipes`, `METHODS`, `PIPELINES`), so that a new one obeys too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from erc_graph.encoders.inputs import Inputs
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from erc_graph.conv.angular import propagation
from erc_graph.conv.angular.angular import AngularConv, AngularConvConfig
from erc_graph.conv.angular.propagation import METHODS
from erc_graph.data.batch import Batch
from erc_graph.data.corpus import Corpus
from erc_graph.data.sample.vectors import sample_corpus
from erc_graph.data.tasks import Task, get_task
from erc_graph.encoders.attention import SelfAttention, TransformerEncoder
from erc_graph.encoders.recurrent import Recurrent
from erc_graph.encoders.speaker import SpeakerEmbedding
from erc_graph.graphs.convert import to_networkx
from erc_graph.graphs.recipe import EdgeRule, GraphRecipe, list_recipes, load_recipe
from erc_graph.methods import PIPELINES
from erc_graph.methods.base import Pipeline, Schema
from erc_graph.methods.bigru import BiGRUConfig
from erc_graph.methods.committee import Committee
from erc_graph.methods.conversation import ContextConfig
from erc_graph.methods.hff import HFF, HFFConfig
from erc_graph.methods.pairwise import MalConfig, MffConfig, Pairwise, PairwiseConfig, PmfConfig
from erc_graph.methods.stage import infer
from erc_graph.training.config import TrainingConfig
from erc_graph.training.loop import fit
from erc_graph.training.losses import Criterion

RECIPES = [name for name in list_recipes() if load_recipe(name).windowed]  # what the angular convolution goes along
WIDTHS = {"text": 5, "audio": 3, "visual": 4}
THREE = Task(name="three", labels=("sad", "angry", "happy"))
SCORE = Task(name="score", kind="score", column="score")
Readable = Callable[[Corpus, str], Corpus]


def test_there_is_something_to_test() -> None:
    assert set(METHODS) == {"block", "tiled", "pyg", "dgl"}
    assert {"pairwise", "mmgcn", "window", "speaker", "causal", "causal_window"} <= set(RECIPES)
    assert {"bigru", "pairwise"} <= set(PIPELINES)


# -- what the laws run over --------------------------------------------------------------------------------------------------------


def make_batch(lengths: list[int], seed: int, *, speakers: list[int] | None = None, task: Task = THREE, missing: float = 0.25) -> Batch:
    """Random dialogues in float64 with missing vectors, unlabelled and unjudged utterances."""
    random = torch.Generator().manual_seed(seed)
    length = torch.tensor(lengths)
    rows = int(length.sum())
    widths = {**WIDTHS, "bert": 6, "speaker": 2}
    target = torch.randint(-1, 3, (rows,), generator=random)
    heard = speakers or torch.randint(0, 3, (rows,), generator=random).tolist()
    orders: list[int] = []
    for part in torch.tensor(heard, dtype=torch.long).split(lengths):
        first = list(dict.fromkeys(part.tolist()))
        orders.extend(first.index(speaker) for speaker in part.tolist())
    return Batch(
        ptr=torch.cat([length.new_zeros(1), length.cumsum(0)]),
        speaker=torch.tensor(orders, dtype=torch.long),
        target=target if task.labels else torch.where(target < 0, float("nan"), target - 1.0),
        judged=torch.rand(rows, generator=random) < 0.8,
        row=torch.arange(rows),
        features={name: torch.randn(rows, width, generator=random, dtype=torch.float64) for name, width in widths.items()},
        present={name: torch.rand(rows, generator=random) >= missing for name in widths},
    )


def stir(module: nn.Module) -> nn.Module:
    """In float64, with no parameter at a special value such as zero."""
    module.double().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.4)
    return module


def stand(task: Task = THREE, *names: str) -> Schema:
    widths = {**WIDTHS, "bert": 6, "speaker": 2}
    return Schema(widths={name: widths[name] for name in names or tuple(WIDTHS)}, task=task)


def little(**changes: Any) -> PairwiseConfig:
    values = {
        "pmf": PmfConfig(width=6),
        "mff": MffConfig(width=4),
        "mal": MalConfig(width=5, heads=2, hidden=6),
        "conv": AngularConvConfig(depth=2),
    }
    return PairwiseConfig(**{**values, **changes})


def small_hff(**changes: Any) -> HFFConfig:
    values = {"width": 6, "layers": 2, "heads": 3, "head_width": 4, "feedforward": 5, "hidden": 6, "context": ContextConfig(width=4)}
    return HFFConfig(**{**values, **changes})


VARIANTS: dict[str, Callable[[], Pipeline]] = {
    "bigru": lambda: PIPELINES["bigru"](stand(), BiGRUConfig(width=6)),
    "bigru score": lambda: PIPELINES["bigru"](stand(SCORE, "text"), BiGRUConfig(width=6, layers=3)),
    "one modality": lambda: Pairwise(stand(THREE, "audio"), little()),
    "text alone": lambda: Pairwise(stand(THREE, "text"), little()),
    "two modalities": lambda: Pairwise(stand(THREE, "text", "audio"), little()),
    "three modalities": lambda: Pairwise(stand(), little()),
    "joint": lambda: Pairwise(stand(), little(stages="joint")),
    "without pmf": lambda: Pairwise(stand(), little(pmf=PmfConfig(width=6, enabled=False))),
    "without mal": lambda: Pairwise(
        stand(), little(mal=MalConfig(width=5, hidden=6, attention=False, pair_skip=False, context_skip=False))
    ),
    "without gcn": lambda: Pairwise(stand(), little(mff=MffConfig(width=4, gcn=False, speaker=False, context_encoder=False))),
    "one attention layer": lambda: Pairwise(stand(), little(mal=MalConfig(width=5, heads=1, hidden=6, layers=1))),
    "shared gru": lambda: Pairwise(stand(), little(mff=MffConfig(width=4, shared_gru=True))),
    "bidirectional": lambda: Pairwise(stand(), little(mff=MffConfig(width=4, bidirectional=True))),
    "bert": lambda: Pairwise(stand(THREE, "text", "audio", "bert"), little(context_text="bert")),
    "given speakers": lambda: Pairwise(stand(THREE, "text", "audio", "speaker"), little(given_speakers=True)),
    "score": lambda: Pairwise(stand(SCORE), little()),
    "speaker relative": lambda: Pairwise(stand(), little(speaker_relative=["audio"])),
    "forward, speaker relative": lambda: PIPELINES["bigru"](stand(), BiGRUConfig(width=6, bidirectional=False, speaker_relative=["audio"])),
    "hff": lambda: HFF(stand(), small_hff(attend="turns")),
    "hff alone": lambda: HFF(stand(), small_hff(graph="none", samples=2, attend="turns")),
    "hff nodes": lambda: HFF(stand(), small_hff(nodes="modalities", graph="pairwise", turns=False)),
    "hff one modality": lambda: HFF(stand(THREE, "text"), small_hff(bidirectional=True, graph="none")),
    "hff score": lambda: HFF(stand(SCORE), small_hff(samples=3, graph="none", speaker_relative=["audio"])),
    "hff bare": lambda: HFF(stand(), small_hff(dynamic=False, uncertainty=False, attention=False, temporal=False)),
    "hff shrinking": lambda: HFF(stand(), small_hff(shrink=True, residual=True, bidirectional=True)),
    "causal hff": lambda: HFF(stand(), small_hff(graph="none")),
    "causal hff without turns": lambda: HFF(stand(), small_hff(graph="none", turns=False)),
    "graph causal": lambda: Pairwise(stand(), little(graph="causal")),
    "causal": lambda: Pairwise(stand(), little(graph="causal", causal=True)),
    "causal window": lambda: Pairwise(stand(), little(graph="causal_window", causal=True, mff=MffConfig(width=4, heads=2, layers=2))),
    "causal bigru": lambda: PIPELINES["bigru"](stand(), BiGRUConfig(width=6, bidirectional=False)),
    "committee": lambda: Committee([Pairwise(stand(), little()) for _ in range(2)]),
    "committee joint, score": lambda: Committee([Pairwise(stand(SCORE, "text", "audio"), little(stages="joint")) for _ in range(2)]),
    "causal committee": lambda: Committee([VARIANTS["causal bigru"](), VARIANTS["causal bigru"]()]),
    "graph speaker": lambda: Pairwise(stand(), little(graph="speaker", conv=AngularConvConfig(method="pyg"))),
}

ENCODERS: dict[str, Callable[[], nn.Module]] = {
    **{
        f"{cell} {'both ways' if both else 'forward'} {layers}": lambda cell=cell, both=both, layers=layers: Recurrent(
            cell, 5, 6, bidirectional=both, layers=layers, dropout=0.3
        )
        for cell in ("lstm", "gru")
        for both in (False, True)
        for layers in (1, 2)
    },
    "attention": lambda: SelfAttention(5, 7, heads=3, dropout=0.3),
    "causal attention": lambda: SelfAttention(5, 7, heads=3, dropout=0.3, causal=True),
    "windowed attention": lambda: SelfAttention(5, 7, heads=3, dropout=0.3, causal=True, past=2),
    "transformer": lambda: nn.ModuleDict({"up": nn.Linear(5, 6), "net": TransformerEncoder(6, heads=4, layers=2)}),
    "speaker": lambda: SpeakerEmbedding(6, speakers=2),
    "given speaker": lambda: SpeakerEmbedding(6, given=2),
    "inputs": lambda: Inputs(WIDTHS),
}


def ask_encoder(encoder: nn.Module, batch: Batch) -> Tensor:
    """`(N, k)` of any encoder; they differ in what they read."""
    text = batch.features["text"]
    if isinstance(encoder, nn.ModuleDict):
        return encoder["net"](encoder["up"](text), batch)
    if isinstance(encoder, SpeakerEmbedding):
        return encoder(batch)
    if isinstance(encoder, Inputs):
        return torch.cat(list(encoder(batch).values()), -1)
    return encoder(text, batch)


def ask_pipeline(pipeline: nn.Module, batch: Batch) -> Tensor:
    return pipeline(batch).scores


def streams(batch: Batch) -> tuple[Tensor, Tensor]:
    """Node states `(N, 3, 3)` and presence `(N, 3)` out of a batch's features."""
    return (
        torch.stack([batch.features[name][:, :3] for name in WIDTHS], 1),
        torch.stack([batch.present[name] for name in WIDTHS], 1),
    )


def ask_operator(operator: nn.Module, batch: Batch, recipe: str = "pairwise") -> Tensor:
    states, present = streams(batch)
    return operator(states, present, batch, load_recipe(recipe)).flatten(1)


def check_alone_in_any_batch_in_any_order(ask: Callable[[nn.Module, Batch], Tensor], module: nn.Module) -> None:
    """Outputs, gradients of parameters and gradients of features."""
    everything = make_batch([3, 9, 1, 6, 2, 17], seed=1)  # the last is only company: longer than all, so that there is more padding
    whole = everything.select(torch.arange(5))
    order = torch.tensor([2, 4, 0, 3, 1])
    weight: Tensor | None = None

    def run(batches: list[Batch]) -> tuple[Tensor, list[Tensor], dict[str, Tensor]]:
        nonlocal weight
        module.zero_grad(set_to_none=True)
        features = {name: value.clone().requires_grad_() for name, value in everything.features.items()}
        values = [ask(module, replace(batch, features={n: f[batch.row] for n, f in features.items()})) for batch in batches]
        rows = torch.cat([batch.row for batch in batches])
        found = torch.zeros(everything.utterances, values[0].shape[1], dtype=torch.float64).index_copy(0, rows, torch.cat(values))
        found = found[: whole.utterances]
        weight = torch.randn(found.shape, dtype=torch.float64) if weight is None else weight
        (found * weight).sum().backward()
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in module.parameters()]
        return found.detach(), gradients, {n: torch.zeros_like(f) if f.grad is None else f.grad for n, f in features.items()}

    alone, parameters, inputs = run([whole.select(torch.tensor([i])) for i in range(len(whole))])
    assert alone.isfinite().all()
    assert sum(float(g.abs().sum()) for g in [*parameters, *inputs.values()]) > 0
    for other in ([whole], [everything], [whole.select(order)], [whole.select(order[:2]), whole.select(order[2:])]):
        value, gradients, features = run(other)
        torch.testing.assert_close(value, alone, rtol=1e-9, atol=1e-10)
        torch.testing.assert_close(gradients, parameters, rtol=1e-7, atol=1e-9)
        torch.testing.assert_close(features, inputs, rtol=1e-7, atol=1e-9)


# -- a conversation gives the same result alone, in any batch, with any padding, in any order ---------------------------------------


@pytest.mark.parametrize("name", ENCODERS)
def test_encoder_alone_in_any_batch_in_any_order(name: str) -> None:
    check_alone_in_any_batch_in_any_order(ask_encoder, stir(ENCODERS[name]()))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("recipe", RECIPES)
def test_operator_alone_in_any_batch_in_any_order(recipe: str, method: str) -> None:
    conv = stir(AngularConv(3, AngularConvConfig(method=method)))
    check_alone_in_any_batch_in_any_order(lambda module, batch: ask_operator(module, batch, recipe), conv)


@pytest.mark.parametrize("name", VARIANTS)
def test_pipeline_alone_in_any_batch_in_any_order(name: str) -> None:
    check_alone_in_any_batch_in_any_order(ask_pipeline, stir(VARIANTS[name]()))


@pytest.mark.parametrize("name", VARIANTS)
def test_stages_alone_in_any_batch_in_any_order(name: str) -> None:
    pipeline = stir(VARIANTS[name]())
    for stage in pipeline.stages():
        check_alone_in_any_batch_in_any_order(lambda module, batch, ask=stage.forward: ask(batch).scores, pipeline)


@pytest.mark.parametrize("name", VARIANTS)
def test_inference_in_chunks_of_any_size(name: str) -> None:
    pipeline, batch = stir(VARIANTS[name]()), make_batch([3, 9, 1, 6, 2], seed=1)
    whole = infer(pipeline, batch, 99)
    for size in (1, 2):
        torch.testing.assert_close(infer(pipeline, batch, size).scores, whole.scores, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(infer(pipeline, batch, size).states, whole.states, rtol=1e-6, atol=1e-6)


# -- block, pyg and dgl agree with each other and with a loop over the definition ---------------------------------------------------


@st.composite
def conversations(draw: st.DrawFn) -> tuple[Batch, Tensor, Tensor]:
    """Dialogues with speakers, states (some zero, some equal, some opposite) and presence."""
    lengths = draw(st.lists(st.integers(1, 7), min_size=1, max_size=4))
    rows, count = sum(lengths), draw(st.integers(1, 3))
    speakers = draw(st.lists(st.integers(0, 3), min_size=rows, max_size=rows))
    seed = draw(st.integers(0, 2**31))
    present = draw(st.lists(st.booleans(), min_size=rows * count, max_size=rows * count))
    kinds = draw(st.lists(st.sampled_from(["own"] * 5 + ["zero", "first", "against"]), min_size=rows * count, max_size=rows * count))
    batch = make_batch(lengths, seed, speakers=speakers)
    states = torch.randn(rows * count, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    for i, kind in enumerate(kinds):
        if kind != "own":
            states[i] = {"zero": 0.0, "first": 1.0, "against": -2.0}[kind] * states[0]
    return batch, states.view(rows, count, 4), torch.tensor(present).view(rows, count)


def oracle_weights(recipe: GraphRecipe, batch: Batch, states: Tensor, present: Tensor) -> dict[tuple[int, int, int, int], float]:
    """`(target row, target stream, source row, source stream)` → weight, from the definitions, one pair at a time."""
    ptr, speaker = batch.ptr.tolist(), batch.speaker.tolist()
    vectors, there = states.tolist(), present.tolist()
    squeeze, tiny = 1 - 1e-5, 1e-8  # as documented in graphs/weights.py

    def angle(a: list[float], b: list[float]) -> float:
        lengths = math.sqrt(sum(x * x for x in a) + tiny) * math.sqrt(sum(x * x for x in b) + tiny)
        cosine = sum(x * y for x, y in zip(a, b, strict=True)) / lengths
        weight = 0.5 + math.asin(squeeze * max(-1.0, min(1.0, cosine))) / (2 * math.asin(squeeze))
        assert abs(weight - (1 - math.acos(max(-1.0, min(1.0, cosine))) / math.pi)) < 0.0015  # the printed form
        return weight

    weights: dict[tuple[int, int, int, int], float] = {}
    for start, end in pairwise(ptr):
        for i in range(start, end):
            for j in range(start, end):
                for s in range(len(there[0])):
                    for t in range(len(there[0])):
                        for rule in recipe.edges:
                            reached = (j <= i and (rule.past is None or i - j <= rule.past)) or (
                                j >= i and (rule.future is None or j - i <= rule.future)
                            )
                            heard = rule.speaker == "any" or (rule.speaker == "same") == (speaker[i] == speaker[j])
                            fits = (rule.scope == "within") == (s == t) and (rule.self_loops or i != j)
                            if reached and heard and fits and there[i][s] and there[j][t]:
                                value = angle(vectors[i][s], vectors[j][t]) if rule.weight == "angular" else 1.0
                                weights[i, s, j, t] = weights.get((i, s, j, t), 0.0) + rule.scale * value
    return weights


def oracle_propagation(weights: dict[tuple[int, int, int, int], float], x: Tensor) -> Tensor:
    """`D^-1/2 W D^-1/2 x` with in-degrees, one edge at a time."""
    degree: dict[tuple[int, int], float] = {}
    for (i, s, _, _), weight in weights.items():
        degree[i, s] = degree.get((i, s), 0.0) + weight
    result = torch.zeros_like(x)
    for (i, s, j, t), weight in weights.items():
        if degree[i, s] > 0 and degree.get((j, t), 0.0) > 0:
            result[i, s] += weight / math.sqrt(degree[i, s] * degree[j, t]) * x[j, t]
    return result


def rule(relation: str, scope: Any, past: int | None, future: int | None, **options: Any) -> EdgeRule:
    return EdgeRule(relation=relation, scope=scope, past=past, future=future, **options)


OWN = {  # what no recipe of the package has: unit weights, no self-loops, gaps, streams joined at other turns, relations that overlap
    "unit": (rule("near", "within", 1, 2, weight="unit", scale=0.5), rule("same", "across", 0, 0, weight="unit", scale=0.25)),
    "overlapping": (rule("all", "within", None, None), rule("near", "within", 1, 1, weight="unit", scale=2.0)),
    "without loops": (rule("others", "within", 2, 0, speaker="other", self_loops=False), rule("same", "across", 0, 0)),
    "only across": (rule("same", "across", 0, 0, scale=0.5),),
    "across turns": (rule("own", "within", 0, 0), rule("before", "across", 2, 0, self_loops=False, speaker="same")),
}


@pytest.mark.parametrize("name", [*RECIPES, *OWN])
@settings(max_examples=15, deadline=None)
@given(conversation=conversations())
def test_methods_agree_with_a_loop_over_the_definition(name: str, conversation: tuple[Batch, Tensor, Tensor]) -> None:
    recipe = GraphRecipe(name=name, description="own", source="none", edges=OWN[name]) if name in OWN else load_recipe(name)
    batch, states, present = conversation
    x = torch.randn(states.shape[0], states.shape[1], 2, dtype=torch.float64)
    weights = oracle_weights(recipe, batch, states, present)
    assume(min(weights.values(), default=1.0) > 1e-6)  # D^-1/2 of opposite states without a self-loop multiplies what rounding left
    expected = oracle_propagation(weights, x)
    for method in METHODS.keys() - ({"block", "tiled"} if name == "across turns" else set()):
        torch.testing.assert_close(METHODS[method](recipe, batch, states, present)(x), expected, rtol=1e-7, atol=1e-7)


def outcome(method: str, recipe: GraphRecipe, batch: Batch, states: Tensor, present: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Propagated values, and their gradients with respect to the states (through the weights) and to what is propagated."""
    random = torch.Generator().manual_seed(7)
    states = states.clone().requires_grad_()
    x = torch.randn(*states.shape[:2], 3, generator=random, dtype=states.dtype).requires_grad_()
    value = METHODS[method](recipe, batch, states, present)(x)
    (value * torch.randn(value.shape, generator=random, dtype=value.dtype)).sum().backward()
    zero = torch.zeros_like
    return value.detach(), zero(states) if states.grad is None else states.grad, zero(x) if x.grad is None else x.grad


@pytest.mark.parametrize("recipe", RECIPES)
@settings(max_examples=15, deadline=None)
@given(conversation=conversations())
def test_methods_agree_in_values_and_gradients(recipe: str, conversation: tuple[Batch, Tensor, Tensor]) -> None:
    block = outcome("block", load_recipe(recipe), *conversation)
    for method in METHODS:
        other = outcome(method, load_recipe(recipe), *conversation)
        assert all(part.isfinite().all() for part in other)
        # γ is float32 on listed edges. At opposite states the weight is nearly zero and D^-1/2 steep: hence relative to the largest.
        for one, two in zip(other, block, strict=True):
            torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6 * max(1.0, float(two.abs().max())))


SPECIAL = {
    "one utterance": ([1], [0]),
    "one speaker": ([12, 3], [0] * 15),
    "200 speakers": ([200], list(range(200))),
}


@pytest.mark.parametrize("absent", ["nowhere", "one stream", "everywhere"])
@pytest.mark.parametrize("case", SPECIAL)
@pytest.mark.parametrize("recipe", RECIPES)
def test_methods_agree_at_the_ends(recipe: str, case: str, absent: str) -> None:
    lengths, speakers = SPECIAL[case]
    batch = make_batch(lengths, seed=3, speakers=speakers)
    states = streams(batch)[0]
    present = torch.ones(states.shape[:2], dtype=torch.bool)
    present[:, 1 if absent == "one stream" else slice(None)] &= absent == "nowhere"
    results = [outcome(method, load_recipe(recipe), batch, states, present) for method in METHODS]
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], rtol=1e-5, atol=1e-6)
    assert (results[0][0][~present] == 0).all()
    if absent == "everywhere":
        assert all((part == 0).all() for part in results[0])


@pytest.mark.parametrize("method", ["pyg", "dgl"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_the_order_of_edges_does_not_matter(recipe: str, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = make_batch([5, 8, 1], seed=4)
    states, present = streams(batch)
    before = outcome(method, load_recipe(recipe), batch, states, present)
    listed = propagation.merged_edges
    shuffled = []

    def shuffle(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
        index, scale, angular = listed(*arguments)
        order = torch.randperm(len(scale))
        shuffled.append(not torch.equal(index, index[:, order]))
        return index[:, order], scale[order], angular[order]

    monkeypatch.setattr(propagation, "merged_edges", shuffle)
    after = outcome(method, load_recipe(recipe), batch, states, present)
    assert shuffled == [True]
    torch.testing.assert_close(after, before, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("residual", [True, False])
def test_deep_convolution_is_the_printed_recursion(residual: bool) -> None:
    """The equations in the docstring of `conv/angular.py`, one node and one number at a time."""
    batch = make_batch([3, 2], seed=8)
    states, present = streams(batch)
    config = AngularConvConfig(depth=3, alpha=0.3, lambda_=0.7, residual=residual)
    conv = stir(AngularConv(3, config))
    recipe = load_recipe("pairwise")
    weights = oracle_weights(recipe, batch, states, present)
    first, bias = conv.first.weight.tolist(), conv.first.bias.tolist()
    rows, count, width = states.shape
    nodes = [(i, s) for i in range(rows) for s in range(count)]
    initial = {
        (i, s): [max(0.0, bias[k] + sum(first[k][c] * float(states[i, s, c]) for c in range(width))) for k in range(width)]
        for i, s in nodes
    }
    hidden = dict(initial)
    for layer in range(1, config.depth + 1):
        theta, matrix = math.log(config.lambda_ / layer + 1), conv.weights[layer - 1].tolist()
        packed = torch.tensor([[hidden[i, s] for s in range(count)] for i in range(rows)], dtype=torch.float64)
        spread = oracle_propagation(weights, packed).tolist()
        following = {}
        for i, s in nodes:
            both = [*spread[i][s], *initial[i, s]]
            following[i, s] = [
                max(
                    0.0,
                    (1 - theta) * ((1 - config.alpha) * spread[i][s][k] + config.alpha * initial[i, s][k])
                    + theta * sum(both[c] * matrix[c][k] for c in range(2 * width)),
                )
                for k in range(width)
            ]
        hidden = following
    output = conv(states, present, batch, recipe)
    assert output.shape == (rows, count, conv.output_width) == (rows, count, width * (2 if residual else 1))
    for i, s in nodes:
        expected = ([*states[i, s].tolist()] if residual else []) + hidden[i, s]
        expected = expected if present[i, s] else [0.0] * len(expected)
        assert output[i, s].tolist() == pytest.approx(expected, rel=1e-7, abs=1e-7)


# -- angular weights at the ends of their range -------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["zero", "identical", "opposite", "absent", "huge", "tiny"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_special_states_give_numbers(recipe: str, method: str, case: str, dtype: torch.dtype) -> None:
    batch = make_batch([4, 1], seed=5)
    states = streams(batch)[0].to(dtype)
    present = torch.ones(states.shape[:2], dtype=torch.bool)
    sign = torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0], dtype=dtype)[:, None, None]
    if case == "absent":
        present[:] = False
    else:
        change = {"zero": 0 * states, "identical": states[:1, :1] + 0 * states, "opposite": states[:1, :1] * sign + 0 * states}
        states = {**change, "huge": states * 1e15, "tiny": states * 1e-15}[case]
    states = states.clone().requires_grad_()
    conv = AngularConv(3, AngularConvConfig(method=method)).to(dtype)
    output = conv(states, present, batch, load_recipe(recipe))
    output.sum().backward()
    assert output.isfinite().all()
    assert states.grad is not None and states.grad.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in conv.parameters())


@pytest.mark.parametrize("method", METHODS)
def test_weights_of_same_right_angled_and_opposite_states(method: str) -> None:
    """Two turns of one stream: `P[0, 1] = w / (1 + w)`, since a self-loop has weight one."""
    batch = make_batch([2], seed=0)
    present = torch.ones(2, 1, dtype=torch.bool)
    for second, weight in (([3.0, 0.0], 1.0), ([0.0, 2.0], 0.5), ([-1.0, 0.0], 0.0)):
        states = torch.tensor([[[1.0, 0.0]], [second]], dtype=torch.float64)
        spread = METHODS[method](load_recipe("pairwise"), batch, states, present)(torch.eye(2, dtype=torch.float64)[:, None])
        assert float(spread[0, 0, 1]) == pytest.approx(weight / (1 + weight), abs=1e-4)
        assert float(spread[0, 0, 0]) == pytest.approx(1 / (1 + weight), abs=1e-4)


# -- nothing comes from the future --------------------------------------------------------------------------------------------------


def looks_ahead(ask: Callable[[Tensor], Tensor], states: Tensor, batch: Batch) -> bool:
    """Whether some output has a gradient from a later turn of its dialogue; none may have one from another dialogue."""
    later = False
    for row in range(batch.utterances):
        states.grad = None
        ask(states)[row].sum().backward()
        assert states.grad is not None
        moved = states.grad.flatten(1).abs().sum(1) > 0
        assert not moved[batch.dialogue != batch.dialogue[row]].any()
        later |= bool(moved[(batch.dialogue == batch.dialogue[row]) & (batch.turn > batch.turn[row])].any())
    return later


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("recipe", RECIPES)
def test_only_recipes_that_are_not_causal_look_ahead(recipe: str, method: str) -> None:
    batch = make_batch([5, 3], seed=6, speakers=[0, 1, 0, 0, 1, 2, 2, 0])
    states = streams(batch)[0].requires_grad_()
    present = torch.ones(states.shape[:2], dtype=torch.bool)
    conv = stir(AngularConv(3, AngularConvConfig(depth=3, method=method)))
    assert looks_ahead(lambda x: conv(x, present, batch, load_recipe(recipe)), states, batch) is not load_recipe(recipe).causal


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_recurrent_net_in_one_direction_does_not_look_ahead(cell: Any, both: bool) -> None:
    batch = make_batch([5, 3], seed=6)
    net = stir(Recurrent(cell, 5, 6, bidirectional=both, layers=2))
    assert looks_ahead(lambda x: net(x, batch), batch.features["text"].requires_grad_(), batch) is both


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("past", [None, 0, 2])
def test_causal_attention_does_not_look_ahead(causal: bool, past: int | None) -> None:
    batch = make_batch([5, 3], seed=6)
    net = stir(TransformerEncoder(5, layers=2, causal=causal, past=past))
    assert looks_ahead(lambda x: net(x, batch), batch.features["text"].requires_grad_(), batch) is not causal


@pytest.mark.parametrize("name", VARIANTS)
def test_only_pipelines_that_say_so_do_not_look_ahead(name: str) -> None:
    pipeline, batch = stir(VARIANTS[name]()), make_batch([6, 3], seed=6)
    assert isinstance(pipeline, Pipeline)
    names = list(batch.features)
    widths = [batch.features[name].shape[1] for name in names]
    everything = torch.cat(list(batch.features.values()), 1).requires_grad_()

    def ask(features: Tensor) -> Tensor:
        return pipeline(replace(batch, features=dict(zip(names, features.split(widths, 1), strict=True)))).scores

    assert looks_ahead(ask, everything, batch) is not pipeline.causal
    assert pipeline.causal is name.startswith("causal")


# -- through the corpus: names, labels, seeds, checkpoints --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return sample_corpus(dialogues=12, seed=1)


def small(name: str, corpus: Corpus, **changes: Any) -> Pipeline:
    config = {"bigru": lambda: BiGRUConfig(width=8), "pairwise": lambda: little(**changes), "hff": small_hff}.get(name, lambda: None)()
    torch.manual_seed(11)
    pipeline = PIPELINES[name](Schema.of(corpus, reads=PIPELINES[name].reads), config)
    pipeline.fit_inputs(pipeline.schema.batch(corpus.split("train")))
    return pipeline


@pytest.mark.parametrize("name", PIPELINES)
def test_renaming_speakers_changes_nothing(name: str, corpus: Corpus, readable: Readable) -> None:
    corpus = readable(corpus, name)
    known = sorted(set(corpus.speakers))
    new = {speaker: f"{chr(0x1F600 + i)} {'zyx'[i % 3]}\0{len(known) - i}" for i, speaker in enumerate(known)}
    renamed = replace(corpus, speakers=tuple(new[speaker] for speaker in corpus.speakers))
    one = replace(corpus, speakers=("the same",) * corpus.utterances)
    pipeline = small(name, corpus).eval()
    scores, other, together = (pipeline(pipeline.schema.batch(heard)).scores for heard in (corpus, renamed, one))
    assert torch.equal(other, scores)
    if name != "bigru":  # they do know who speaks
        assert not torch.allclose(together, scores)


@pytest.mark.parametrize("name", PIPELINES)
def test_a_dialogue_of_a_corpus_is_judged_as_if_it_were_alone(name: str, corpus: Corpus, readable: Readable) -> None:
    corpus = readable(corpus, name)
    pipeline = small(name, corpus).eval()
    alone = torch.cat([pipeline(pipeline.schema.batch(dialogue.corpus)).scores for dialogue in corpus])
    torch.testing.assert_close(pipeline(pipeline.schema.batch(corpus)).scores, alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["classification", "score"])
def test_unlabelled_utterances_get_predictions_and_no_loss(kind: str) -> None:
    task = SCORE if kind == "score" else THREE
    batch = make_batch([4, 6, 3], seed=9, task=task)
    counts = batch.judged & (~batch.target.isnan() if kind == "score" else batch.target >= 0)
    assert 0 < int(counts.sum()) < batch.utterances
    for config in (TrainingConfig(), TrainingConfig(loss="focal", class_weights="balanced", label_smoothing=0.1)):
        pipeline = stir(Pairwise(stand(task), little()))
        scores = pipeline(batch).scores.detach().requires_grad_()
        assert scores.isfinite().all() and scores.shape == (batch.utterances, 1 if kind == "score" else 3)
        loss = Criterion(task, config, batch)(scores, batch)
        loss.backward()
        assert scores.grad is not None
        assert (scores.grad[~counts] == 0).all()
        assert (scores.grad[counts].abs().sum(1) > 0).all()
        other = replace(batch, target=torch.where(batch.judged, batch.target, torch.ones_like(batch.target)))
        assert torch.equal(Criterion(task, config, other)(scores, other), loss)  # a label that is not judged is not read
        assert torch.equal(pipeline(other).scores, pipeline(batch).scores)


def test_an_unlabelled_utterance_is_context() -> None:
    batch = make_batch([6], seed=9, missing=0.0)
    text = batch.features["text"].requires_grad_()
    pipeline = stir(Pairwise(stand(), little()))
    Criterion(THREE, TrainingConfig(), batch)(pipeline(batch).scores, batch).backward()
    assert text.grad is not None
    assert (text.grad.abs().sum(1) > 0).all()


TRAINING = TrainingConfig(epochs=3, batch_size=4, learning_rate=0.01, schedule="cosine", ema=0.5)


def train(pipeline: Pipeline, corpus: Corpus, **options: Any) -> Any:
    options = {"seed": 3, "device": "cpu", "quiet": True, **options}
    parts = (pipeline.schema.batch(corpus.split(part)) for part in ("train", "dev"))
    return fit(pipeline, *parts, TRAINING, **options)


def same(one: nn.Module, other: nn.Module) -> bool:
    left, right = one.state_dict(), other.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


@pytest.mark.parametrize(("name", "changes"), [*((name, {}) for name in PIPELINES), ("pairwise", {"stages": "joint"})])
def test_same_seed_same_result_bit_for_bit(name: str, changes: dict[str, Any], corpus: Corpus, readable: Readable) -> None:
    corpus = readable(corpus, name)
    one, two, other = (small(name, corpus, **changes) for _ in range(3))
    assert same(one, two)
    history = train(one, corpus)
    torch.rand(3)  # what happened before does not matter
    assert train(two, corpus) == history
    assert same(one, two)
    train(other, corpus, seed=4)
    assert not same(one, other)


@pytest.mark.parametrize("where", ["fusion.audio+text.classify", "mal.classify"])
def test_resumed_pairwise_equals_uninterrupted(where: str, corpus: Corpus, tmp_path: Any) -> None:
    whole = small("pairwise", corpus)
    expected = train(whole, corpus, folder=tmp_path / "whole")
    assert len(expected.stages) == 4

    killed, steps = small("pairwise", corpus), [0]

    def stop(module: nn.Module, *_: Any) -> None:
        steps[0] += module.training
        if steps[0] == 4:  # two steps an epoch: in the second epoch of its stage
            raise KeyboardInterrupt

    killed.get_submodule(where).register_forward_pre_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        train(killed, corpus, folder=tmp_path / "killed")
    torch.manual_seed(99)
    resumed = Pairwise(Schema.of(corpus), little())  # other initial weights, no scaling: all comes from the file
    assert train(resumed, corpus, folder=tmp_path / "killed", resume=True) == expected
    assert same(resumed, whole)


# -- one graph in all its forms -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", RECIPES)
def test_networkx_graph_pipeline_graph_and_operator_have_the_same_edges_and_weights(recipe: str, corpus: Corpus) -> None:
    pipeline = small("pairwise", corpus, graph=recipe)
    assert isinstance(pipeline, Pairwise)
    dialogue = max(corpus, key=lambda d: sum(int((~here).sum()) for here in d.corpus.present.values()))  # with missing vectors
    for part in (*pipeline.fusion, "fused"):
        graph = pipeline.graph(dialogue, part)
        network = to_networkx(graph)
        weights: dict[tuple[Any, Any], float] = {}
        degree: dict[Any, float] = {}
        total = 0
        for kind in graph.edge_types:
            pairs, values = graph[kind].edge_index.T.tolist(), graph[kind].edge_weight.tolist()
            total += len(pairs)
            for (i, j), value in zip(pairs, values, strict=True):
                assert network.edges[(kind[0], i), (kind[2], j), kind[1]]["weight"] == value
        assert network.number_of_edges() == total > 0
        for source, target, value in network.edges(data="weight"):
            weights[target, source] = weights.get((target, source), 0.0) + value
            degree[target] = degree.get(target, 0.0) + value
        names, rows = graph.node_types, len(dialogue)
        states = torch.stack([graph[name].x for name in names], 1)
        present = torch.stack([graph[name].present for name in names], 1)
        nodes = [(name, i) for i in range(rows) for name in names]
        assert set(network.nodes) == set(nodes)
        expected = torch.zeros(len(nodes), len(nodes))
        for a, target in enumerate(nodes):
            for b, source in enumerate(nodes):
                if (target, source) in weights:
                    expected[a, b] = weights[target, source] / math.sqrt(degree[target] * degree[source])
        eye = torch.eye(len(nodes)).view(rows, len(names), len(nodes))
        for method in METHODS.values():
            found = method(pipeline.recipe, dialogue.batch(), states, present)(eye).reshape(len(nodes), len(nodes))
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


# -- half precision -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", RECIPES)
def test_block_in_bfloat16_is_float32_rounded_once(recipe: str) -> None:
    """States and values in bfloat16 (8 significant bits); weights and sums in float32, so only the last rounding is left: 2^-8."""
    batch = make_batch([9, 4, 1], seed=12)
    states, present = streams(batch)
    half = states.bfloat16()
    x = torch.randn(*states.shape[:2], 5).bfloat16()
    low = METHODS["block"](load_recipe(recipe), batch, half, present)(x)
    high = METHODS["block"](load_recipe(recipe), batch, half.float(), present)(x.float())
    assert low.dtype is torch.bfloat16
    torch.testing.assert_close(low.float(), high, rtol=2**-8, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("recipe", RECIPES)
def test_convolution_under_bfloat16_autocast_is_near_float32(recipe: str, method: str) -> None:
    """Nearly equal states, whose products exceed one in bfloat16: numbers all the same, within 3 % of the largest."""
    for seed in range(5):
        batch = make_batch([9, 30, 1], seed=seed)
        present = streams(batch)[1]
        random = torch.Generator().manual_seed(seed)
        states = torch.randn(1, 1, 8, generator=random) + 1e-3 * torch.randn(batch.utterances, 3, 8, generator=random)
        states = states.requires_grad_()
        conv = AngularConv(8, AngularConvConfig(method=method))
        expected = conv(states, present, batch, load_recipe(recipe))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = conv(states, present, batch, load_recipe(recipe))
        output.float().sum().backward()
        assert states.grad is not None and states.grad.isfinite().all()
        torch.testing.assert_close(output.float(), expected, rtol=0, atol=0.03 * float(expected.detach().abs().max()))


def test_a_known_task_gives_the_schema_its_width() -> None:
    assert Schema(widths=WIDTHS, task=get_task("meld7")).outputs == 7
    assert Schema(widths=WIDTHS, task=SCORE).outputs == 1
