"""The baseline: what it reads, and a corpus of sequences, whose mean and deviation are its features."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from erc_graph.data.corpus import Corpus
from erc_graph.data.ragged import Ragged
from erc_graph.data.sample.vectors import sample_corpus
from erc_graph.data.tasks import Task
from erc_graph.encoders.pooled import statistics
from erc_graph.errors import ConfigError, CorpusError
from erc_graph.inference.pipeline import Pipeline
from erc_graph.methods.bigru import BiGRU, BiGRUConfig
from erc_graph.methods.schema import Schema


def sequences(corpus: Corpus) -> Corpus:
    """The corpus with words in the place of its text vectors, and nothing else."""
    lengths = torch.arange(corpus.utterances) % 4
    owner = torch.repeat_interleave(torch.arange(corpus.utterances), lengths)
    words = Ragged(corpus.features["text"][owner] + torch.randn(len(owner), 16), torch.cat([torch.zeros(1).long(), lengths.cumsum(0)]))
    return replace(corpus, features={}, present={}, sequences={"text": words})


def test_sequences_count_as_their_statistics(tmp_path: Path) -> None:
    corpus = sequences(sample_corpus(dialogues=4))
    schema = Schema.of(corpus, reads=BiGRU.reads)
    assert schema.sequences == {"text": (16,)} and schema.modalities == ("text",) and not schema.widths
    method = BiGRU(schema, BiGRUConfig(width=8)).eval()
    batch = schema.batch(corpus)
    method.fit_inputs(batch)
    words = corpus.sequences["text"]
    vectors = replace(corpus, features={"text": statistics(words)}, present={"text": words.present}, sequences={})
    twin = BiGRU(Schema.of(vectors), BiGRUConfig(width=8)).eval()
    twin.load_state_dict(method.state_dict())
    torch.testing.assert_close(method(batch).scores, twin(vectors.batch()).scores)
    torch.testing.assert_close(method(method.start_stage(0, batch)).scores, method(batch).scores)

    Pipeline(method).save_pretrained(tmp_path / "model")
    again = Pipeline.from_pretrained(tmp_path / "model")
    ids, every = [corpus.dialogue_ids[1]], Pipeline(method).predict(corpus)
    assert again.schema.sequences == {"text": (16,)} and again.predict(corpus[1]) == [row for row in every if row.dialogue in ids]
    with pytest.raises(CorpusError, match=r"this model uses sequences: text .16.; expected a corpus with these sequences"):
        again.predict(replace(corpus, sequences={}))
    with pytest.raises(CorpusError, match=r"sequences.text: the model was trained on time steps of the shape 16, found 3"):
        again.predict(replace(corpus, sequences={"text": Ragged(torch.zeros(corpus.utterances, 3), torch.arange(corpus.utterances + 1))}))


@pytest.mark.parametrize("layers", [1, 3])
def test_it_reads_all_modalities_both_ways_and_no_speakers(layers: int) -> None:
    corpus = sample_corpus(dialogues=6, seed=2)
    method = BiGRU(Schema.of(corpus), BiGRUConfig(width=32, layers=layers)).eval()
    batch = corpus.batch().select(torch.tensor([0, 1]))
    answer = method(batch)
    assert answer.scores.shape == (batch.utterances, 6) and answer.states is not None and answer.states.shape == (batch.utterances, 32)
    assert len(method.read.layers) == layers
    assert len(method.stages()) == 1 and method.stages()[0].module is method
    assert not method.causal and not method.utterance_level and Pipeline(method).graph(corpus[0]) is None
    features = {name: value.clone().requires_grad_() for name, value in batch.features.items()}
    method(replace(batch, features=features)).scores[2].square().sum().backward()
    own = batch.dialogue == 0
    for name, value in features.items():
        assert value.grad is not None
        assert torch.equal(value.grad.abs().sum(1) > 0, own & batch.present[name])
    assert torch.equal(method(replace(batch, speaker=batch.speaker + 1)).scores, answer.scores)


def test_causal_reads_forward_alone() -> None:
    corpus = sample_corpus(dialogues=4)
    method = BiGRU(Schema.of(corpus), BiGRUConfig(width=8, causal=True)).eval()
    assert method.causal
    batch = corpus[0].batch()
    features = {name: value.clone().requires_grad_() for name, value in batch.features.items()}
    method(replace(batch, features=features)).scores[2].sum().backward()
    for value in features.values():
        assert value.grad is not None and value.grad[:3].any() and not value.grad[3:].any()


def test_a_missing_modality_is_a_learned_vector() -> None:
    corpus = sample_corpus(dialogues=4)
    method = BiGRU(Schema.of(corpus), BiGRUConfig(width=8)).eval()
    batch = corpus.batch()
    assert all((~present).any() for present in batch.present.values())
    other = {name: value.masked_fill(~batch.present[name][:, None], float("nan")) for name, value in batch.features.items()}
    assert torch.equal(method(replace(batch, features=other)).scores, method(batch).scores)
    method(batch).scores.sum().backward()
    assert all(vector.grad is not None and vector.grad.any() for vector in method.missing.vectors.values())


def test_a_score_has_one_output() -> None:
    method = BiGRU(Schema(widths={"text": 4}, task=Task(name="score", kind="score", column="score")), BiGRUConfig(width=6))
    assert method.classify[1].out_features == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"width": 7}, r"pipeline\.width: expected an even number of 2 or more .*, found 7"),
        ({"layers": 0}, r"pipeline\.layers: expected 1 or more, found 0"),
        ({"dropout": 1.0}, r"pipeline\.dropout: expected a number in \[0, 1\), found 1\.0"),
        ({"width": 0, "layers": 0}, r"(?s)pipeline\.width.*pipeline\.layers"),
    ],
)
def test_impossible_values_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        BiGRUConfig(**values)
