"""The graph stage behind utterance-level methods."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from erc_graph.data.batch import Batch
from erc_graph.data.ragged import Ragged
from erc_graph.data.sample.raw import sample_raw_corpus
from erc_graph.data.sample.vectors import sample_corpus
from erc_graph.errors import ConfigError
from erc_graph.methods.base import Pipeline, Schema
from erc_graph.methods.conversation import ContextConfig, ConversationContext
from erc_graph.methods.hff import HFF
from erc_graph.methods.mfdr import MFDR
from erc_graph.methods.wavfusion import WavFusion

STREAMS = {"audio": 5, "text": 7}


def example(lengths: tuple[int, ...] = (4, 1, 6)) -> tuple[Batch, dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    rows = sum(lengths)
    ptr = torch.tensor([0, *lengths]).cumsum(0)
    batch = Batch(
        ptr=ptr, speaker=torch.arange(rows) % 2, target=torch.zeros(rows, dtype=torch.long), judged=torch.ones(rows, dtype=torch.bool),
        row=torch.arange(rows),
    )  # fmt: skip
    present = {name: torch.arange(rows) % step != 0 for name, step in (("audio", 3), ("text", 4))}
    return batch, {name: torch.randn(rows, width) for name, width in STREAMS.items()}, present


def test_without_a_graph_it_is_the_vectors_themselves() -> None:
    batch, vectors, present = example()
    context = ConversationContext(STREAMS, "none", ContextConfig())
    found = context(vectors, present, batch)
    assert found.shape == (batch.utterances, context.output_width) and not list(context.parameters())
    assert torch.equal(found, torch.cat([vectors[name] * present[name][:, None] for name in STREAMS], -1))


@pytest.mark.parametrize("recurrent", [True, False])
@pytest.mark.parametrize("graph", ["speaker", "pairwise", "window"])
def test_a_dialogue_alone_as_in_company(graph: str, recurrent: bool) -> None:
    batch, vectors, present = example()
    context = ConversationContext(STREAMS, graph, ContextConfig(width=8, recurrent=recurrent)).eval()
    whole = context(vectors, present, batch)
    assert whole.shape == (batch.utterances, context.output_width)
    for dialogue, (start, end) in enumerate(zip(batch.ptr[:-1].tolist(), batch.ptr[1:].tolist(), strict=True)):
        part = batch.select(torch.tensor([dialogue]))
        own = [{name: value[start:end] for name, value in values.items()} for values in (vectors, present)]
        torch.testing.assert_close(context(*own, part), whole[start:end], atol=1e-5, rtol=1e-5)


def test_neighbours_are_heard_and_absent_nodes_say_nothing() -> None:
    batch, vectors, present = example((5,))
    context = ConversationContext(STREAMS, "pairwise", ContextConfig(width=8, recurrent=False)).eval()
    vectors["text"].requires_grad_()
    context(vectors, present, batch)[1].sum().backward()
    heard = vectors["text"].grad.abs().sum(1) > 0  # type: ignore[union-attr]
    assert heard.tolist() == present["text"].tolist()


def test_the_graph_has_the_weights_of_its_nodes() -> None:
    corpus = sample_corpus(dialogues=3)[0].corpus
    batch = corpus.batch()
    vectors, present = {"fused": torch.randn(batch.utterances, 5)}, {"fused": torch.arange(batch.utterances) != 1}
    context = ConversationContext({"fused": 5}, "speaker", ContextConfig(width=8)).eval()
    graph = context.graph(vectors, present, batch, corpus)
    assert graph is not None and graph.node_types == ["fused"] and graph["fused"].present.tolist() == present["fused"].tolist()
    nodes = context.nodes(vectors, batch)[:, 0]
    for kind in graph.edge_types:
        one, other = (nodes[index] for index in graph[kind].edge_index)
        angle = torch.nn.functional.cosine_similarity(one, other).clamp(-1, 1).acos()
        torch.testing.assert_close(graph[kind].edge_weight, 1 - angle / torch.pi, atol=2e-3, rtol=0)
        assert not (graph[kind].edge_index == 1).any()
    assert ConversationContext({"fused": 5}, "none", ContextConfig()).graph(vectors, present, batch, corpus) is None


def test_impossible_numbers() -> None:
    with pytest.raises(ConfigError, match=r"pipeline.context.width: expected an even number"):
        ContextConfig(width=7)
    with pytest.raises(ConfigError, match="unknown 'nonsense'"):
        ConversationContext(STREAMS, "nonsense", ContextConfig())


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
    kind: type[Pipeline], graph: str, recurrent: bool, alone: bool, causal: bool
) -> None:
    corpus = sample_raw_corpus(dialogues=3).subset(["sample-0"])
    torch.manual_seed(0)
    context = ContextConfig(width=8, recurrent=recurrent)
    pipeline = kind(Schema.of(corpus, reads=kind.reads), kind.Config(graph=graph, context=context)).eval()  # type: ignore[call-arg]
    assert (pipeline.alone, pipeline.causal) == (alone, causal)
    assert set(pipeline.convolutions()) == (set() if alone else {"conversation"})
    batch = pipeline.schema.batch(corpus)
    silent = {  # nothing is said in turn 3
        name: Ragged.of([value[row][: 0 if row == 3 else None] for row in range(len(value))]) for name, value in batch.sequences.items()
    }
    other = replace(batch, sequences=silent)
    moved = (pipeline(batch).scores - pipeline(other).scores).abs().amax(1) > 1e-6
    assert moved[3]
    assert not moved[:3].any() if causal else moved[:3].any()
    assert not moved[4:].any() if alone else moved[4:].any()
