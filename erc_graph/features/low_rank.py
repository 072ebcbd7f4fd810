r"""Low-rank fine-tuning of an encoder (Hu et al., *LoRA*, ICLR 2022).

The weight matrices `W` are frozen, and low-rank matrices `A` and `B` are trained.

.. math:: W' = W + \frac{\alpha}{r} B A, \qquad A \in \mathbb{R}^{r \times \text{inputs}}, \; B \in \mathbb{R}^{\text{outputs} \times r}

Here :math:`r` is the rank. The library peft trains `A` and `B` for all linear layers, with :math:`\alpha = 2r`. The files have the format
of peft, and contain only `A` and `B`, not `W`. Several encoders that are fine-tuned from the same encoder therefore need little space. A
BERT is loaded without peft, by computing :math:`W'`.
"""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from erc_graph.data.files.storage import load_tensors, save_tensors, write_json
from erc_graph.errors import CheckpointError, ConfigError
from erc_graph.features.bert import Bert, is_bert
from erc_graph.features.pretrained import Precision, Quantize, pretrained
from erc_graph.features.tokens import read_json

ADAPTER, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"  # peft's names
SCALE = 2  # α / r
_STEM = "base_model.model."
_FIXED = {"peft_type": "LORA", "bias": "none", "inference_mode": True}

States = Callable[[Tensor, Tensor], Tensor]  # token ids and mask, `(n, L)` → `(n, L, width)`


@dataclass(frozen=True)
class LowRank:
    r"""The low-rank matrices of one fine-tuned encoder.

    Attributes:
        rank: The rank `r`.
        scale: Factor of the product `B A`, which is :math:`\alpha / r` in the paper of LoRA.
        targets: Names of the layers that have low-rank matrices.
        matrices: Name of a matrix in peft → matrix `A` `(r, inputs)` or matrix `B` `(outputs, r)` of a linear layer.
    """

    rank: int
    scale: float
    targets: tuple[str, ...]
    matrices: Mapping[str, Tensor]


def linear_layers(model: nn.Module) -> list[str]:
    """Return the names of the linear layers of a model, without the pooler, whose output is not used."""
    from transformers.pytorch_utils import Conv1D

    names = [name for name, part in model.named_modules() if isinstance(part, nn.Linear | Conv1D)]
    return [name for name in names if "pooler" not in name.split(".")]


def add_low_rank(model: nn.Module, rank: int) -> None:
    """Add low-rank matrices to the linear layers of a model, in place.

    Only the low-rank matrices are trained. At the beginning, the product of the matrices is zero, so the output of the model does not
    change.

    Raises:
        ConfigError: peft is not installed, or the model has no linear layer.
    """
    with _quiet() as peft:
        peft.inject_adapter_in_model(_config(model, rank, linear_layers(model)), model)


def with_low_rank(model: nn.Module, rank: int) -> Any:
    """Return a model of the library peft with low-rank matrices, which `save_low_rank` can save; see `add_low_rank`.

    Raises:
        ConfigError: peft is not installed, or the model has no linear layer.
    """
    with _quiet() as peft:
        return peft.get_peft_model(model, _config(model, rank, linear_layers(model)))


def save_low_rank(folder: Path, model: Any, base: str | None) -> None:
    """Write the low-rank matrices of a model from `with_low_rank` to two files in the format of peft.

    Args:
        folder: The folder to write.
        model: The model of peft.
        base: Name of the pretrained encoder on the Hugging Face hub; `None` if the encoder is a folder.
    """
    with _quiet() as peft:
        matrices = peft.get_peft_model_state_dict(model, save_embedding_layers=False)
    said = model.peft_config["default"]
    targets = sorted({name.removeprefix(_STEM).rpartition(".lora_")[0] for name in matrices})
    about = {
        **_FIXED, "base_model_name_or_path": base, "r": said.r, "lora_alpha": said.lora_alpha, "fan_in_fan_out": said.fan_in_fan_out,
        "target_modules": targets,
    }  # fmt: skip
    write_json(folder / ADAPTER_CONFIG, about)
    save_tensors(folder / ADAPTER, matrices, {"format": "pt"})


