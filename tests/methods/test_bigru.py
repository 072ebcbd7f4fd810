"""The baseline on a corpus of sequences: their mean and deviation are its features."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from erc_graph.data.corpus import Corpus
from erc_graph.data.ragged import Ragged
from erc_graph.data.sample.vectors import sample_corpus
from erc_graph.encoders.pooled import statistics
from erc_graph.errors import ConfigError, CorpusError
from erc_graph.methods.base import Pipeline, Schema
from erc_graph.methods.bigru import BiGRU, BiGRUConfig


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
    pipeline = BiGRU(schema, BiGRUConfig(width=8)).eval()
    batch = schema.batch(corpus)
    pipeline.fit_inputs(batch)
    words = corpus.sequences["text"]
    vectors = replace(corpus, features={"text": statistics(words)}, present={"text": words.present}, sequences={})
    twin = BiGRU(Schema.of(vectors), BiGRUConfig(width=8)).eval()
    twin.load_state_dict(pipeline.state_dict())
    torch.testing.assert_close(pipeline(batch).scores, twin(vectors.batch()).scores)
    torch.testing.assert_close(pipeline(pipeline.start_stage(0, batch)).scores, pipeline(batch).scores)

    pipeline.save_pretrained(tmp_path / "model")
    again = Pipeline.from_pretrained(tmp_path / "model")
    ids, every = [corpus.dialogue_ids[1]], pipeline.predict(corpus)
    assert again.schema.sequences == {"text": (16,)} and again.predict(corpus[1]) == [row for row in every if row.dialogue in ids]
    with pytest.raises(CorpusError, match=r"expected sequences text .16.; found none"):
        again.predict(replace(corpus, sequences={}))
    with pytest.raises(CorpusError, match=r"sequences.text: expected items of 16, found 3"):
        again.predict(replace(corpus, sequences={"text": Ragged(torch.zeros(corpus.utterances, 3), torch.arange(corpus.utterances + 1))}))


def test_of_two_forms_the_first_that_is_read() -> None:
    corpus = sample_corpus(dialogues=4)
    both = replace(corpus, sequences=sequences(corpus).sequences)
    assert Schema.of(both, reads=("features", "sequences")).sequences == {}
    mixed = Schema.of(both, reads=("sequences", "features"))
    assert mixed.sequences == {"text": (16,)} and mixed.widths == {"audio": 8, "visual": 8}
    with pytest.raises(ConfigError, match="no audio; it has text"):
        Schema.of(both, ("audio",), reads=("sequences",))
    with pytest.raises(ConfigError, match="has no sequences; it has none"):
        Schema.of(corpus, reads=("sequences",))


@pytest.mark.parametrize("doubt", [{"modality_dropout": 0.4}, {"swap_noise": {"text": 0.5}}])
def test_doubt_is_for_training_alone(doubt: dict[str, Any]) -> None:
    corpus = sample_corpus(dialogues=4)
    torch.manual_seed(0)
    plain = BiGRU(Schema.of(corpus), BiGRUConfig(width=8, dropout=0.0)).eval()
    doubtful = BiGRU(Schema.of(corpus), BiGRUConfig(width=8, dropout=0.0, **doubt)).eval()
    doubtful.load_state_dict(plain.state_dict())
    scores = plain(corpus.batch()).scores
    assert torch.equal(doubtful(corpus.batch()).scores, scores)
    assert not torch.allclose(doubtful.train()(corpus.batch()).scores, scores)
    with pytest.raises(ConfigError, match=r"pipeline\.(modality_dropout: expected a number in|swap_noise: expected numbers from)"):
        BiGRUConfig(**{name: {"text": 2.0} if name == "swap_noise" else 1.0 for name in doubt})
