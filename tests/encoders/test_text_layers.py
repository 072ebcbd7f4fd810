from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from erc_graph.data.corpus import Corpus
from erc_graph.data.files.transcripts import load_transcript
from erc_graph.data.ragged import Ragged
from erc_graph.encoders.text_layers import TextLayers, TextLayersConfig
from erc_graph.errors import CheckpointError, ConfigError
from erc_graph.features.text import TextEncoder
from erc_graph.inference.pipeline import Pipeline
from erc_graph.inference.prepare import prepare
from erc_graph.methods.inputs import InputsConfig
from erc_graph.methods.pairwise import MffConfig, Pairwise, PairwiseConfig, PmfConfig
from erc_graph.methods.schema import Schema
from erc_graph.training.config import TrainingConfig
from erc_graph.training.loop import fit
from erc_graph.training.metrics import evaluate

TEXTS = ["we won !", "you are joking , you are", "", "really ?"]


def words_of(folder: Path, texts: list[str] | tuple[str, ...], layer: int = 1) -> Ragged:
    """Token states below the layers that are trained; none for an utterance without words."""
    states = TextEncoder(str(folder), pooling="words", layer=layer).words(texts)
    return Ragged.of([one if text.strip() else one[:0] for one, text in zip(states, texts, strict=True)])


@pytest.fixture(scope="module")
def spoken(talks: Corpus, tiny_encoder: Path) -> Corpus:
    made = {"extractors": {"text": f"{tiny_encoder}:pooling=words,layer=1"}}
    return replace(talks, sequences={"text": words_of(tiny_encoder, talks.texts)}, provenance=made)


def method_of(corpus: Corpus, **changes: object) -> Pairwise:
    layers = TextLayersConfig(layers=1, heads=3, hidden=40, **changes)  # type: ignore[arg-type]
    config = PairwiseConfig(stages="joint", pmf=PmfConfig(width=8), mff=MffConfig(width=8))
    return Pairwise(Schema.of(corpus, reads=Pairwise.reads), config, inputs=InputsConfig(text_layers=layers))


