"""Laws on raw words, waveforms and faces, in single precision, for every method that reads sequences."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from erc_graph.data.batch import Batch
from erc_graph.data.corpus import Corpus
from erc_graph.data.ragged import Ragged, chunked
from erc_graph.data.sample.raw import sample_raw_corpus
from erc_graph.data.sample.vectors import SampleConfig
from erc_graph.encoders import sequences as encoders
from erc_graph.errors import ConfigError
from erc_graph.methods import METHODS
from erc_graph.methods.base import Method
from erc_graph.methods.schema import Schema
from erc_graph.methods.stage import infer
from erc_graph.training.config import TrainingConfig
from erc_graph.training.loop import fit
from tests.laws.cases import small

READERS = [name for name, method in METHODS.items() if "sequences" in method.reads]
NEAR = {"rtol": 2e-3, "atol": 2e-4}  # single precision, sums in another order


def test_there_is_something_to_test() -> None:
    assert {"bigru", "hff"} <= set(READERS)


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    """Five dialogues of raw input; the last has an utterance far longer than all others, and every modality is missing somewhere."""
    made = sample_raw_corpus(dialogues=5, seed=1, config=SampleConfig(turns=(2, 3), missing=0.2))
    parts = {}
    for name, value in made.sequences.items():
        whole = [value[row] for row in range(made.utterances)]
        whole[-1] = whole[next(row for row in range(made.utterances) if len(whole[row]))].repeat(3, *[1] * len(value.item))
        parts[name] = Ragged.of(whole)
    return replace(made, sequences=parts)


def build(name: str, corpus: Corpus) -> Method:
    """A small method, its inputs fitted, with weights from a fixed seed."""
    torch.manual_seed(3)
    method = METHODS[name]
    schema = Schema.of(corpus, reads=method.reads)
    network = method(schema, small(method.Config()))
    network.fit_inputs(schema.batch(corpus))
    return network.eval()


@torch.no_grad()
def ask(network: Method, batch: Batch) -> Tensor:
    return network(batch).scores


@pytest.mark.parametrize("name", READERS)
def test_alone_in_any_batch_in_any_order_in_any_company(name: str, corpus: Corpus) -> None:
    """Neither longer dialogues nor longer sequences beside it change what is said of an utterance."""
    network = build(name, corpus)
    everything = network.schema.batch(corpus)
    count = len(everything) - 1
    whole = everything.select(torch.arange(count))
    alone = torch.cat([ask(network, whole.select(torch.tensor([i]))) for i in range(count)])
    assert alone.isfinite().all() and alone.std(0).min() > 0
    order = torch.tensor([3, 0, 2, 1])
    for batches in ([everything], [whole.select(order[:2]), whole.select(order[2:])]):
        rows = torch.cat([batch.row for batch in batches])
        found = alone.new_zeros(everything.utterances, alone.shape[1]).index_copy(0, rows, torch.cat([ask(network, b) for b in batches]))
        torch.testing.assert_close(found[: whole.utterances], alone, **NEAR)
    for size in (1, 99):
        torch.testing.assert_close(infer(network, whole, size).scores, alone, **NEAR)


@pytest.mark.parametrize("name", READERS)
def test_gradients_are_those_of_dialogues_one_by_one(name: str, corpus: Corpus) -> None:
    network = build(name, corpus)
    batch = network.schema.batch(corpus)
    weight = torch.randn(batch.utterances, network.schema.outputs)

    def gradients(batches: list[Batch]) -> list[Tensor]:
        network.zero_grad(set_to_none=True)
        for part in batches:
            (network(part).scores * weight[part.row]).sum().backward()
        return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in network.parameters()]

    together, one_by_one = gradients([batch]), gradients([batch.select(torch.tensor([i])) for i in range(len(batch))])
    size = torch.stack([g.norm() for g in one_by_one]).norm()
    assert size > 0 and torch.stack([(a - b).norm() for a, b in zip(together, one_by_one, strict=True)]).norm() < 1e-3 * size


@pytest.mark.parametrize("name", READERS)
def test_a_budget_changes_memory_and_time_alone(name: str, corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sequence at a time gives what many at a time give."""
    network = build(name, corpus)
    batch = network.schema.batch(corpus)
    expected, usual, calls = ask(network, batch), Ragged.chunks, []

    def one_by_one(lengths: Tensor, tokens: int) -> object:
        calls.append(tokens)
        return chunked(lengths, 1)

    monkeypatch.setattr(encoders, "chunked", one_by_one)
    monkeypatch.setattr(Ragged, "chunks", lambda self, tokens: usual(self, 1))
    torch.testing.assert_close(ask(network, batch), expected, **NEAR)
    assert calls or METHODS[name].reads[0] == "features"


@pytest.mark.parametrize("name", READERS)
def test_an_utterance_may_lack_everything(name: str, corpus: Corpus) -> None:
    """Whatever is missing, numbers come out, for it and for the others; and the others learn."""
    network = build(name, corpus)
    rows = list(range(corpus.utterances))
    silent = {0, 1, corpus.utterances - 1}  # the whole first dialogue, if it has two turns, and the last utterance
    sequences = {key: Ragged.of([value[row][: 0 if row in silent else None] for row in rows]) for key, value in corpus.sequences.items()}
    batch = network.schema.batch(replace(corpus, sequences=sequences))
    scores = network(batch).scores
    assert scores.isfinite().all()
    scores.square().sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())
    nothing = {key: Ragged(value.values[:0], torch.zeros_like(value.ptr)) for key, value in corpus.sequences.items()}
    assert ask(network, network.schema.batch(replace(corpus, sequences=nothing))).isfinite().all()


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("modality", ["text", "audio", "visual"])
def test_one_modality_is_enough_or_refused_in_words(name: str, modality: str, corpus: Corpus) -> None:
    part = replace(corpus, sequences={modality: corpus.sequences[modality]})
    try:
        network = build(name, part)
    except ConfigError as error:
        assert "modalities: " in str(error)
        return
    assert ask(network, network.schema.batch(part)).isfinite().all()


@pytest.mark.parametrize("name", READERS)
def test_same_seed_same_weights(name: str, corpus: Corpus) -> None:
    def trained() -> dict[str, Tensor]:
        network = build(name, corpus)
        step = TrainingConfig(epochs=1, batch_size=3, selection="last")
        fit(network, network.schema.batch(corpus), None, step, seed=5, device="cpu", quiet=True)
        return network.state_dict()

    one, other, first = trained(), trained(), build(name, corpus).state_dict()
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
    assert any(not torch.equal(one[key], first[key]) for key in one) and all(value.isfinite().all() for value in one.values())