def read_low_rank(folder: Path) -> LowRank:
    """Read the files that `save_low_rank` wrote.

    Raises:
        CheckpointError: the files are missing or damaged, or use settings of peft that are not supported.
    """
    about, (matrices, _) = read_json(folder / ADAPTER_CONFIG), load_tensors(folder / ADAPTER)
    known = {*_FIXED, "base_model_name_or_path", "r", "lora_alpha", "fan_in_fan_out", "target_modules"}
    try:
        if {key: about.get(key) for key in _FIXED} != _FIXED or not set(about) <= known:
            raise ValueError("the file has settings that are not supported")
        rank, alpha, targets = about["r"], about["lora_alpha"], about["target_modules"]
        if type(rank) is not int or rank < 1 or type(alpha) not in (int, float) or not all(isinstance(name, str) for name in targets):
            raise ValueError("r, lora_alpha or target_modules has an invalid value")
        if not math.isfinite(scale := alpha / rank):
            raise ValueError(f"lora_alpha: expected a finite number, found {alpha}")
        names = {f"{_STEM}{target}.lora_{side}.weight": axis for target in targets for side, axis in (("A", 0), ("B", 1))}
        wrong = [name for name, axis in names.items() if matrices[name].ndim != 2 or matrices[name].shape[axis] != rank]
        wrong += [name for name, value in matrices.items() if name not in names or not value.isfinite().all()]
        if wrong or not targets:
            raise ValueError(f"{wrong[0] if wrong else 'target_modules'}: expected two matrices of rank {rank} for every layer")
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{folder}: expected low-rank matrices as `erc-graph features --fine-tune --lora` writes them, found a problem: "
            f"{str(error)[:120]}"
        ) from None
    return LowRank(rank, scale, tuple(targets), matrices)


def merged(weights: Mapping[str, Tensor], low: LowRank) -> dict[str, Tensor]:
    """Add the low-rank products to the weight matrices of an encoder.

    The result is a dictionary: name of a weight in the library transformers, without the prefix `bert.` → tensor.

    Raises:
        CheckpointError: the matrices belong to another encoder.
    """
    found = {name.removeprefix("bert."): value for name, value in weights.items()}
    try:
        for target in low.targets:
            a, b = (low.matrices[f"{_STEM}{target}.lora_{side}.weight"].float() for side in "AB")
            found[f"{target}.weight"] = torch.addmm(found[f"{target}.weight"].float(), b, a, alpha=low.scale)
    except (KeyError, RuntimeError) as error:
        raise _foreign(error) from None
    return found


def low_rank_states(
    base: Path,
    config: Mapping[str, Any],
    tuned: Mapping[str, LowRank],
    device: torch.device,
    precision: Precision = "no",
    quantize: Quantize = "no",
) -> tuple[dict[str, States], int]:
    """Load encoders that were fine-tuned from the same pretrained encoder.

    The first result maps the name of each encoder to a function that computes the token states of the last layer. The second result is the
    width of a state. All functions share the weights of the pretrained encoder.

    Args:
        base: Folder of the pretrained encoder.
        config: Content of the `config.json` of the pretrained encoder.
        tuned: Name of a fine-tuned encoder → low-rank matrices.
        device: Device of the computation.
        precision: Precision of matrix products during fine-tuning, `bf16` or `no`.
        quantize: Number of bits of weight matrices during fine-tuning: `8bit`, `4bit` or `no` (no quantization).

    Raises:
        CheckpointError: the matrices belong to another encoder.
        ConfigError: the encoder is not a BERT, and peft is not installed.
    """
    if is_bert(config) and quantize == "no":
        bert = _Merged(config, load_tensors(base / "model.safetensors")[0], tuned, device)
        return {name: bert.of(name) for name in tuned}, int(config["hidden_size"])
    model = _Beside(pretrained(base, precision=precision, quantize=quantize, device=device), tuned)
    return {name: model.of(name) for name in tuned}, model.width