def test_the_layers_left_give_what_the_whole_encoder_gives(tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("erc_graph.encoders.text_layers.TOKENS", 7)
    layers = TextLayers(24, TextLayersConfig(layers=1, heads=3, hidden=40)).eval()
    layers.start_from(f"{tiny_encoder}:pooling=words,layer=1")
    vectors = layers(words_of(tiny_encoder, TEXTS))
    expected = TextEncoder(str(tiny_encoder), pooling="mean")(TEXTS)
    torch.testing.assert_close(vectors[[0, 1, 3]], expected[[0, 1, 3]], atol=1e-5, rtol=0)
    assert not vectors[2].any()


def test_they_are_trained_through_the_graph_at_a_rate_of_their_own(spoken: Corpus) -> None:
    """Adam's first steps are as large as the learning rate: those of the layers are a hundredth of the others'."""
    method = method_of(spoken, rate=0.01)
    train, dev = (method.schema.batch(spoken.split(name)) for name in ("train", "dev"))
    method.fit_inputs(train)
    before = {name: value.detach().clone() for name, value in method.named_parameters()}
    fit(method, train, dev, TrainingConfig(epochs=1, batch_size=100, learning_rate=1e-3, weight_decay=0), seed=0, quiet=True)
    moved = {name: float((value.detach() - before[name]).abs().max()) for name, value in method.named_parameters()}
    inner = [size for name, size in moved.items() if name.startswith("inputs.text_layers.")]
    assert len(inner) == 12 and max(inner) == pytest.approx(1e-5, rel=0.1)
    assert max(size for name, size in moved.items() if not name.startswith("inputs.text_layers.")) == pytest.approx(1e-3, rel=0.1)


def test_it_learns_what_the_words_say_and_labels_raw_text(spoken: Corpus, tiny_encoder: Path, tmp_path: Path) -> None:
    method = method_of(spoken, rate=0.5)
    train, dev = (method.schema.batch(spoken.split(name)) for name in ("train", "dev"))
    method.fit_inputs(train)
    fit(method, train, dev, TrainingConfig(epochs=12, learning_rate=5e-3), seed=0, quiet=True)
    test = method.schema.batch(spoken.split("test"))
    scores = method.eval()(test).scores
    spoken_rows = test.sequences["text"].present & test.judged
    assert evaluate(scores[spoken_rows], test.target[spoken_rows], spoken.task)["accuracy"] > 0.9
    Pipeline(method).save_pretrained(tmp_path / "model")
    again = Pipeline.from_pretrained(tmp_path / "model")
    torch.testing.assert_close(again(test).scores, scores)
    assert again.predict(spoken.split("test"))[0].emotion in spoken.task.labels
    assert Pipeline(method).graph(spoken[0]) is not None
    talk = load_transcript(b"a: we won !\nb: really ?\na:")
    assert [answer.emotion for answer in again.predict(prepare(talk, again))][:2] == ["joy", "surprise"]
    with pytest.raises(CheckpointError, match="expected an encoder with pooling=words"):
        prepare(talk, again, extractors={"text": str(tiny_encoder)})


def test_without_layers_words_are_pooled(spoken: Corpus) -> None:
    method = Pairwise(Schema.of(spoken, reads=Pairwise.reads), PairwiseConfig(pmf=PmfConfig(width=8), mff=MffConfig(width=8)))
    batch = method.schema.batch(spoken)
    method.fit_inputs(batch)
    assert method.given(batch).values["text"].shape == (spoken.utterances, 48)  # mean and deviation
    assert method.eval()(batch).scores.isfinite().all()
    assert not method.start_stage(0, batch).sequences  # once, not in every epoch


def test_what_cannot_be_trained(spoken: Corpus, talks: Corpus, tiny_encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"expected text as sequences of hidden states, one per token, .*found text that is no sequence"):
        method_of(replace(talks, features={"text": torch.zeros(96, 4)}, present={"text": torch.ones(96, dtype=torch.bool)}))
    with pytest.raises(ConfigError, match=r"text_layers.heads: expected a divisor of 24, the width of a token state, found 5"):
        TextLayers(24, TextLayersConfig(layers=1, heads=5))
    with pytest.raises(ConfigError, match=r"inputs.text_layers: expected none with pipeline.stages 'two', because the second"):
        Pairwise(Schema.of(spoken), inputs=InputsConfig(text_layers=TextLayersConfig(layers=1, heads=3)))
    with pytest.raises(ConfigError, match=r"inputs.text_layers.layers: expected 0 or more, found -1"):
        TextLayersConfig(layers=-1)
    silent = method_of(replace(spoken, provenance={}))
    with pytest.raises(ConfigError, match=r"expected the extractor of sequences.text in the corpus, found none"):
        silent.fit_inputs(silent.schema.batch(spoken))
    layers = TextLayers(24, TextLayersConfig(layers=2, heads=3, hidden=40))
    for made_by in (f"{tiny_encoder}:pooling=words,layer=1", f"{tiny_encoder}:pooling=words,layer=2", f"{tiny_encoder}:layer=0"):
        made = (
            r"made by `erc-graph features --pooling words --layer 0`, the hidden states of every token at this layer, found features made"
        )
        with pytest.raises(ConfigError, match=made):
            layers.start_from(made_by)
    layers.start_from(f"{tiny_encoder}:pooling=words,layer=0")
    with pytest.raises(ConfigError, match=r"expected heads = 3 and hidden = 40, the values of .*, found other values; give these"):
        TextLayers(24, TextLayersConfig(layers=1, heads=4, hidden=40)).start_from(f"{tiny_encoder}:pooling=words,layer=1")
    with pytest.raises(CheckpointError, match="no such folder"):
        layers.start_from("./nowhere:pooling=words,layer=0")
    (tmp_path / "config.json").write_text('{"model_type": "roberta"}')
    with pytest.raises(ConfigError, match=r"expected an encoder with the architecture of BERT, found 'roberta'"):
        layers.start_from(f"{tmp_path}:pooling=words")
