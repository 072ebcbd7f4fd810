"""What a user holds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from erc_graph.data.corpus import Corpus
from erc_graph.data.files.transcripts import load_transcript
from erc_graph.data.sample.vectors import SampleConfig, sample_corpus
from erc_graph.errors import ConfigError, CorpusError
from erc_graph.inference.pipeline import Pipeline
from erc_graph.methods.bigru import BiGRU, BiGRUConfig
from erc_graph.methods.pairwise import MalConfig, MffConfig, Pairwise, PairwiseConfig, PmfConfig
from erc_graph.methods.schema import Schema


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return sample_corpus(dialogues=6, seed=2, config=SampleConfig(turns=(3, 5)))


@pytest.fixture
def pipeline(corpus: Corpus) -> Pipeline:
    small = PairwiseConfig(pmf=PmfConfig(width=6), mff=MffConfig(width=4), mal=MalConfig(width=5, heads=1, hidden=6))
    return Pipeline(Pairwise(Schema.of(corpus), small))


def test_it_says_what_its_method_says(pipeline: Pipeline, corpus: Corpus) -> None:
    pipeline.method.eval()
    batch = pipeline.schema.batch(corpus)
    assert torch.equal(pipeline(batch).scores, pipeline.method(batch).scores)
    assert pipeline.task is corpus.task and pipeline.schema is pipeline.method.schema
    assert not pipeline.causal and Pipeline(BiGRU(Schema.of(corpus), BiGRUConfig(causal=True))).causal
    assert pipeline.to("meta") is pipeline and pipeline.device.type == "meta"


@pytest.mark.parametrize("training", [True, False])
def test_what_is_done_with_it_changes_neither_weights_nor_mode(training: bool, pipeline: Pipeline, corpus: Corpus, tmp_path: Path) -> None:
    method = pipeline.method.train(training)
    before = {name: value.clone() for name, value in method.state_dict().items()}
    first = pipeline.predict(corpus[0])
    pipeline.graph(corpus[0])
    pipeline.graphs(corpus[0])
    pipeline.explain(corpus[0], 0)
    pipeline.save_pretrained(tmp_path / "model")
    assert all(module.training is training for module in method.modules())
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())
    assert pipeline.predict(corpus[0]) == first == Pipeline.from_pretrained(tmp_path / "model").predict(corpus[0])


def test_a_graph_is_one_of_the_graphs_and_the_last_unless_it_is_named(pipeline: Pipeline, corpus: Corpus) -> None:
    dialogue = corpus[0]
    graphs = pipeline.graphs(dialogue)
    last, first = pipeline.graph(dialogue), pipeline.graph(dialogue, "audio+text")
    assert list(graphs) == ["audio+text", "audio+visual", "text+visual", "fused"] and last is not None and first is not None
    assert last.node_types == graphs["fused"].node_types and first.node_types == ["audio", "text"]
    assert first.texts == list(dialogue.texts) and first.speakers == list(dialogue.speakers)
    with pytest.raises(
        ConfigError,
        match=r"part: expected the name of a graph operator of the method \(audio\+text, audio\+visual, text\+visual, fused\), found 'all'",
    ):
        pipeline.graph(dialogue, "all")


def test_a_method_without_a_graph(corpus: Corpus) -> None:
    pipeline = Pipeline(BiGRU(Schema.of(corpus), BiGRUConfig(width=6)))
    assert pipeline.graphs(corpus[0]) == {} and pipeline.graph(corpus[0]) is None
    with pytest.raises(ConfigError, match="part: expected no name, because the method builds no graph, found 'fused'"):
        pipeline.graph(corpus[0], "fused")


@pytest.mark.parametrize("ask", ["explain", "graph"])
def test_a_transcript_that_was_not_prepared_is_refused_with_the_way_out(ask: str, pipeline: Pipeline) -> None:
    talk = load_transcript(b"Ann: We won!\nBob: really?", name="t3")
    expected = r"t3: expected all features that the model uses, found no .*text.*; first call erc_graph\.prepare\(corpus, model\)"
    with pytest.raises(CorpusError, match=expected):
        pipeline.explain(talk[0], turn=1) if ask == "explain" else pipeline.graph(talk[0])