class _Merged:
    """A BERT with the weights of one fine-tuned encoder: the encoder that was used last."""

    def __init__(
        self, config: Mapping[str, Any], weights: Mapping[str, Tensor], tuned: Mapping[str, LowRank], device: torch.device
    ) -> None:
        self.config, self.weights, self.tuned, self.device = config, weights, tuned, device
        self.last = self._made(next(iter(tuned)))

    def _made(self, name: str) -> tuple[str, Bert]:
        return name, Bert(self.config, merged(self.weights, self.tuned[name])).to(self.device)

    def of(self, name: str) -> States:
        def states(ids: Tensor, mask: Tensor) -> Tensor:
            last = self.last  # read once: another thread may ask for another encoder meanwhile
            if last[0] != name:
                self.last = last = self._made(name)
            return last[1](ids, mask)

        return states


class _Beside:
    """A model of transformers with the low-rank matrices of all fine-tuned encoders. One encoder is active at a time."""

    def __init__(self, model: nn.Module, tuned: Mapping[str, LowRank]) -> None:
        self.width, self.one = int(model.config.hidden_size), threading.Lock()  # type: ignore[union-attr, arg-type]
        self.names = {name: f"number_{number}" for number, name in enumerate(tuned)}  # peft's names have no dot
        with _quiet() as peft:
            for (name, low), inner in zip(tuned.items(), self.names.values(), strict=True):
                config = _config(model, low.rank, list(low.targets), low.scale)
                try:
                    if inner == "number_0":
                        self.model = peft.get_peft_model(model, config, adapter_name=inner)
                    else:
                        self.model.add_adapter(inner, config)
                    expected = peft.get_peft_model_state_dict(self.model, adapter_name=inner, save_embedding_layers=False)
                    if expected.keys() != low.matrices.keys():
                        raise ValueError(f"{name}: other layers")
                    peft.set_peft_model_state_dict(self.model, dict(low.matrices), adapter_name=inner)
                except (KeyError, RuntimeError, ValueError) as error:
                    raise _foreign(error) from None
        self.model.eval()

    def of(self, name: str) -> States:
        def states(ids: Tensor, mask: Tensor) -> Tensor:
            with self.one:
                self.model.set_adapter(self.names[name])
                found: Tensor = self.model(input_ids=ids, attention_mask=mask.long()).last_hidden_state
            return found

        return states


def _foreign(error: Exception) -> CheckpointError:
    reason = " ".join(str(error).split())[:120]
    return CheckpointError(f"the low-rank matrices belong to another encoder ({reason}); give the encoder that was fine-tuned")


def _config(model: nn.Module, rank: int, targets: list[str], scale: float = SCALE) -> Any:
    """Return the configuration for peft.

    Raises:
        ConfigError: the model has no linear layers.
    """
    from transformers.pytorch_utils import Conv1D

    if not targets:
        raise ConfigError(f"lora: expected a model with linear layers, found {type(model).__name__}, which has none; omit --lora")
    import peft

    turned = any(isinstance(part, Conv1D) for part in model.modules())  # GPT-2's matrices are stored the other way round
    alpha = int(scale * rank) if float(scale * rank).is_integer() else scale * rank
    return peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets, fan_in_fan_out=turned)


@contextmanager
def _quiet() -> Iterator[Any]:
    """Import the library peft, and suppress its warnings within a `with` block.

    Raises:
        ConfigError: peft is not installed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import peft
        except ImportError as error:
            raise ConfigError(f'low-rank fine-tuning needs peft, which is not installed: pip install "erc_graph[lora]" ({error})') from None
        yield peft
