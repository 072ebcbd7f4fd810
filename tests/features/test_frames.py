from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from erc_graph.errors import CheckpointError, ConfigError
from erc_graph.features.frames import FrameEncoder

transformers = pytest.importorskip("transformers")
KINDS = {
    "resnet": {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"},
    "efficientnet": {"width_coefficient": 0.1, "depth_coefficient": 0.1, "image_size": 32, "hidden_dim": 128},
    "vit": {
        "hidden_size": 12,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "image_size": 32,
        "patch_size": 8,
    },
}
PICTURES = torch.randint(0, 256, (5, 3, 40, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_are_those_of_transformers(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(kind, **KINDS[kind])
    transformers.AutoModel.from_config(config).save_pretrained(tmp_path)
    said = {"size": {"height": 32, "width": 32}, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.1, 0.2, 0.3]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    see = FrameEncoder(str(tmp_path))
    pixels = torch.nn.functional.interpolate(PICTURES.float() / 255, size=(32, 32), mode="bilinear", antialias=True)
    pixels = (pixels - torch.tensor(said["image_mean"]).view(3, 1, 1)) / torch.tensor(said["image_std"]).view(3, 1, 1)
    with torch.no_grad():
        expected = transformers.AutoModel.from_pretrained(tmp_path).eval()(pixel_values=pixels).pooler_output.flatten(1)
    torch.testing.assert_close(see(PICTURES, at_once=2), expected, atol=1e-5, rtol=1e-4)
    assert see.width == expected.shape[1] and see.revision.startswith("sha256:")


def test_what_is_no_image_model(tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError, match="expected an image model such as ResNet, EfficientNet or ViT, found bert"):
        FrameEncoder(str(tiny_encoder))
    with pytest.raises(CheckpointError, match=r"image model './nothing': no such folder"):
        FrameEncoder("./nothing")
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ConfigError, match=r'pip install "erc_graph\[timm\]"'):
        FrameEncoder("timm:densenet121")


def test_timm(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    from safetensors.torch import save_file

    model = timm.create_model("test_resnet", pretrained=False, num_classes=0).eval()
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    see = FrameEncoder(f"timm:test_resnet@{tmp_path / 'model.safetensors'}")
    assert see(PICTURES).shape == (5, model.num_features)
    with pytest.raises(ConfigError, match="expected a model of timm such as timm:densenet121, found 'timm:none'"):
        FrameEncoder("timm:none")
