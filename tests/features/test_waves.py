from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from erc_graph.errors import CheckpointError, ConfigError, CorpusError
from erc_graph.features.waves import WaveEncoder

transformers = pytest.importorskip("transformers")
SMALL = {
    "hidden_size": 12, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 16,
    "conv_dim": (8, 8), "conv_kernel": (10, 3), "conv_stride": (5, 2), "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2,
}  # fmt: skip
WAVES = [torch.randn(n, generator=torch.Generator().manual_seed(n)) for n in (400, 1000, 20, 700)]


@pytest.fixture(params=["wav2vec2-group", "wav2vec2-layer", "wavlm-group", "hubert-layer"])
def speech(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    kind, norm = request.param.split("-")
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(kind, **SMALL, feat_extract_norm=norm, do_stable_layer_norm=norm == "layer")
    transformers.AutoModel.from_config(config).save_pretrained(tmp_path)
    return tmp_path


def alone(folder: Path, wave: Tensor, layer: int, *, normalise: bool = True) -> Tensor:
    """transformers' own model, one recording, nothing padded."""
    model = transformers.AutoModel.from_pretrained(folder).eval()
    wave = (wave - wave.mean()) / (wave.var(correction=0) + 1e-7).sqrt() if normalise else wave
    with torch.no_grad():
        return model(wave[None], output_hidden_states=True).hidden_states[layer][0]


@pytest.mark.parametrize("layer", [0, 2, -1])
def test_frames_are_those_of_transformers_in_any_company(speech: Path, layer: int) -> None:
    encoder = WaveEncoder(str(speech), layer=layer)
    for found, wave in zip(encoder(WAVES), WAVES, strict=True):
        torch.testing.assert_close(found, alone(speech, wave, layer), atol=2e-5, rtol=0)
    assert encoder.width == 12 and encoder.shortest == 20


def test_the_shortest_recording(speech: Path) -> None:
    encoder = WaveEncoder(str(speech), layer="last4")
    assert encoder(WAVES[2:3])[0].shape == (1, 48) and encoder.width == 48
    with pytest.raises(CorpusError, match="fewer than 20 samples"):
        encoder([torch.zeros(19)])


@pytest.mark.parametrize("normalise", [False, True])
def test_scaling_is_what_the_files_say(speech: Path, normalise: bool) -> None:
    """A whisper of which the normalisations inside the model leave less than of a voice."""
    wave = 1e-4 * WAVES[0]
    expected = {True: alone(speech, wave, -1), False: alone(speech, wave, -1, normalise=False)}
    assert (expected[True] - expected[False]).abs().max() > 1e-2
    (speech / "preprocessor_config.json").write_text(json.dumps({"do_normalize": normalise}))
    torch.testing.assert_close(WaveEncoder(str(speech))([wave])[0], expected[normalise], atol=2e-5, rtol=0)


def test_what_is_no_speech_model(tiny_encoder: Path, speech: Path) -> None:
    with pytest.raises(CheckpointError, match=r"expected a speech model such as wav2vec 2.0, HuBERT or WavLM, found bert"):
        WaveEncoder(str(tiny_encoder))
    with pytest.raises(CheckpointError, match=r"speech model './nothing': .*a folder with config.json, preprocessor_config.json and model"):
        WaveEncoder("./nothing")
    with pytest.raises(ConfigError, match="layer: expected -5 to 4"):
        WaveEncoder(str(speech), layer=5)
