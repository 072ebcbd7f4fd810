"""wav2vec 2.0 against transformers' own, and alone as in company, which transformers' is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from erc_graph.encoders.wav2vec import MaskedGroupNorm, Wav2vec, Wav2vecConfig, read_wav2vec
from erc_graph.errors import CheckpointError, ConfigError

SIZES = {
    "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 40, "conv_dim": (12,) * 7,
    "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4,
}  # fmt: skip


def pretrained(folder: Path, *, large: bool) -> Any:
    """A small model of transformers with no weight at a special value, saved in `folder`."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(1)
    config = transformers.Wav2Vec2Config(
        **SIZES, do_stable_layer_norm=large, feat_extract_norm="layer" if large else "group", conv_bias=large
    )
    model = transformers.Wav2Vec2Model(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize("large", [False, True])
def test_layer_by_layer_it_is_the_model_of_transformers(large: bool, tmp_path: Path) -> None:
    model = pretrained(tmp_path, large=large)
    config, weights = read_wav2vec(tmp_path)
    assert (config.width, config.layers, config.sizes.shortest, config.sizes.norm_first) == (24, 3, 400, large)
    waves = torch.randn(2, 5000)
    scaled = (waves - waves.mean(1, keepdim=True)) / (waves.var(1, correction=0, keepdim=True) + 1e-7).sqrt()
    with torch.no_grad():
        expected = model(scaled, output_hidden_states=True)
        for layers in (0, 1, 3):
            net = Wav2vec(config, layers)
            net.take(weights)
            frames, mask = net(waves, torch.ones(2, 5000, dtype=torch.bool))
            assert mask.all()
            if layers < 3 or not large:
                torch.testing.assert_close(frames, expected.hidden_states[layers], rtol=1e-4, atol=1e-4)
        if large:
            frames = F.layer_norm(frames, (24,), weights["final.weight"], weights["final.bias"])
        torch.testing.assert_close(frames, expected.last_hidden_state, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("norm", ["group", "layer"])
def test_alone_as_in_company(norm: str) -> None:
    net = Wav2vec(Wav2vecConfig(width=16, extractor={"norm": norm, "norm_first": norm == "layer", "channels": 8}), 2).double()
    lengths = (6000, 150, 2500, 400)  # one is shorter than a frame reads
    waves = 3 + torch.randn(4, 6000).double()
    mask = torch.arange(6000) < torch.tensor(lengths)[:, None]
    whole, here = net(waves * mask, mask)
    assert here.sum(1).tolist() == [18, 1, 7, 1] and not whole[~here].any()
    for row, length in enumerate(lengths):
        frames, _ = net(waves[row : row + 1, :length], mask[row : row + 1, :length])
        torch.testing.assert_close(whole[row, here[row]], frames[0])


def test_masked_group_norm_is_that_of_the_real_frames() -> None:
    net, states = MaskedGroupNorm(3, 3), torch.randn(2, 3, 6)
    mask = torch.arange(6) < torch.tensor([6, 4])[:, None]
    found = net(states, mask)
    torch.testing.assert_close(found[0], F.group_norm(states[:1], 3)[0])
    torch.testing.assert_close(found[1, :, :4], F.group_norm(states[1:, :, :4], 3)[0])


@pytest.mark.parametrize("wave", ["silence", "constant", "loud", "one sample"])
def test_odd_recordings_give_numbers(wave: str) -> None:
    net = Wav2vec(Wav2vecConfig(width=16, extractor={"channels": 8}), 1)
    constant = torch.ones(1, 800)
    waves = {"silence": 0 * constant, "constant": constant, "loud": 1e6 * torch.randn(1, 800), "one sample": constant[:, :1].clone()}
    sound = waves[wave].requires_grad_()
    frames, _ = net(sound, torch.ones(sound.shape, dtype=torch.bool))
    frames.sum().backward()
    assert frames.isfinite().all() and sound.grad is not None and sound.grad.isfinite().all()


def test_a_layer_takes_what_fits(tmp_path: Path) -> None:
    pretrained(tmp_path, large=False)
    config, weights = read_wav2vec(tmp_path)
    from erc_graph.encoders.gated_attention import GatedCrossAttention
    from erc_graph.encoders.wav2vec import Layer

    layer = Layer(config, GatedCrossAttention(24, {"text": 5}))
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    layer.take({name.removeprefix("layers.2."): value for name, value in weights.items() if name.startswith("layers.2.")})
    for name, value in layer.state_dict().items():
        expected = before[name] if name.startswith("attention") else weights[f"layers.2.{name}"]
        assert torch.equal(value, expected)
    assert any(not torch.equal(value, before[name]) for name, value in layer.state_dict().items())


def test_folders_that_hold_no_model(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"speech model .*nowhere': no such folder.*expected a folder with config.json"):
        read_wav2vec(tmp_path / "nowhere")
    files = r"expected a folder with config\.json and model\.safetensors of a pretrained wav2vec 2\.0"
    with pytest.raises(CheckpointError, match=rf"{files} \(.*FileNotFoundError.*save_pretrained"):
        read_wav2vec(tmp_path)
    pretrained(tmp_path, large=False)
    sizes = json.loads((tmp_path / "config.json").read_text())
    for change, message in (
        ({"model_type": "bert"}, "expected a wav2vec 2.0 model, found one of type 'bert'"),
        ({"num_hidden_layers": 4}, "KeyError: 'encoder.layers.3"),
        ({"conv_kernel": "ten"}, files),
        ({"num_attention_heads": 5}, "a divisor of the width"),
    ):
        (tmp_path / "config.json").write_text(json.dumps({**sizes, **change}))
        with pytest.raises(CheckpointError, match=message):
            read_wav2vec(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(sizes))
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(CheckpointError):
        read_wav2vec(tmp_path)


def test_impossible_sizes() -> None:
    with pytest.raises(ConfigError, match=r"(?s)wav2vec.layers.*wav2vec.heads"):
        Wav2vecConfig(layers=0, heads=5)
    with pytest.raises(ConfigError, match=r"(?s)wav2vec.extractor.channels.*wav2vec.extractor.strides.*wav2vec.extractor.norm"):
        Wav2vecConfig(extractor={"channels": 0, "strides": [2], "norm": "batch"})
    with pytest.raises(ConfigError, match=r"wav2vec.extractor: unknown key 'colour'"):
        Wav2vecConfig(extractor={"colour": 1})
