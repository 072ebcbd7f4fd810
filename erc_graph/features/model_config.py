"""Reading of the `config.json` of a pretrained model, with a check that the sizes in the file match the weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from erc_graph.data.files.storage import load_tensors
from erc_graph.errors import CheckpointError, ErcGraphError, shortened
from erc_graph.features.tokens import read_json

# Names of transformers, by what they count.
_LAYERS = {"num_hidden_layers", "num_layers", "n_layers", "n_layer", "encoder_layers", "decoder_layers", "num_decoder_layers", "depths"}
_WIDTHS = {
    "hidden_size", "hidden_sizes", "intermediate_size", "d_model", "d_ff", "d_kv", "n_embd", "n_inner", "dim", "hidden_dim",
    "embedding_size", "encoder_ffn_dim", "decoder_ffn_dim", "num_attention_heads", "num_key_value_heads", "num_heads", "n_heads",
    "n_head", "type_vocab_size", "encoder_attention_heads", "decoder_attention_heads", "conv_dim",
}  # fmt: skip
_WORDS, _POSITIONS = {"vocab_size"}, {"max_position_embeddings", "n_positions", "max_source_positions"}
_WITHOUT = 1 << 18  # words and positions that a model may have without a row of a tensor for each


def model_config(folder: Path) -> dict[str, Any]:
    """Read the `config.json` of a model.

    Raises:
        CheckpointError: the file is missing, is not a JSON object, or has sizes that do not match the weights of the model.
    """
    path = folder / "config.json"
    config = read_json(path)
    shapes = [tensor.shape for part in sorted(folder.glob("model*.safetensors")) for tensor in load_tensors(part)[0].values()]
    if shapes:
        longest = max(max(shape, default=1) for shape in shapes)
        values = sum(shape.numel() for shape in shapes)
        most = {
            **dict.fromkeys(_LAYERS, len(shapes)), **dict.fromkeys(_WIDTHS, longest), **dict.fromkeys(_WORDS, max(longest, _WITHOUT)),
            **dict.fromkeys(_POSITIONS, max(values, _WITHOUT)), "pad_token_id": longest - 1,
        }  # fmt: skip
        _check(path, config, most)
    return config


def _check(path: Path, config: Mapping[str, Any], most: Mapping[str, int]) -> None:
    """Check that the numbers in a `config.json` are in the allowed ranges.

    Raises:
        CheckpointError: a number is out of range; the message names the first such number.
    """
    for name, value in config.items():
        if isinstance(value, dict):
            _check(path, value, most)  # of one of several parts, such as `text_config`
        least = -1 if name == "pad_token_id" else 0  # -1: no padding
        for number in value if isinstance(value, list) else [value]:
            if name in most and isinstance(number, int | float) and not least <= number <= most[name]:
                raise CheckpointError(
                    f"{path}: {name}: expected {least} to {most[name]}, according to the weights of the model, found {shortened(number)}"
                )
            if name.endswith(("_eps", "_epsilon")) and isinstance(number, int | float) and not 0 <= number < 1:
                raise CheckpointError(f"{path}: {name}: expected a number from 0 to 1, found {shortened(number)}")


@contextmanager
def reading_model(folder: Path) -> Iterator[None]:
    """Convert exceptions within a `with` block, which reads the files of a text encoder, to an error with a message of one line.

    Raises:
        CheckpointError: an exception occurred that is not an `ErcGraphError`.
    """
    try:
        yield
    except ErcGraphError:
        raise
    except Exception as error:  # tokenizers raises plain Exceptions; config and tensors of a foreign file anything
        reason = f"{type(error).__name__}: {error}".split("\n")[0][:200]
        raise CheckpointError(f"{folder}: this folder is incomplete, damaged, or not a text encoder ({reason})") from None
