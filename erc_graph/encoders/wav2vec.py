"""wav2vec 2.0 (Baevski et al., NeurIPS 2020) up to a chosen layer: convolutions, positions, first Transformer layers.

A method can add Transformer layers with a different attention module. Except for the attention module, the added layers copy the weights of
the pretrained layers (`Layer.take`). The tests compare this module with the transformers library, whose model cannot stop after a chosen
layer. In the transformers library, the group norm over time includes padding, so the frames of a recording depend on its batch. In this
module, the group norm ignores padding, so the frames do not depend on the batch.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from erc_graph.data.files.budget import content_of
from erc_graph.data.files.storage import load_tensors
from erc_graph.encoders.cross_attention import CrossAttention
from erc_graph.encoders.dropout import Dropout
from erc_graph.errors import CheckpointError, ConfigError, expect
from erc_graph.features.text import find_model


@dataclass(frozen=True, kw_only=True)
class Extractor:
    """Configuration of the convolutions and norms of wav2vec 2.0; the default is a small model.

    Attributes:
        channels: Number of channels of the convolutions; 512 in the published base model.
        kernels: Kernel size of each convolution, in samples or frames.
        strides: Stride of each convolution, in samples or frames.
        positions: Kernel size of the convolution that encodes positions, in frames.
        position_groups: Number of channel groups of the convolution that encodes positions.
        norm: `group`: group norm over time after the first convolution (base model); `layer`: layer norm after every convolution (large
            model).
        norm_first: Whether Transformer layers are pre-norm (large model) instead of post-norm (base model).
        bias: Whether the convolutions, except the convolution that encodes positions, have a bias.
    """

    channels: int = 32
    kernels: list[int] = field(default_factory=lambda: [10, 3, 3, 3, 3, 2, 2])
    strides: list[int] = field(default_factory=lambda: [5, 2, 2, 2, 2, 2, 2])
    positions: int = 16
    position_groups: int = 4
    norm: str = "group"
    norm_first: bool = False
    bias: bool = False

    def __post_init__(self) -> None:
        lists = {name: [value for value in getattr(self, name) if type(value) is int and value >= 1] for name in ("kernels", "strides")}
        expect(
            "pipeline.wav2vec.extractor",
            self,
            **{name: (_is_count(getattr(self, name)), "1 or more") for name in ("channels", "positions", "position_groups")},
            kernels=(bool(self.kernels) and lists["kernels"] == self.kernels, "one or more numbers of 1 or more"),
            strides=(lists["strides"] == self.strides and len(self.strides) == len(self.kernels), "one number of 1 or more per kernel"),
            norm=(self.norm in ("group", "layer"), "group or layer"),
            norm_first=(isinstance(self.norm_first, bool), "true or false"),
            bias=(isinstance(self.bias, bool), "true or false"),
        )

    @property
    def shortest(self) -> int:
        """Return the receptive field of one frame in samples. A recording with fewer samples is padded with silence."""
        samples = 1
        for kernel, stride in zip(reversed(self.kernels), reversed(self.strides), strict=True):
            samples = (samples - 1) * stride + kernel
        return samples


@dataclass(frozen=True, kw_only=True)
class Wav2vecConfig:
    """Configuration of wav2vec 2.0; the default is a small model with random weights.

    The base model has a width of 768, 12 layers, 12 heads and a feed-forward width of 3072.

    Attributes:
        folder: Pretrained model: a folder with `config.json` and `model.safetensors`, as the transformers library saves them, or a name on
            the Hugging Face Hub; empty: no pretrained model. The sizes of a pretrained model replace all other attributes.
        width: Width of the frames.
        layers: Number of Transformer layers.
        heads: Number of attention heads per layer.
        feedforward: Hidden width of the feed-forward sublayer.
        extractor: Attributes of `Extractor` (convolutions and norms) by name; empty: the default values, a small model.
    """

    folder: str = ""
    width: int = 64
    layers: int = 4
    heads: int = 4
    feedforward: int = 128
    extractor: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        unknown = set(self.extractor) - {known.name for known in fields(Extractor)}
        if unknown:
            raise ConfigError(f"pipeline.wav2vec.extractor: unknown key {sorted(map(str, unknown))[0]!r}")
        groups = self.sizes.position_groups
        expect(
            "pipeline.wav2vec",
            self,
            layers=(self.layers >= 1, "1 or more"),
            heads=(self.heads >= 1 and self.width % max(1, self.heads) == 0, "a divisor of the width"),
            feedforward=(self.feedforward >= 1, "1 or more"),
            width=(self.width >= 1 and self.width % groups == 0, f"a multiple of {groups}, the value of position_groups"),
        )

    @cached_property
    def sizes(self) -> Extractor:
        """Return the configuration of convolutions and norms."""
        return Extractor(**self.extractor)


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 1


class MaskedGroupNorm(nn.GroupNorm):
    """Group norm with one channel per group, over the frames of each recording, without padding."""

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        """Normalise padded frames: `(n, channels, L)` with the mask `(n, L)` bool → `(n, channels, L)`."""
        values, real = states.to(torch.promote_types(states.dtype, torch.float32)), mask[:, None]
        count = real.sum(-1, keepdim=True).clamp(min=1)
        centred = values - (values * real).sum(-1, keepdim=True) / count
        variance = (centred.square() * real).sum(-1, keepdim=True) / count
        return (centred * (variance + self.eps).rsqrt() * self.weight[:, None] + self.bias[:, None]).to(states.dtype)


class Layer(nn.Module):
    """A Transformer layer whose attention module is an argument.

    Args:
        config: Configuration with the sizes of the layer; `norm_first` selects pre-norm.
        attention: The attention module, which the argument `ask` of `forward` calls.
        dropout: Dropout rate after attention, after the feed-forward sublayer and in its hidden layer in training.
    """

    def __init__(self, config: Wav2vecConfig, attention: nn.Module, dropout: float = 0.0) -> None:
        super().__init__()
        self.attention, self.first = attention, config.sizes.norm_first
        self.norms = nn.ModuleList(nn.LayerNorm(config.width) for _ in range(2))
        self.feedforward = nn.Sequential(
            nn.Linear(config.width, config.feedforward), nn.GELU(), Dropout(dropout), nn.Linear(config.feedforward, config.width)
        )
        self.dropout = Dropout(dropout)

    def forward(self, states: Tensor, ask: Callable[[Tensor], Tensor]) -> Tensor:
        """Apply the layer to states `(n, L, width)`; the function `ask` computes the attention output for queries of this shape."""
        if self.first:
            states = states + self.dropout(ask(self.norms[0](states)))
            return states + self.dropout(self.feedforward(self.norms[1](states)))
        states = self.norms[0](states + self.dropout(ask(states)))
        return self.norms[1](states + self.dropout(self.feedforward(states)))

    def take(self, weights: Mapping[str, Tensor]) -> None:
        """Copy the weights of a pretrained layer: norms, feed-forward sublayer, and attention if its weights have the same names."""
        own = self.state_dict()
        self.load_state_dict({name: value for name, value in weights.items() if name in own}, strict=False)


class Wav2vec(nn.Module):
    """The wav2vec 2.0 model with only its first Transformer layers: waveforms → frames.

    Args:
        config: The configuration.
        layers: Number of Transformer layers to use, at most `config.layers`.
    """

    def __init__(self, config: Wav2vecConfig, layers: int) -> None:
        super().__init__()
        self.config = config
        wide = [1, *(config.sizes.channels for _ in config.sizes.kernels)]
        self.convolutions = nn.ModuleList(
            nn.Conv1d(inputs, config.sizes.channels, kernel, stride, bias=config.sizes.bias)
            for inputs, kernel, stride in zip(wide, config.sizes.kernels, config.sizes.strides, strict=False)
        )
        self.group_norm = MaskedGroupNorm(config.sizes.channels, config.sizes.channels) if config.sizes.norm == "group" else None
        self.channel_norms = nn.ModuleList(
            nn.LayerNorm(config.sizes.channels) for _ in (config.sizes.kernels if config.sizes.norm == "layer" else ())
        )
        self.project_norm, self.project = nn.LayerNorm(config.sizes.channels), nn.Linear(config.sizes.channels, config.width)
        self.position = nn.Conv1d(
            config.width, config.width, config.sizes.positions, padding=config.sizes.positions // 2, groups=config.sizes.position_groups
        )
        self.norm = None if config.sizes.norm_first else nn.LayerNorm(config.width)
        self.layers = nn.ModuleList(
            Layer(config, CrossAttention(config.width, config.width, config.width, heads=config.heads)) for _ in range(layers)
        )

    def forward(self, waves: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the frames of recordings; each recording is first standardised to mean 0 and standard deviation 1, as in pretraining.

        Args:
            waves: `(n, L)` float waveforms at 16 kHz.
            mask: `(n, L)` bool, false for padding, which is at the end. Every recording has at least one sample.

        Returns:
            Frames `(n, frames, width)`, zero for padding, and their mask `(n, frames)` bool.
        """
        length = mask.sum(1)
        count = length[:, None]
        waves = (waves - (waves * mask).sum(1, keepdim=True) / count) * mask
        waves = waves * (waves.square().sum(1, keepdim=True) / count + 1e-7).rsqrt()
        states = F.pad(waves, (0, max(0, self.config.sizes.shortest - waves.shape[1])))[:, None]
        length = length.clamp(min=self.config.sizes.shortest)
        for index, convolution in enumerate(self.convolutions):
            states = convolution(states)
            length = (length - self.config.sizes.kernels[index]) // self.config.sizes.strides[index] + 1
            if index == 0 and self.group_norm is not None:
                states = self.group_norm(states, torch.arange(states.shape[-1], device=length.device) < length[:, None])
            if self.channel_norms:
                states = self.channel_norms[index](states.transpose(1, 2)).transpose(1, 2)
            states = F.gelu(states)
        here = torch.arange(states.shape[-1], device=length.device) < length[:, None]
        states = self.project(self.project_norm(states.transpose(1, 2))) * here[..., None]
        positions = F.gelu(self.position(states.transpose(1, 2))[..., : states.shape[1]]).transpose(1, 2)
        states = states + positions
        states = states if self.norm is None else self.norm(states)
        for layer in self.layers:
            states = layer(states, lambda queries, layer=layer: layer.attention(queries, queries, here))
        return states * here[..., None], here

    def take(self, weights: Mapping[str, Tensor]) -> None:
        """Copy all weights of this model from `weights`, which `read_wav2vec` returns."""
        self.load_state_dict({name: weights[name] for name in self.state_dict()})


