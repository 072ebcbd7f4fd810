"""A language model over token ids: states as transformers gives them, chunks, settings, and methods that train one."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from erc_graph.data.corpus import Corpus
from erc_graph.data.files.storage import load_tensors, save_tensors
from erc_graph.data.ragged import Ragged
from erc_graph.encoders.language_model import LanguageModel, LanguageModelConfig, packed, token_nodes
from erc_graph.errors import CheckpointError, ConfigError
from erc_graph.features.text import TextEncoder
from erc_graph.inference.pipeline import Pipeline
from erc_graph.inference.prepare import prepare
from erc_graph.methods import METHODS
from erc_graph.methods.schema import Schema
from erc_graph.training.config import TrainingConfig
from erc_graph.training.loop import fit

TEXTS = ["we won !", "really ?", "you are joking ?", "hello"]


@pytest.fixture(scope="module")
def ids(tiny_encoder: Path) -> Ragged:
    return Ragged.of(TextEncoder(str(tiny_encoder), pooling="tokens").words(TEXTS))


def test_states_are_those_of_the_text_encoder(tiny_encoder: Path, ids: Ragged) -> None:
    model = LanguageModel(LanguageModelConfig(folder=str(tiny_encoder))).eval()
    expected = TextEncoder(str(tiny_encoder), pooling="words").words(TEXTS)
    found = model(ids)
    assert (model.width, model.longest, found.sizes) == (24, 32, ids.sizes)
    torch.testing.assert_close(found.values, torch.cat(expected), atol=1e-5, rtol=0)
    again = LanguageModel(model.config).eval()  # without the folder
    again.load_state_dict(model.state_dict())
    torch.testing.assert_close(again(ids).values, found.values)
    nodes = token_nodes(ids)
    assert torch.equal(packed(nodes).values, ids.values) and packed(nodes).sizes == ids.sizes


def test_adapters_stand_behind_the_last_layers_for_as_long_as_they_are_asked_to(tiny_encoder: Path, ids: Ragged) -> None:
    model = LanguageModel(LanguageModelConfig(folder=str(tiny_encoder))).eval()
    padded, mask = ids.pad()

    class Add(torch.nn.Module):
        def forward(self, h: torch.Tensor, beside: torch.Tensor) -> torch.Tensor:
            return h + beside

    plain = model.states(padded, mask)[0]
    with model.adapted([Add()], torch.full((*mask.shape, 1), 2.0)):
        torch.testing.assert_close(model.states(padded, mask)[0], plain + 2)
    assert torch.equal(model.states(padded, mask)[0], plain)
    model.freeze(1)
    assert {name.split(".")[2] for name, p in model.named_parameters() if p.requires_grad} == {"layer"} and len(model.layers) == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"model_type": "nothing"}, "settings: expected settings of a transformers model"), ({"vocab_size": 5}, "settings: expected")],
)
def test_settings_of_no_model_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LanguageModel(LanguageModelConfig(settings=settings))


def test_what_is_no_token_id_is_refused(tiny_encoder: Path) -> None:
    model = LanguageModel(LanguageModelConfig(folder=str(tiny_encoder)))
    wrong = {"token ids from 0 to": torch.full((1, 3, 1), 9999.0), "at most 32 tokens": torch.ones(1, 40, 1)}
    for message, values in wrong.items():
        with pytest.raises(ConfigError, match=f"sequences.text: expected {message}"):
            model.states(values, torch.ones(values.shape[:2], dtype=torch.bool))


def test_low_rank_matrices_alone_are_trained_and_saved(tiny_encoder: Path, ids: Ragged, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    with pytest.raises(ConfigError, match=r"language_model.lora: expected a rank of 1 or more, or 0, found -1"):
        LanguageModelConfig(lora=-1)
    with pytest.raises(ConfigError, match=r"language_model.lora: expected a pretrained model in .*folder, found none"):
        LanguageModel(LanguageModelConfig(lora=2))
    base = Path(shutil.copytree(tiny_encoder, tmp_path / "base"))
    model, plain = (LanguageModel(LanguageModelConfig(folder=str(base), lora=lora)).eval() for lora in (2, 0))
    torch.testing.assert_close(model(ids).values, plain(ids).values)  # at first they change nothing
    assert len(model.layers) == 2 and (model.width, model.longest) == (24, 32)
    trained = {name for name, value in model.named_parameters() if value.requires_grad}
    assert len(trained) == 2 * 6 * 2 == len(model.state_dict()) and trained == set(model.state_dict())
    model.freeze(1)
    last = {name for name, value in model.named_parameters() if value.requires_grad}
    assert last == {name for name in trained if ".layer.1." in name}
    for value in model.parameters():
        if value.requires_grad:
            torch.nn.init.normal_(value)
    again = LanguageModel(model.config).eval()
    again.load_state_dict(model.state_dict())
    torch.testing.assert_close(again(ids).values, model(ids).values)
    with pytest.raises(RuntimeError, match="Missing key"):
        again.load_state_dict({name: value for name, value in model.state_dict().items() if ".0." not in name})
    weights, metadata = load_tensors(base / "model.safetensors")
    save_tensors(base / "model.safetensors", {name: value + 1 for name, value in weights.items()}, metadata)
    with pytest.raises(CheckpointError, match=r"language_model: expected .*base of version sha256:\w+, found sha256:\w+ in .*base; put"):
        LanguageModel(model.config)


@pytest.mark.parametrize("lora", [0, 4])
@pytest.mark.parametrize("name", ["dialogxl", "hitrans", "unimse"])
def test_a_method_trains_one_and_is_saved_with_it(name: str, lora: int, tiny_encoder: Path, talks: Corpus, tmp_path: Path) -> None:
    if lora:
        pytest.importorskip("peft")
    encoder = f"{tiny_encoder}:pooling=tokens"
    rows = TextEncoder(str(tiny_encoder), pooling="tokens").words(talks.texts)
    words = Ragged.of([row if text.strip() else row[:0] for row, text in zip(rows, talks.texts, strict=True)])
    corpus = replace(talks, sequences={"text": words}, provenance={**talks.provenance, "extractors": {"text": encoder}})
    schema, kind = Schema.of(corpus, ("text",), METHODS[name].reads), METHODS[name]
    torch.manual_seed(1)
    config = kind.Config(language_model=LanguageModelConfig(folder=str(tiny_encoder), rate=0.5, lora=lora))
    method = kind(schema, config)
    first = {key: value.clone() for key, value in method.state_dict().items()}
    train, dev = (schema.batch(corpus.split(part)) for part in ("train", "dev"))
    fit(method, train, dev, TrainingConfig(epochs=2, learning_rate=1e-3), seed=1, device="cpu", quiet=True)
    moved = {key for key, value in method.state_dict().items() if not torch.equal(value, first[key])}
    assert any("attention.self.query" in key for key in moved) and any(key.startswith("classify") for key in moved)
    Pipeline(method.eval()).save_pretrained(tmp_path / "model")
    saved = load_tensors(tmp_path / "model" / "model.safetensors")[0]
    assert any("embeddings" in key for key in saved) == (not lora)  # beside low-rank matrices the pretrained model is named
    again = Pipeline.from_pretrained(tmp_path / "model")
    torch.testing.assert_close(again(dev).scores, Pipeline(method)(dev).scores)
    raw = replace(talks.split("dev"), features={}, present={}, sequences={})
    torch.testing.assert_close(again(schema.batch(prepare(raw, again))).scores, again(dev).scores)  # the model names its tokenizer
