"""A pretrained language model of the transformers library, whose input is token ids, and which is trained together with the method.

The corpus contains the token ids as sequences of vectors of width one (`erc-graph features --pooling tokens`). The tokenizer of the model
adds a first token before the text and a closing token after the text. If the vectors have another width, they are token states that a
language model has computed before. In this case, no language model is used.
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
    """Configuration of a language model that reads token ids; the default is a small BERT with random weights.

    Attributes:
        folder: Pretrained model: a folder with `config.json` and `model.safetensors`, or a model name that `erc-graph features` accepts;
            empty: no pretrained model.
        settings: Content of the model's `config.json`, which is saved with trained weights; empty: the `config.json` in `folder`, or a
            small BERT.
        rate: Factor by which the learning rate of the method is multiplied for the language model.
        lora: Rank of low-rank matrices that are trained and saved instead of the weights (`erc_graph.features.low_rank`); 0: the weights
            are trained.
        revision: Revision of the weights in `folder` that low-rank matrices were trained with; empty: any revision.
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
        """Return the configuration with the `settings` of `folder`; without a folder, empty `settings` become those of a small BERT."""
        settings = read_json(find_encoder(self.folder) / "config.json") if self.folder else self.settings or SMALL
        return replace(self, settings=dict(settings))


class LanguageModel(nn.Module):
    """A language model that computes token states from token ids.

    Args:
        config: The configuration.

    Attributes:
        config: The configuration to save. This configuration has `settings` but no `folder`; with low-rank matrices, it has `folder` but no
            `settings`.
        width: Width of a token state.
        longest: Largest number of tokens of a text that the model can process.

    Raises:
        CheckpointError: the model cannot be found or read, or low-rank matrices were trained with other weights.
        ConfigError: the transformers library does not support the settings; low-rank matrices are requested without a pretrained model; or
            the package peft is not installed.
    """

    def __init__(self, config: LanguageModelConfig) -> None:
        super().__init__()
        if config.lora and not config.folder:
            raise ConfigError(
                "pipeline.language_model.lora: expected a pretrained model in pipeline.language_model.folder, found none; "
                "name the folder of a pretrained model, or set lora = 0"
            )
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
        """Return the weights by name; if the model has low-rank matrices, return only the weights of these matrices."""
        found: dict[str, Any] = super().state_dict(*args, **named)
        if self.config.lora:
            inside = f"{named.get('prefix', '')}model."
            for name in [name for name in found if name.startswith(inside) and ".lora_" not in name]:
                del found[name]
        return found

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        """Load saved weights; with low-rank matrices, all other weights are copied from the pretrained model."""
        if self.config.lora:
            given = self.model.state_dict()
            if any(value.is_meta for value in given.values()):
                given = _built(self.config).state_dict()
            names = {name.replace(".base_layer.", "."): name for name in self.model.state_dict() if ".lora_" not in name}
            state_dict.update({f"{prefix}model.{name}": given[name if name in given else plain] for plain, name in names.items()})
        super()._load_from_state_dict(state_dict, prefix, *others)

    @property
    def layers(self) -> nn.ModuleList:
        """Return the Transformer layers, from the first to the last."""
        depth = self.model.config.num_hidden_layers
        return next(part for part in self.model.modules() if isinstance(part, nn.ModuleList) and len(part) == depth)

    def freeze(self, trained: int) -> None:
        """Freeze all weights except the weights, or low-rank matrices, of the last `trained` layers."""
        self.requires_grad_(False)
        for layer in self.layers[max(0, len(self.layers) - trained) :]:
            for name, value in layer.named_parameters():
                value.requires_grad_(not self.config.lora or ".lora_" in name)

    def forward(self, ids: Ragged) -> Ragged:
        """Compute the token states of every sequence separately: token ids, `(1,)` each → token states, `(width,)` each."""
        return map_sequences(self.states, ids, self.width, TOKENS)

    def states(self, padded: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Compute token states from padded token ids: `(n, L, 1)` with the mask `(n, L)` bool → `(n, L, width)` and the same mask."""
        if mask.shape[1] > self.longest:
            raise ConfigError(
                f"sequences.text: expected at most {self.longest} tokens, the limit of the language model, found {mask.shape[1]}"
            )
        ids = torch.where(mask, padded[..., 0].long(), self.padding)
        check_ids(ids, self.model.config.vocab_size)
        return self.model(input_ids=ids, attention_mask=mask.long()).last_hidden_state, mask

    @contextmanager
    def adapted(self, adapters: Sequence[nn.Module], beside: Tensor) -> Iterator[None]:
        """Apply an adapter after each of the last layers, within a `with` block.

        Args:
            adapters: Modules for the last layers, in the order of the layers. Each module computes new states from the states of its layer,
                `(n, L, width)`, and from `beside`.
            beside: `(n, L, any width)`, second input of the adapters.
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
    """Return the configuration to save with low-rank matrices: it names the pretrained model, whose weights are not saved.

    Raises:
        CheckpointError: the weights in `folder` have another revision than the configuration.
    """
    source = find_encoder(config.folder)
    found = revision(source)
    if config.revision not in ("", found):
        raise CheckpointError(
            f"pipeline.language_model: expected {config.folder} of version {config.revision[:20]}, found {found[:20]} in {source}; "
            f"put the weights of version {config.revision[:20]} into this folder"
        )
    folder = os.path.abspath(config.folder) if source == Path(config.folder) else config.folder
    return replace(config, folder=folder, settings={}, revision=found)


def _built(config: LanguageModelConfig) -> Any:
    """Build a model of the transformers library from the weights in `folder`, or with random weights from `settings`.

    Raises:
        CheckpointError: the folder cannot be read.
        ConfigError: the transformers library does not support the settings.
    """
    from transformers import AutoConfig, AutoModel

    try:
        model = pretrained(find_encoder(config.folder)) if config.folder else AutoModel.from_config(AutoConfig.for_model(**config.settings))
    except (TypeError, ValueError, LookupError) as error:
        if isinstance(error, ErcGraphError):
            raise
        raise ConfigError(f"pipeline.language_model.settings: expected settings of a transformers model ({str(error)[:120]})") from None
    model = model.get_encoder() if model.config.is_encoder_decoder else model
    if getattr(model, "pooler", None) is not None:
        model.pooler = None  # nothing reads it
    for part in model.modules():
        part._non_persistent_buffers_set.clear()  # saved with the weights, for a saved method is built as shapes alone
    return model.float()


def check_ids(ids: Tensor, known: int) -> None:
    """Check that all token ids are in a vocabulary of `known` tokens.

    Raises:
        ConfigError: an id is not in the vocabulary.
    """
    if ids.numel() and (int(ids.max()) >= known or int(ids.min()) < 0):
        raise ConfigError(
            f"sequences.text: expected token ids from 0 to {known - 1}, found {int(ids.min())} to {int(ids.max())}; compute them with the "
            "tokenizer of the language model (erc-graph features --pooling tokens)"
        )


def token_nodes(tokens: Ragged) -> Nodes:
    """Return one node per token: states `(N, length of the longest utterance, width of a token)`."""
    padded, mask = tokens.pad()
    return Nodes(padded, mask, tuple(map(str, range(mask.shape[1]))))


def packed(nodes: Nodes) -> Ragged:
    """Return the tokens of every utterance as a sequence; this function is the inverse of `token_nodes`."""
    lengths = nodes.present.sum(1).cpu()
    return Ragged(nodes.states[nodes.present], torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]))