def read_wav2vec(folder: str | os.PathLike[str]) -> tuple[Wav2vecConfig, dict[str, Tensor]]:
    """Read configuration and weights of a pretrained model.

    Args:
        folder: Name on the Hugging Face Hub, or folder with `config.json` and `model.safetensors` of the transformers library. The saved
            model is a `Wav2Vec2Model` or contains a `Wav2Vec2Model`.

    Returns:
        The configuration, and the weights with the names of `Wav2vec`. If the model ends with a layer norm, the weights of this norm are
            `final.weight` and `final.bias`.

    Raises:
        CheckpointError: the folder does not exist, has another type of model, or has damaged files.
    """
    path = find_model(os.fspath(folder), "speech model", prefix="facebook/")
    try:
        sizes = json.loads(content_of(path / "config.json", CheckpointError))
        if sizes.get("model_type") != "wav2vec2" or len(set(sizes["conv_dim"])) != 1:
            raise CheckpointError(f"{path}: expected a wav2vec 2.0 model, found one of type {str(sizes.get('model_type'))[:40]!r}")
        config = Wav2vecConfig(
            width=sizes["hidden_size"],
            layers=sizes["num_hidden_layers"],
            heads=sizes["num_attention_heads"],
            feedforward=sizes["intermediate_size"],
            extractor={
                "channels": sizes["conv_dim"][0],
                "kernels": list(sizes["conv_kernel"]),
                "strides": list(sizes["conv_stride"]),
                "positions": sizes["num_conv_pos_embeddings"],
                "position_groups": sizes["num_conv_pos_embedding_groups"],
                "norm": sizes["feat_extract_norm"],
                "norm_first": sizes["do_stable_layer_norm"],
                "bias": sizes["conv_bias"],
            },
        )
        return config, _renamed(load_tensors(path / "model.safetensors")[0], config)
    except CheckpointError:
        raise
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RuntimeError) as error:
        reason = f"{type(error).__name__}: {error}".split("\n")[0][:200]
        raise CheckpointError(
            f"{path}: expected a folder with config.json and model.safetensors of a pretrained wav2vec 2.0 ({reason}); the package "
            'transformers writes these files: `Wav2Vec2Model.from_pretrained("facebook/wav2vec2-base").save_pretrained("DIR")`'
        ) from None


