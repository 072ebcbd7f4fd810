"""Laws that hold for every method that reads sequences, on raw words, waveforms and faces; found in the package, as in `test_laws`."""

from __future__ import annotations

import copy
from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from erc_graph.conv.angular.propagation import METHODS
from erc_graph.data.batch import Batch
from erc_graph.data.corpus import Corpus
from erc_graph.data.ragged import Ragged
from erc_graph.data.sample.raw import sample_raw_corpus
from erc_graph.data.sample.vectors import SampleConfig, sample_corpus
from erc_graph.graphs.recipe import list_recipes, load_recipe
from erc_graph.methods import PIPELINES
from erc_graph.methods.base import Pipeline, Schema
from erc_graph.methods.stage import infer
from erc_graph.training.config import TrainingConfig
from erc_graph.training.loop import fit

READERS = [name for name, method in PIPELINES.items() if "sequences" in method.reads]
GRAPHS = [name for name, method in PIPELINES.items() if any(field.name == "graph" for field in fields(method.Config))]
ALONE = [name for name in READERS if any(field.name == "context" for field in fields(PIPELINES[name].Config))]  # `graph = "none"`
BUDGETED = [name for name in READERS if any(field.name in ("tokens", "seconds") for field in fields(PIPELINES[name].Config))]
NEAR = {"rtol": 2e-3, "atol": 2e-4}  # single precision, sums in another order


def test_there_is_something_to_test() -> None:
    assert (
        {"bigru", "hff"} <= set(READERS)
        and {"hff", "pairwise"} <= set(GRAPHS)
        and "hff" in BUDGETED
        and {"hff", "mfdr", "wavfusion"} <= set(ALONE)
    )


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    """Six dialogues of raw input; the last has an utterance that is far longer than all others, and every modality is missing somewhere."""
    made = sample_raw_corpus(dialogues=6, seed=1, config=SampleConfig(turns=(2, 4), missing=0.2))
    parts = {}
    for name, value in made.sequences.items():
        whole = [value[row] for row in range(made.utterances)]
        whole[-1] = whole[next(row for row in range(made.utterances) if len(whole[row]))].repeat(3, *[1] * len(value.item))
        parts[name] = Ragged.of(whole)
    return replace(made, sequences=parts)


def build(name: str, corpus: Corpus, **changes: Any) -> Pipeline:
    """A method, narrower than by default, its inputs fitted, with weights from a fixed seed."""
    torch.manual_seed(3)
    method = PIPELINES[name]
    schema = Schema.of(corpus, reads=method.reads)
    pipeline = method(schema, changed(method.Config(), **{"width": 32, **changes}))
    pipeline.fit_inputs(schema.batch(corpus))
    return pipeline.eval()


def changed(config: Any, **changes: Any) -> Any:
    """The configuration with other values, wherever in it the fields are."""
    own = {field.name: getattr(config, field.name) for field in fields(config)}
    inner = {key: changed(value, **changes) for key, value in own.items() if is_dataclass(value)}
    return replace(config, **{key: value for key, value in changes.items() if key in own} | inner)


@torch.no_grad()
def ask(pipeline: Pipeline, batch: Batch) -> Tensor:
    return pipeline(batch).scores


@pytest.mark.parametrize("name", READERS)
def test_alone_in_any_batch_in_any_order_in_any_company(name: str, corpus: Corpus) -> None:
    """Neither longer dialogues nor longer sequences beside it change what is said of an utterance."""
    pipeline = build(name, corpus)
    everything = pipeline.schema.batch(corpus)
    count = len(everything) - 1
    whole = everything.select(torch.arange(count))
    alone = torch.cat([ask(pipeline, whole.select(torch.tensor([i]))) for i in range(count)])
    assert alone.isfinite().all() and alone.std(0).min() > 0
    order = torch.tensor([3, 0, 4, 2, 1])
    for batches in ([whole], [everything], [whole.select(order)], [whole.select(order[:2]), whole.select(order[2:])]):
        rows = torch.cat([batch.row for batch in batches])
        found = alone.new_zeros(everything.utterances, alone.shape[1]).index_copy(0, rows, torch.cat([ask(pipeline, b) for b in batches]))
        torch.testing.assert_close(found[: whole.utterances], alone, **NEAR)


@pytest.mark.parametrize("name", READERS)
def test_gradients_are_those_of_dialogues_one_by_one(name: str, corpus: Corpus) -> None:
    pipeline = build(name, corpus)
    batch = pipeline.schema.batch(corpus)
    weight = torch.randn(batch.utterances, pipeline.schema.outputs)

    def gradients(batches: list[Batch]) -> list[Tensor]:
        pipeline.zero_grad(set_to_none=True)
        for part in batches:
            (pipeline(part).scores * weight[part.row]).sum().backward()
        return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in pipeline.parameters()]

    together, one_by_one = gradients([batch]), gradients([batch.select(torch.tensor([i])) for i in range(len(batch))])
    size = torch.stack([g.norm() for g in one_by_one]).norm()
    assert size > 0 and torch.stack([(a - b).norm() for a, b in zip(together, one_by_one, strict=True)]).norm() < 1e-3 * size


