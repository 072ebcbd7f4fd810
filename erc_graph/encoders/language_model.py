"""A pretrained language model of the transformers library over token ids, trained with the method.

A corpus has the ids as a sequence of items that are one wide (`erc-graph features --pooling tokens`), in the words of the model's own
tokenizer: a first token, those of the text, and a closing one. Items of another width are states of tokens and need no model here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from erc_graph.data.nodes import Nodes
from erc_graph.data.ragged import Ragged
from erc_graph.encoders.sequences import map_sequences
from erc_graph.errors import ConfigError, expect
from erc_graph.features.text import find_encoder, pretrained
from erc_graph.features.tokens import OFFSET, read_json

TOKENS = 8192  # most tokens of a chunk, padding included
IDS = (1,)  # shape of an item that is a token's id
SMALL = {"model_type": "bert", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}


@dataclass(frozen=True, kw_only=True)
class LanguageModelConfig:
    """A language model, where text is token ids; by default a small BERT with random weights.

    Attributes:
        folder: A pretrained model: a folder (config.json, model.safetensors) or a name that `erc-graph features` knows; empty: none.
        settings: What the model's config.json says, which is kept with trained weights; empty: that of the folder, or a small BERT's.
        rate: Its learning rate, as a share of the others'.
    """

    folder: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    rate: float = 0.2

    def __post_init__(self) -> None:
        expect("pipeline.language_model", self, rate=(self.rate > 0, "a number above 0"))

    def found(self) -> LanguageModelConfig:
        """The same with the settings of its model."""
        settings = read_json(find_encoder(self.folder) / "config.json") if self.folder else self.settings or SMALL
        return replace(self, settings=dict(settings))


class LanguageModel(nn.Module):
    """States of tokens from their ids.

    Args:
        config: Which model.

    Attributes:
        config: The same without the folder: what it takes to build the model again.
        width: Of a state.
        longest: Most tokens of a text.

    Raises:
        CheckpointError: the model cannot be found or read.
        ConfigError: its settings are none that transformers knows.
    """

    def __init__(self, config: LanguageModelConfig) -> None:
        super().__init__()
        from transformers import AutoConfig, AutoModel

        config = config.found()
        self.config = replace(config, folder="")
        try:
            if config.folder:
                model = pretrained(find_encoder(config.folder))
            else:
                model = AutoModel.from_config(AutoConfig.for_model(**config.settings))
        except (TypeError, ValueError, LookupError) as error:
            raise ConfigError(f"pipeline.language_model.settings: expected a config.json of transformers ({str(error)[:120]})") from None
        model = model.get_encoder() if model.config.is_encoder_decoder else model
        if getattr(model, "pooler", None) is not None:
            model.pooler = None  # nothing reads it
        self.model = model.float()
        for part in model.modules():
            part._non_persistent_buffers_set.clear()  # saved with the weights, for a saved method is built as shapes alone
        self.width, self.padding = int(model.config.hidden_size), int(model.config.pad_token_id or 0)
        self.longest = int(getattr(model.config, "max_position_embeddings", None) or 512)
        self.longest -= (self.padding + 1) * (model.config.model_type in OFFSET)

    @property
    def layers(self) -> nn.ModuleList:
        """Its layers, the last one last."""
        depth = self.model.config.num_hidden_layers
        return next(part for part in self.model.modules() if isinstance(part, nn.ModuleList) and len(part) == depth)

    def freeze(self, trained: int) -> None:
        """Leave all but the last layers as they are."""
        self.requires_grad_(False)
        for layer in self.layers[max(0, len(self.layers) - trained) :]:
            layer.requires_grad_(True)

    def forward(self, ids: Ragged) -> Ragged:
        """Items `(1,)` → states `(width,)`, each sequence by itself."""
        return map_sequences(self.states, ids, self.width, TOKENS)

    def states(self, padded: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """`(n, L, 1)` ids and `(n, L)` bool → `(n, L, width)`, and the mask."""
        if mask.shape[1] > self.longest:
            raise ConfigError(f"sequences.text: expected up to {self.longest} tokens, as the language model takes, found {mask.shape[1]}")
        ids = torch.where(mask, padded[..., 0].long(), self.padding)
        check_ids(ids, self.model.config.vocab_size)
        return self.model(input_ids=ids, attention_mask=mask.long()).last_hidden_state, mask

    @contextmanager
    def adapted(self, adapters: Sequence[nn.Module], beside: Tensor) -> Iterator[None]:
        """While it lasts an adapter stands behind each of the last layers.

        Args:
            adapters: States `(n, L, width)` and `beside` → states; of the last layers, in their order.
            beside: `(n, L, any width)`.
        """

        def behind(adapter: nn.Module, found: Any) -> Any:
            return (adapter(found[0], beside), *found[1:]) if isinstance(found, tuple) else adapter(found, beside)

        last = self.layers[len(self.layers) - len(adapters) :]
        ends = [
            layer.register_forward_hook(lambda _, __, found, adapter=adapter: behind(adapter, found))
            for layer, adapter in zip(last, adapters, strict=True)
        ]
        try:
            yield
        finally:
            for end in ends:
                end.remove()


def check_ids(ids: Tensor, known: int) -> None:
    """Refuse ids of another vocabulary than a model's of `known` tokens.

    Raises:
        ConfigError: one that the model does not have.
    """
    if ids.numel() and (int(ids.max()) >= known or int(ids.min()) < 0):
        raise ConfigError(
            f"sequences.text: expected token ids below {known}, as the tokenizer of the language model makes them (erc-graph features "
            f"--pooling tokens), found {int(ids.max())}"
        )


def token_nodes(tokens: Ragged) -> Nodes:
    """Every token a node of its turn: `(N, longest turn, item)`."""
    padded, mask = tokens.pad()
    return Nodes(padded, mask, tuple(map(str, range(mask.shape[1]))))


def packed(nodes: Nodes) -> Ragged:
    """The way back: of every turn the nodes that are there."""
    lengths = nodes.present.sum(1).cpu()
    return Ragged(nodes.states[nodes.present], torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]))
