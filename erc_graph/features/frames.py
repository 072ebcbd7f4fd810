"""Pretrained image models of the libraries transformers (for example ResNet, EfficientNet and ViT) and timm (for example DenseNet)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from erc_graph.errors import CheckpointError, ConfigError
from erc_graph.features.pretrained import pretrained
from erc_graph.features.text import find_model, revision
from erc_graph.features.tokens import read_json

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet


class FrameEncoder:
    """A pretrained image model that computes one vector per image.

    The vector is the output of the pooling layer of the model. Without a pooling layer, the vector is the mean over image positions.

    Args:
        name: Folder of the model, or its name on the Hugging Face hub. `timm:NAME` is a model of timm; `timm:NAME@FILE` loads its weights
            from a safetensors file.
        device: Device of the computation.
        precision: Precision of matrix products: `bf16` (16 bits) or `no` (32 bits).

    Attributes:
        width: Width of the vector of an image.
        revision: Version of the model.

    Raises:
        CheckpointError: the model is not found, is damaged, or is not an image model.
        ConfigError: timm is not installed, or has no model of this name.
    """

    def __init__(self, name: str, *, device: torch.device | str = "cpu", precision: Literal["no", "bf16"] = "no") -> None:
        self.device, self.precision = torch.device(device), precision
        self.see, size, mean, deviation, self.revision = _timm(name, self.device) if name.startswith("timm:") else _model(name, self.device)
        self.size = size
        self.mean = torch.tensor(mean, device=self.device).view(3, 1, 1)
        self.deviation = torch.tensor(deviation, device=self.device).view(3, 1, 1)
        self.width = self(torch.zeros(1, 3, *size, dtype=torch.uint8)).shape[1]

    @torch.no_grad()
    def __call__(self, pictures: Tensor, *, at_once: int = 32) -> Tensor:
        """Compute the vectors `(T, width)` of images, float32 on the CPU.

        Args:
            pictures: Images `(T, 3, H, W)` uint8 of any size; they are resized to the input size of the model.
            at_once: Number of images per forward pass.
        """
        return torch.cat([self._see(part) for part in pictures.split(at_once)])

    def _see(self, pictures: Tensor) -> Tensor:
        pixels = pictures.to(self.device).float() / 255
        if pixels.shape[-2:] != self.size:
            pixels = F.interpolate(pixels, size=self.size, mode="bilinear", antialias=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            return self.see((pixels - self.mean) / self.deviation).float().cpu()


Found = tuple[Callable[[Tensor], Tensor], tuple[int, int], tuple[float, ...], tuple[float, ...], str]


def _model(name: str, device: torch.device) -> Found:
    """Load a model of transformers, with the image size and the scaling of pixel values from its preprocessor file."""
    folder = find_model(name, "image model")
    model = pretrained(folder, device=device)
    if getattr(model, "main_input_name", "") != "pixel_values":
        raise CheckpointError(f"{folder}: expected an image model such as ResNet, EfficientNet or ViT, found {model.config.model_type}")
    path = folder / "preprocessor_config.json"
    said = read_json(path) if path.is_file() else {}
    size = _size(said.get("crop_size") or said.get("size") or getattr(model.config, "image_size", None) or 224, path)

    def see(pixels: Tensor) -> Tensor:
        answer = model(pixel_values=pixels)
        pooled = getattr(answer, "pooler_output", None)
        if pooled is not None:
            return pooled.flatten(1)
        states = answer.last_hidden_state
        return states.flatten(2).mean(2) if states.ndim == 4 else states.mean(1)

    return see, size, tuple(said.get("image_mean") or MEAN), tuple(said.get("image_std") or DEVIATION), revision(folder)


def _size(said: Any, path: Path) -> tuple[int, int]:
    if isinstance(said, dict):
        said = said.get("shortest_edge") or [said.get("height"), said.get("width")]
    height, width = said if isinstance(said, (list, tuple)) else (said, said)
    if not all(isinstance(side, int) and 1 <= side <= 4096 for side in (height, width)):
        raise CheckpointError(f"{path}: size: expected a height and width of 1 to 4096 pixels, found {said!r}")
    return height, width


def _timm(name: str, device: torch.device) -> Found:
    try:
        import timm
    except ImportError as error:
        raise ConfigError(
            f'models of timm need the package timm, and a torchvision that matches torch: pip install "erc_graph[timm]" ({error})'
        ) from None
    kind, _, file = name.removeprefix("timm:").partition("@")
    if kind not in timm.list_models():
        raise ConfigError(f"model: expected a model of timm such as timm:densenet121, found {name[:80]!r}; timm.list_models() lists them")
    if file and Path(file).suffix != ".safetensors":
        raise ConfigError(f"model: expected the path of a .safetensors file after @, found {file!r}")
    try:
        model = timm.create_model(kind, pretrained=not file, num_classes=0, checkpoint_path=file).eval().to(device)
    except Exception as error:  # of the hub, of the file, of the model
        reason = f"{type(error).__name__}: {error}".split("\n")[0][:160]
        raise CheckpointError(
            f"{name}: the weights were found neither on the hub nor in a file ({reason}); download the file model.safetensors "
            f"of this model, and give the model as timm:{kind}@model.safetensors"
        ) from None
    data = timm.data.resolve_model_data_config(model)
    return model, tuple(data["input_size"][1:]), data["mean"], data["std"], f"timm {timm.__version__}"