@pytest.mark.parametrize("name", READERS)
def test_inference_in_chunks_of_any_size(name: str, corpus: Corpus) -> None:
    pipeline = build(name, corpus)
    batch = pipeline.schema.batch(corpus)
    whole = infer(pipeline, batch, 99).scores
    torch.testing.assert_close(whole, ask(pipeline, batch), **NEAR)
    for size in (1, 2):
        torch.testing.assert_close(infer(pipeline, batch, size).scores, whole, **NEAR)


@pytest.mark.parametrize("name", BUDGETED)
def test_a_budget_changes_memory_and_time_alone(name: str, corpus: Corpus) -> None:
    pipeline, little = build(name, corpus), build(name, corpus, tokens=1, seconds=0.01)
    little.load_state_dict(pipeline.state_dict())
    batch = pipeline.schema.batch(corpus)
    torch.testing.assert_close(ask(little, batch), ask(pipeline, batch), **NEAR)


@pytest.mark.parametrize("name", ALONE)
def test_without_a_graph_an_utterance_stands_for_itself_and_with_one_it_does_not(name: str, corpus: Corpus) -> None:
    for graph in ("none", "speaker"):
        pipeline = build(name, corpus, graph=graph)
        batch = pipeline.schema.batch(corpus)
        ptr, sizes = torch.arange(batch.utterances + 1), (1,) * batch.utterances
        each = replace(batch, ptr=ptr, sizes=sizes, speaker=torch.zeros_like(batch.speaker))
        difference = (ask(pipeline, batch) - ask(pipeline, each)).abs().amax(1)
        assert (difference < 1e-3).all() if graph == "none" else (difference > 1e-3).float().mean() > 0.5


@pytest.mark.parametrize("name", READERS)
def test_an_utterance_may_lack_everything(name: str, corpus: Corpus) -> None:
    """Whatever is missing, numbers come out, for it and for the others; and the others learn."""
    pipeline = build(name, corpus)
    rows = list(range(corpus.utterances))
    silent = {0, 1, corpus.utterances - 1}  # the whole first dialogue, if it has two turns, and the last utterance
    sequences = {key: Ragged.of([value[row][: 0 if row in silent else None] for row in rows]) for key, value in corpus.sequences.items()}
    batch = pipeline.schema.batch(replace(corpus, sequences=sequences))
    scores = pipeline(batch).scores
    assert scores.isfinite().all()
    scores.square().sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in pipeline.parameters())
    nothing = {key: Ragged(value.values[:0], torch.zeros_like(value.ptr)) for key, value in corpus.sequences.items()}
    assert ask(pipeline, pipeline.schema.batch(replace(corpus, sequences=nothing))).isfinite().all()


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("modality", ["text", "audio", "visual"])
def test_one_modality_is_enough_or_refused_in_words(name: str, modality: str, corpus: Corpus) -> None:
    from erc_graph.errors import ConfigError

    part = replace(corpus, sequences={modality: corpus.sequences[modality]})
    try:
        pipeline = build(name, part)
    except ConfigError as error:
        assert "modalities: " in str(error)
        return
    assert ask(pipeline, pipeline.schema.batch(part)).isfinite().all()


STEP = TrainingConfig(epochs=1, batch_size=3, selection="last")


@pytest.mark.parametrize("name", READERS)
def test_same_seed_same_weights(name: str, corpus: Corpus) -> None:
    def trained() -> dict[str, Tensor]:
        pipeline = build(name, corpus)
        fit(pipeline, pipeline.schema.batch(corpus), None, STEP, seed=5, device="cpu", quiet=True)
        return copy.deepcopy(pipeline.state_dict())

    one, other = trained(), trained()
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


RECIPES = [name for name in list_recipes() if load_recipe(name).windowed]  # what the angular convolution goes along
PAIRINGS = [(name, recipe, method) for name in GRAPHS for recipe in RECIPES for method in METHODS]


def test_every_pairing_is_built() -> None:
    assert len(PAIRINGS) == len(GRAPHS) * len(RECIPES) * 4


@pytest.mark.parametrize(("name", "recipe", "method"), PAIRINGS)
def test_any_method_of_utterances_learns_over_any_recipe_by_any_way_of_computing(
    name: str, recipe: str, method: str, corpus: Corpus
) -> None:
    """One step of training: the graph stage, too, gets other weights, all of them numbers."""
    given = corpus if name in READERS else sample_corpus(dialogues=6, config=SampleConfig(turns=(2, 4)))
    pipeline = build(name, given, graph=recipe, method=method, width=16)
    before = {key: value.clone() for key, value in pipeline.named_parameters()}
    fit(pipeline, pipeline.schema.batch(given), None, STEP, seed=0, device="cpu", quiet=True)
    after = dict(pipeline.named_parameters())
    assert all(value.isfinite().all() for value in after.values())
    moved = [key for key, value in after.items() if not torch.equal(value, before[key])]
    assert any("conv" in key.split(".") for key in moved), moved
