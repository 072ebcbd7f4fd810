"""The upper layers of a pretrained text encoder, trained together with the method; the lower layers are frozen.

The output of the frozen layers is computed once per token (`erc-graph features --pooling words --layer K`) and stored in the corpus as a
sequence. The upper layers start from the pretrained weights, and are trained together with the method, at a lower learning rate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from erc_graph.data.files.storage import load_tensors
from erc_graph.data.ragged import Ragged
from erc_graph.encoders.sequences import encode_sequences, masked_mean
from erc_graph.errors import ConfigError, expect
from erc_graph.features.bert import Bert, is_bert
from erc_graph.features.encoder_names import split_options
from erc_graph.features.model_config import model_config, reading_model
from erc_graph.features.text import find_encoder

DROPOUT = 0.1  # in the layers
TOKENS = 4096  # most tokens of a chunk, padding included


@dataclass(frozen=True, kw_only=True)
class TextLayersConfig:
    """Configuration of the last layers of a text encoder, which are trained with the method.

    Attributes:
        layers: Number of layers. If 0, the input of the method is the mean and standard deviation of the token states.
        heads: Number of attention heads per layer, as in the pretrained model.
        hidden: Hidden width of the feed-forward sublayer, as in the pretrained model.
        rate: Factor by which the learning rate of the method is multiplied for these layers.
    """

    layers: int = 0
    heads: int = 12
    hidden: int = 1536
    rate: float = 0.05

    def __post_init__(self) -> None:
        expect(
            "inputs.text_layers",
            self,
            layers=(self.layers >= 0, "0 or more"),
            heads=(self.heads >= 1, "1 or more"),
            hidden=(self.hidden >= 1, "1 or more"),
            rate=(self.rate > 0, "a number above 0"),
        )


class TextLayers(nn.Module):
    """Transformer layers over the token states of an utterance, and the mean of the output states.

    Args:
        width: Width of a token state.
        config: The configuration.

    Raises:
        ConfigError: the number of heads does not divide the width.
    """

    def __init__(self, width: int, config: TextLayersConfig) -> None:
        super().__init__()
        if width % config.heads:
            raise ConfigError(f"inputs.text_layers.heads: expected a divisor of {width}, the width of a token state, found {config.heads}")
        self.width, self.config = width, config
        layer = nn.TransformerEncoderLayer(width, config.heads, config.hidden, DROPOUT, "gelu", 1e-12, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, config.layers, enable_nested_tensor=False)

    def start_from(self, made_by: str) -> None:
        """Copy the weights of the upper layers of the encoder that computed the token states.

        Args:
            made_by: Name and options of the encoder, as the corpus records them: for example `NAME:layer=4,pooling=words`.

        Raises:
            ConfigError: the encoder is not a BERT model, or its upper layers differ from the configuration in number or size.
            CheckpointError: the encoder cannot be found or read.
        """
        name, options = split_options(made_by)
        folder = find_encoder(name)
        config = model_config(folder)
        if not is_bert(config):
            raise ConfigError(
                f"inputs.text_layers: expected an encoder with the architecture of BERT, found {config.get('model_type')!r} ({name})"
            )
        with reading_model(folder):
            bert = Bert(config, load_tensors(folder / "model.safetensors")[0])
        depth = len(bert.encode.layers)
        layer = int(options.get("layer", -1)) % (depth + 1)
        if options.get("pooling") != "words" or depth - layer != self.config.layers:
            raise ConfigError(
                f"inputs.text_layers.layers: expected text features made by `erc-graph features --pooling words --layer "
                f"{depth - self.config.layers}`, the hidden states of every token at this layer, found features made by {made_by!r}"
            )
        given = {name: value.shape for name, value in bert.encode.layers[layer:].state_dict().items()}
        own = {name: value.shape for name, value in self.layers.layers.state_dict().items()}
        if given != own or bert.encode.layers[0].self_attn.num_heads != self.config.heads:
            heads, hidden = config["num_attention_heads"], config["intermediate_size"]
            raise ConfigError(
                f"inputs.text_layers: expected heads = {heads} and hidden = {hidden}, the values of {name}, found other values; "
                "give these values to the options inputs.text_layers.heads and inputs.text_layers.hidden"
            )
        self.layers.layers.load_state_dict(bert.encode.layers[layer:].state_dict())

    def forward(self, words: Ragged) -> Tensor:
        """Compute one vector per utterance, `(U, width)`; zero for an utterance without words."""
        return encode_sequences(self._pooled, words, self.width, TOKENS)

    def _pooled(self, padded: Tensor, mask: Tensor) -> Tensor:
        return masked_mean(self.layers(padded, src_key_padding_mask=~mask), mask)


def made_by(provenance: Mapping[str, object], modality: str) -> str:
    """Return the name of the encoder that computed the vectors of a modality, as the corpus records it.

    Raises:
        ConfigError: the corpus does not name the encoder.
    """
    extractors = provenance.get("extractors")
    if not isinstance(extractors, Mapping) or modality not in extractors:
        raise ConfigError(
            f"inputs.text_layers: expected the extractor of sequences.{modality} in the corpus, found none; compute the features with "
            "erc-graph features, or name the extractor in [extractors] of corpus.toml"
        )
    return str(extractors[modality])
