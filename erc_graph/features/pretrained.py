"""Loading of models of the transformers library. Weights are loaded only from safetensors files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch

from erc_graph.data.files.budget import admit
from erc_graph.errors import CheckpointError, ConfigError
from erc_graph.features.model_config import model_config

Precision = Literal["no", "bf16"]
Quantize = Literal["no", "8bit", "4bit"]


def pretrained(folder: Path, *, precision: Precision = "no", quantize: Quantize = "no", device: torch.device | str = "cpu") -> Any:
    """Load a model of the library transformers from a folder, in evaluation mode.

    The function reads no Python pickle files, and runs no code from the folder.

    Args:
        folder: Folder with `config.json` and `model.safetensors`, or with several `model-*.safetensors`.
        precision: `bf16`: weights that are stored in 16 bits are loaded as bf16, all others as float32. `no`: all weights are loaded as
            float32.
        quantize: `8bit` or `4bit`: number of bits of the weight matrices (bitsandbytes); `no`: no quantization.
        device: Device of the model.

    Raises:
        CheckpointError: the model cannot be loaded, or the folder contains anything except ordinary files and folders.
        ConfigError: quantization is requested without a GPU or bitsandbytes.
    """
    device, said = torch.device(device), model_config(folder)
    options: dict[str, Any] = {"torch_dtype": torch.bfloat16 if precision == "bf16" and _in_sixteen_bits(said) else torch.float32}
    if quantize != "no":
        options |= _quantized(quantize, device)
    from transformers import AutoModel

    for part in folder.glob("*"):  # transformers opens what it likes
        if part.exists() and not part.is_dir():
            admit(part, CheckpointError)
    with silent():
        try:
            model = AutoModel.from_pretrained(folder, use_safetensors=True, trust_remote_code=False, **options)
        except Exception as error:  # of several libraries; a foreign file can raise anything
            reason = f"{type(error).__name__}: {error}".split("\n")[0][:200]
            raise CheckpointError(
                f"{folder}: this folder is incomplete, damaged, or not a model that transformers knows ({reason})"
            ) from None
    model.config.use_cache = False  # of keys and values, for texts that are continued; none is here
    return model if quantize != "no" else model.to(device)


def _in_sixteen_bits(said: dict[str, Any]) -> bool:
    return any(said.get(key) in ("bfloat16", "float16") for key in ("dtype", "torch_dtype"))


def _quantized(quantize: Quantize, device: torch.device) -> dict[str, Any]:
    """Return the quantization settings for transformers.

    Raises:
        ConfigError: there is no GPU, or bitsandbytes is not installed.
    """
    lacking = "no GPU" if device.type != "cuda" else "" if find_spec("bitsandbytes") else "no bitsandbytes"
    if lacking:
        raise ConfigError(
            f"quantize: expected a CUDA GPU and the package bitsandbytes for {quantize}, found {lacking}; pip install bitsandbytes on a "
            "machine with a GPU, or omit --quantize"
        )
    from transformers import BitsAndBytesConfig

    if quantize == "8bit":
        said = BitsAndBytesConfig(load_in_8bit=True)
    else:  # as in QLoRA (Dettmers et al., NeurIPS 2023)
        said = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)
    return {"quantization_config": said, "device_map": {"": device}}


@contextmanager
def silent() -> Iterator[None]:
    """Switch off progress bars and warnings of the library transformers within a `with` block."""
    from transformers.utils import logging

    shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()
