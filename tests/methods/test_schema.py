"""What a method reads of a corpus."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch

from erc_graph.data.corpus import Corpus
from erc_graph.data.ragged import Ragged
from erc_graph.data.sample.vectors import sample_corpus
from erc_graph.data.tasks import get_task
from erc_graph.errors import ConfigError
from erc_graph.methods.schema import Schema


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return sample_corpus(dialogues=6, seed=2)


def words(corpus: Corpus) -> Ragged:
    """One to three words in every utterance."""
    lengths = 1 + torch.arange(corpus.utterances) % 3
    return Ragged(torch.randn(int(lengths.sum()), 16), torch.cat([torch.zeros(1).long(), lengths.cumsum(0)]))


def test_schema(corpus: Corpus) -> None:
    schema = Schema.of(corpus, ("audio", "text"))
    assert dict(schema.widths) == {"audio": 8, "text": 16}
    assert schema.outputs == 6
    assert Schema.of(corpus).widths.keys() == set(corpus.modalities)
    assert Schema(widths={"text": 1}, task=get_task("sentiment")).outputs == 1
    with pytest.raises(ConfigError, match="modalities: sample has no features or sequences of sound; it has text, audio, visual"):
        Schema.of(corpus, ("text", "sound"))
    bare = Corpus(
        name="bare", task=corpus.task, dialogue_ids=("d",), ptr=torch.tensor([0, 1]), utterance_ids=("u",), speakers=("A",),
        target=torch.tensor([0]),
    )  # fmt: skip
    with pytest.raises(
        ConfigError,
        match=r"modalities: bare has no features or sequences; it has none; make a file with `erc-graph features`, and "
        r"name it under \[features\] of corpus.toml",
    ):
        Schema.of(bare)


@pytest.mark.parametrize("name", ["type", "keys", "training", "parameters", "audio+text", "roberta.large"])
def test_a_modality_that_no_submodule_can_be_called_after_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"modalities: a feature set cannot be called '{re.escape(name)}'; give it another name"):
        Schema(widths={"text": 3, name: 4}, task=get_task("meld7"))


def test_of_two_forms_the_first_that_is_read(corpus: Corpus) -> None:
    both = replace(corpus, sequences={"text": words(corpus)})
    assert Schema.of(both, reads=("features", "sequences")).sequences == {}
    mixed = Schema.of(both, reads=("sequences", "features"))
    assert mixed.sequences == {"text": (16,)} and mixed.widths == {"audio": 8, "visual": 8}
    with pytest.raises(ConfigError, match="no sequences of audio; it has text"):
        Schema.of(both, ("audio",), reads=("sequences",))
    with pytest.raises(
        ConfigError, match=r"has no sequences; it has features \(.*make a file with `erc-graph features --pooling words`, and name"
    ):
        Schema.of(corpus, reads=("sequences",))
    bare = replace(both, features={}, present={})
    with pytest.raises(
        ConfigError, match=r"has no features; it has sequences \(text\), which a method reads with Schema.of\(corpus, reads"
    ):
        Schema.of(bare, reads=("features",))


def test_it_takes_what_it_reads_and_says_where_that_came_from(corpus: Corpus) -> None:
    made = {"text": "some encoder", "visual": "another"}
    told = replace(corpus, provenance={"extractors": made, "files": {"a.npz": "123"}})
    schema = Schema.of(told, ("audio", "text"))
    assert schema.provenance == {"corpus": corpus.name, "files": {"a.npz": "123"}, "extractors": {"text": "some encoder"}}
    assert set(schema.batch(told).features) == {"audio", "text"} and schema.modalities == ("audio", "text")


def test_modalities_that_the_corpus_has(corpus: Corpus) -> None:
    schema = Schema.of(corpus)
    assert schema.known(["text"], "inputs.some") == ["text"]
    with pytest.raises(ConfigError, match=r"inputs.some: expected modalities of the corpus \(audio, text, visual\), found 'smell'"):
        schema.known(["text", "smell"], "inputs.some")
