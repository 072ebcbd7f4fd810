"""The encoder of BERT, built from the Transformer layers of PyTorch.

Importing the transformers library takes three seconds. With this module, sentence encoders with the architecture of BERT do not need that
library, so predictions start earlier. Source: Devlin et al., *BERT*, NAACL 2019. Tests compare the states with the states that transformers
computes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from erc_graph.data.shapes import shapes_only


class Bert(nn.Module):
    """A BERT encoder for inference, which computes token states.

    Args:
        config: Content of the `config.json` of the model.
        weights: Name of a weight in the library transformers → tensor.

    Raises:
        KeyError: a value of the configuration or a tensor is missing.
        RuntimeError: a tensor has a wrong shape.
    """

    def __init__(self, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        width, eps = config["hidden_size"], config["layer_norm_eps"]
        with shapes_only():  # the weights are handed in
            self.token = nn.Embedding(config["vocab_size"], width)
            self.position = nn.Embedding(config["max_position_embeddings"], width)
            self.segment = nn.Embedding(config["type_vocab_size"], width)
            self.norm = nn.LayerNorm(width, eps=eps)
            layer = nn.TransformerEncoderLayer(
                width, config["num_attention_heads"], config["intermediate_size"], 0.0, "gelu", eps, batch_first=True
            )
            self.encode = nn.TransformerEncoder(layer, config["num_hidden_layers"], enable_nested_tensor=False)
        self.load_state_dict(_renamed(weights, config["num_hidden_layers"]), assign=True)
        self.eval()

    @property
    def width(self) -> int:
        """Return the width of a token state."""
        return self.token.embedding_dim

    @property
    def longest(self) -> int:
        """Return the largest number of tokens of a text."""
        return self.position.num_embeddings

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Compute the token states `(B, L, width)` of the last layer.

        Args:
            tokens: Token ids of `B` texts, padded to `L` tokens, `(B, L)`.
            mask: Whether each token is real and not padding, `(B, L)` bool.
        """
        return self.hidden(tokens, mask)[-1]

    def hidden(self, tokens: Tensor, mask: Tensor, layers: int | None = None) -> list[Tensor]:
        """Return the input of the first layer and the outputs of the first `layers` layers (default: all layers).

        The arguments `tokens` and `mask` are explained in `forward`. Each result is `(B, L, width)` for `B` texts of `L` tokens.
        """
        position = self.position.weight[: tokens.shape[1]] + self.segment.weight[0]
        states = [self.norm(self.token(tokens) + position)]
        for layer in self.encode.layers[:layers]:
            states.append(layer(states[-1], src_key_padding_mask=~mask))
        return states


def is_bert(config: Mapping[str, Any]) -> bool:
    """Return whether the class `Bert` supports an encoder with the given configuration."""
    return (
        config.get("model_type") == "bert"
        and config.get("hidden_act") == "gelu"
        and config.get("position_embedding_type", "absolute") == "absolute"
        and not config.get("is_decoder", False)
    )


def _renamed(weights: Mapping[str, Tensor], layers: int) -> dict[str, Tensor]:
    """Return the weights with the names of PyTorch instead of the names of transformers."""
    stem = "bert." if "bert.embeddings.word_embeddings.weight" in weights else ""
    own = {f"{part}.weight": weights[f"{stem}embeddings.{name}_embeddings.weight"] for part, name in _EMBEDDINGS.items()}
    ends = ("weight", "bias")
    own |= {f"norm.{end}": weights[f"{stem}embeddings.LayerNorm.{end}"] for end in ends}
    for i in range(layers):
        here, there = f"encode.layers.{i}.", f"{stem}encoder.layer.{i}."
        for end in ends:
            projections = [weights[f"{there}attention.self.{name}.{end}"] for name in ("query", "key", "value")]
            own[f"{here}self_attn.in_proj_{end}"] = torch.cat(projections)
            own |= {f"{here}{name}.{end}": weights[f"{there}{other}.{end}"] for name, other in _LAYER.items()}
    return {name: value.float() for name, value in own.items()}


_EMBEDDINGS = {"token": "word", "position": "position", "segment": "token_type"}
_LAYER = {
    "self_attn.out_proj": "attention.output.dense",
    "norm1": "attention.output.LayerNorm",
    "linear1": "intermediate.dense",
    "linear2": "output.dense",
    "norm2": "output.LayerNorm",
}