def _renamed(weights: Mapping[str, Tensor], config: Wav2vecConfig) -> dict[str, Tensor]:
    """Rename tensors from the names of the transformers library to the names of `Wav2vec`."""
    stem = "wav2vec2." if any(name.startswith("wav2vec2.") for name in weights) else ""
    given = {name.removeprefix(stem): value.float() for name, value in weights.items()}
    names: dict[str, str] = {"project_norm": "feature_projection.layer_norm", "project": "feature_projection.projection"}
    for index in range(len(config.sizes.kernels)):
        names[f"convolutions.{index}"] = f"feature_extractor.conv_layers.{index}.conv"
        if config.sizes.norm == "layer":
            names[f"channel_norms.{index}"] = f"feature_extractor.conv_layers.{index}.layer_norm"
    if config.sizes.norm == "group":
        names["group_norm"] = "feature_extractor.conv_layers.0.layer_norm"
    names["final" if config.sizes.norm_first else "norm"] = "encoder.layer_norm"
    for index in range(config.layers):
        names |= {f"layers.{index}.{own}": f"encoder.layers.{index}.{other}" for own, other in _LAYER.items()}
    found: dict[str, Tensor] = {}
    for own, other in names.items():
        found[f"{own}.weight"] = given[f"{other}.weight"]
        if config.sizes.bias or not own.startswith("convolutions"):
            found[f"{own}.bias"] = given[f"{other}.bias"]
    return found | _position({name.rpartition("pos_conv_embed.conv.")[2]: value for name, value in given.items() if "pos_conv" in name})


def _position(given: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the weights of the convolution that encodes positions, without weight norm.

    The two factors of the weight norm have different names in different versions of PyTorch.
    """
    length, direction = (
        given[new] if new in given else given[old]
        for new, old in (("parametrizations.weight.original0", "weight_g"), ("parametrizations.weight.original1", "weight_v"))
    )
    weight = direction * (length / direction.norm(dim=(0, 1), keepdim=True))
    return {"position.weight": weight, "position.bias": given["bias"]}


_LAYER = {
    "attention.query": "attention.q_proj",
    "attention.key": "attention.k_proj",
    "attention.value": "attention.v_proj",
    "attention.output": "attention.out_proj",
    "norms.0": "layer_norm",
    "norms.1": "final_layer_norm",
    "feedforward.0": "feed_forward.intermediate_dense",
    "feedforward.3": "feed_forward.output_dense",
}
