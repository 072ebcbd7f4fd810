"""A pretrained language model of the transformers library over token ids, trained with the method.

A corpus has the ids as a sequence of items of width one (`erc-graph features --pooling tokens`). They come from the model's own tokenizer:
a first token, the tokens of the text, and a closing token. Items of another width are states of tokens and need no model here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from erc_graph.data.nodes import Nodes
from erc_graph.data.ragged import Ragged
from erc_graph.encoders.sequences import map_sequences
from erc_graph.errors import CheckpointError, ConfigError, ErcGraphError, expect
from erc_graph.features.low_rank import add_low_rank
from erc_graph.features.pretrained import pretrained
from erc_graph.features.text import find_encoder, revision
from erc_graph.features.tokens import OFFSET, read_json

TOKENS = 8192  # most tokens of a chunk, padding included
IDS = (1,)  # shape of an item that is a token's id
SMALL = {"model_type": "bert", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}


@dataclass(frozen=True, kw_only=True)
class LanguageModelConfig:
    """A language model for text as token ids; by default a small BERT with random weights.

    Attributes:
        folder: A pretrained model: a folder (config.json, model.safetensors) or a name that `erc-graph features` knows; empty: none.
        settings: What the model's config.json says, which is kept with trained weights; empty: that of the folder, or a small BERT's.
        rate: Its learning rate, as a share of the others'.
        lora: Rank of low-rank matrices, which are trained and saved in place of its weights (`erc_graph.features.low_rank`); 0: the weights
            are.
        revision: Of the folder's weights, which a saved model with low-rank matrices needs again; empty: any.
    """

    folder: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    rate: float = 0.2
    lora: int = 0
    revision: str = ""

    def __post_init__(self) -> None:
        expect(
            "pipeline.language_model",
            self,
            rate=(self.rate > 0, "a number above 0"),
            lora=(self.lora >= 0, "a rank of 1 or more, or 0"),
        )

    def found(self) -> LanguageModelConfig:
        """Return the configuration with the settings of its model."""
        settings = read_json(find_encoder(self.folder) / "config.json") if self.folder else self.settings or SMALL
        return replace(self, settings=dict(settings))


class LanguageModel(nn.Module):
    """Token states from token ids.

    Args:
        config: Which model.

    Attributes:
        config: What it takes to build the model again: the same without the folder, or with low-rank matrices without the settings.
        width: Width of a state.
        longest: Most tokens of a text.

    Raises:
        CheckpointError: the model cannot be found or read, or has other weights than a saved one was trained with.
        ConfigError: its settings are none that transformers knows; or low-rank matrices without a pretrained model, or without peft.
    """

    def __init__(self, config: LanguageModelConfig) -> None:
        super().__init__()
        if config.lora and not config.folder:
            raise ConfigError("pipeline.language_model.lora: expected a pretrained model as well (folder), found none")
        config = config.found()
        as_shapes = torch.empty(0).is_meta  # a saved method is built, and its weights come later
        self.model = model = _built(replace(config, folder="") if as_shapes else config)
        if config.lora:
            add_low_rank(model, config.lora)
        self.config = _beside(config) if config.lora else replace(config, folder="")
        self.width, self.padding = int(model.config.hidden_size), int(model.config.pad_token_id or 0)
        self.longest = int(getattr(model.config, "max_position_embeddings", None) or 512)
        self.longest -= (self.padding + 1) * (model.config.model_type in OFFSET)

    def state_dict(self, *args: Any, **named: Any) -> dict[str, Any]:  # type: ignore[override]
        """Return weights by name; for a model with low-rank matrices only these."""
        found: dict[str, Any] = super().state_dict(*args, **named)
        if self.config.lora:
            inside = f"{named.get('prefix', '')}model."
            for name in [name for name in found if name.startswith(inside) and ".lora_" not in name]:
                del found[name]
        return found

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        """With low-rank matrices the weights that are not saved are those of the pretrained model."""
        if self.config.lora:
            given = self.model.state_dict()
            if any(value.is_meta for value in given.values()):
                given = _built(self.config).state_dict()
            names = {name.replace(".base_layer.", "."): name for name in self.model.state_dict() if ".lora_" not in name}
            state_dict.update({f"{prefix}model.{name}": given[name if name in given else plain] for plain, name in names.items()})
        super()._load_from_state_dict(state_dict, prefix, *others)

    @property
    def layers(self) -> nn.ModuleList:
        """Return the layers, the last one last."""
        depth = self.model.config.num_hidden_layers
        return next(part for part in self.model.modules() if isinstance(part, nn.ModuleList) and len(part) == depth)

    def freeze(self, trained: int) -> None:
        """Freeze all layers except the last ones."""
        self.requires_grad_(False)
        for layer in self.layers[max(0, len(self.layers) - trained) :]:
            for name, value in layer.named_parameters():
                value.requires_grad_(not self.config.lora or ".lora_" in name)

    def forward(self, ids: Ragged) -> Ragged:
        """Map items `(1,)` to states `(width,)`, each sequence separately."""
        return map_sequences(self.states, ids, self.width, TOKENS)

    def states(self, padded: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Map `(n, L, 1)` ids and `(n, L)` bool to `(n, L, width)`, and the mask."""
        if mask.shape[1] > self.longest:
            raise ConfigError(f"sequences.text: expected up to {self.longest} tokens, as the language model takes, found {mask.shape[1]}")
        ids = torch.where(mask, padded[..., 0].long(), self.padding)
        check_ids(ids, self.model.config.vocab_size)
        return self.model(input_ids=ids, attention_mask=mask.long()).last_hidden_state, mask

    @contextmanager
    def adapted(self, adapters: Sequence[nn.Module], beside: Tensor) -> Iterator[None]:
        """Place an adapter after each of the last layers within a block.

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


def _beside(config: LanguageModelConfig) -> LanguageModelConfig:
    """The configuration that names the pretrained model, for its weights are not saved.

    Raises:
        CheckpointError: it has other weights than a saved one was trained with.
    """
    source = find_encoder(config.folder)
    found = revision(source)
    if config.revision not in ("", found):
        raise CheckpointError(
            f"pipeline.language_model: expected {config.folder} of version {config.revision[:20]}, found {found[:20]} in {source}; put "
            "those weights there"
        )
    folder = os.path.abspath(config.folder) if source == Path(config.folder) else config.folder
    return replace(config, folder=folder, settings={}, revision=found)


def _built(config: LanguageModelConfig) -> Any:
    """transformers' model of a folder, or of settings alone.

    Raises:
        CheckpointError: it cannot be read.
        ConfigError: its settings are none that transformers knows.
    """
    from transformers import AutoConfig, AutoModel

    try:
        model = pretrained(find_encoder(config.folder)) if config.folder else AutoModel.from_config(AutoConfig.for_model(**config.settings))
    except (TypeError, ValueError, LookupError) as error:
        if isinstance(error, ErcGraphError):
            raise
        raise ConfigError(f"pipeline.language_model.settings: expected a config.json of transformers ({str(error)[:120]})") from None
    model = model.get_encoder() if model.config.is_encoder_decoder else model
    if getattr(model, "pooler", None) is not None:
        model.pooler = None  # nothing reads it
    for part in model.modules():
        part._non_persistent_buffers_set.clear()  # saved with the weights, for a saved method is built as shapes alone
    return model.float()


def check_ids(ids: Tensor, known: int) -> None:
    """Check that token ids fit the vocabulary of a model of `known` tokens.

    Raises:
        ConfigError: the model does not have one of the ids.
    """
    if ids.numel() and (int(ids.max()) >= known or int(ids.min()) < 0):
        raise ConfigError(
            f"sequences.text: expected token ids below {known}, as the tokenizer of the language model makes them (erc-graph features "
            f"--pooling tokens), found {int(ids.max())}"
        )


def token_nodes(tokens: Ragged) -> Nodes:
    """Return every token as a node of its utterance: `(N, longest turn, item)`."""
    padded, mask = tokens.pad()
    return Nodes(padded, mask, tuple(map(str, range(mask.shape[1]))))


def packed(nodes: Nodes) -> Ragged:
    """Return the present nodes of every utterance, the inverse of `token_nodes`."""
    lengths = nodes.present.sum(1).cpu()
    return Ragged(nodes.states[nodes.present], torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]))
