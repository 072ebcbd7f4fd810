"""The graph stage behind utterance-level methods."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from erc_graph.data.batch import Batch
from erc_graph.data.ragged import Ragged
from erc_graph.data.sample.raw import sample_raw_corpus
from erc_graph.data.tasks import Task
from erc_graph.errors import ConfigError
from erc_graph.graphs.recipe import load_recipe
from erc_graph.inference.graphs import operators
from erc_graph.methods.base import Method
from erc_graph.methods.conversation import Conversation, ConversationConfig
from erc_graph.methods.hff import HFF
from erc_graph.methods.inputs import Given, InputsConfig
from erc_graph.methods.mfdr import MFDR
from erc_graph.methods.schema import Schema
from erc_graph.methods.wavfusion import WavFusion

INPUTS = 7


def given(batch: Batch) -> Given:
    """The dialogues alone."""
    return Given(batch=batch, values={}, sequences={}, present={})


def example(lengths: tuple[int, ...] = (4, 1, 6)) -> tuple[Batch, torch.Tensor, torch.Tensor]:
    rows = sum(lengths)
    ptr = torch.tensor([0, *lengths]).cumsum(0)
    batch = Batch(
        ptr=ptr, speaker=torch.arange(rows) % 2, target=torch.zeros(rows, dtype=torch.long), judged=torch.ones(rows, dtype=torch.bool),
        row=torch.arange(rows),
    )  # fmt: skip
    return batch, torch.randn(rows, INPUTS), torch.arange(rows) % 4 != 0


def test_without_a_graph_it_is_the_vectors_themselves() -> None:
    batch, vectors, present = example()
    context = Conversation(INPUTS, None, ConversationConfig())
    found = context(vectors, present, given(batch))
    assert found.shape == (batch.utterances, context.width) and not list(context.parameters())
    assert torch.equal(found, vectors * present[:, None])


@pytest.mark.parametrize("recurrent", [True, False])
@pytest.mark.parametrize("graph", ["speaker", "pairwise", "window"])
def test_a_dialogue_alone_as_in_company(graph: str, recurrent: bool) -> None:
    batch, vectors, present = example()
    context = Conversation(INPUTS, load_recipe(graph), ConversationConfig(width=8, recurrent=recurrent)).eval()
    whole = context(vectors, present, given(batch))
    assert whole.shape == (batch.utterances, context.width)
    for dialogue, (start, end) in enumerate(zip(batch.ptr[:-1].tolist(), batch.ptr[1:].tolist(), strict=True)):
        part = batch.select(torch.tensor([dialogue]))
        own = context(vectors[start:end], present[start:end], given(part))
        torch.testing.assert_close(own, whole[start:end], atol=1e-5, rtol=1e-5)


def test_neighbours_are_heard_and_absent_nodes_say_nothing() -> None:
    batch, vectors, present = example((5,))
    context = Conversation(INPUTS, load_recipe("pairwise"), ConversationConfig(width=8, recurrent=False)).eval()
    vectors.requires_grad_()
    context(vectors, present, given(batch))[1].sum().backward()
    heard = vectors.grad.abs().sum(1) > 0  # type: ignore[union-attr]
    assert heard.tolist() == present.tolist()


def test_given_speakers_take_the_place_of_the_embedding() -> None:
    batch, vectors, present = example()
    context = Conversation(INPUTS, load_recipe("speaker"), ConversationConfig(width=8), speaker=3).eval()
    rows, here = torch.randn(batch.utterances, 3), torch.arange(batch.utterances) % 5 > 0
    one = context(vectors, present, replace(given(batch), speaker=(rows, here)))
    other = context(vectors, present, replace(given(batch), speaker=(rows + 1, here)))
    assert not torch.allclose(one, other)
    assert torch.equal(other[..., :INPUTS], one[..., :INPUTS])  # the vectors themselves


def test_causal_reads_forward() -> None:
    batch, vectors, present = example((6,))
    for causal in (True, False):
        context = Conversation(INPUTS, load_recipe("causal"), ConversationConfig(width=8), causal=causal).eval()
        row = vectors.clone().requires_grad_()
        context(row, present, given(batch))[2].sum().backward()
        assert row.grad is not None and bool(row.grad[3:].any()) is not causal


def test_impossible_numbers() -> None:
    with pytest.raises(ConfigError, match=r"pipeline.conversation.width: expected an even number"):
        ConversationConfig(width=7)


@pytest.mark.parametrize(
    ("graph", "recurrent", "alone", "causal"),
    [
        ("none", True, True, True),
        ("causal_window", False, False, True),
        ("causal_window", True, False, False),
        ("window", False, False, False),
    ],
)
@pytest.mark.parametrize("kind", [HFF, MFDR, WavFusion])
def test_what_a_turn_depends_on_is_said_alike_by_all_methods_and_true(
    kind: type[Method], graph: str, recurrent: bool, alone: bool, causal: bool
) -> None:
    corpus = sample_raw_corpus(dialogues=3).subset(["sample-0"])
    torch.manual_seed(0)
    conversation = ConversationConfig(width=8, recurrent=recurrent)
    method = kind(Schema.of(corpus, reads=kind.reads), kind.Config(graph=graph, conversation=conversation)).eval()
    assert (method.utterance_level, method.causal) == (alone, causal)
    assert set(operators(method)) == (set() if alone else {"conversation"})
    batch = method.schema.batch(corpus)
    silent = {  # nothing is said in turn 3
        name: Ragged.of([value[row][: 0 if row == 3 else None] for row in range(len(value))]) for name, value in batch.sequences.items()
    }
    other = replace(batch, sequences=silent)
    moved = (method(batch).scores - method(other).scores).abs().amax(1) > 1e-6
    assert moved[3]
    assert not moved[:3].any() if causal else moved[:3].any()
    assert not moved[4:].any() if alone else moved[4:].any()


def test_wavfusion_hears_given_speakers() -> None:
    schema = Schema(widths={"speaker": 3}, sequences={"audio": (4,), "text": (5,)}, task=Task(name="two", labels=("a", "b")))
    method = WavFusion(schema, WavFusion.Config(width=8), inputs=InputsConfig(given_speakers=True))
    assert method.conversation.speaker.embedding is None and method.conversation.speaker.weight.in_features == 3
