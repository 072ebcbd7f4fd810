from __future__ import annotations

import json
from pathlib import Path

import torch

from erc_graph.data.files.storage import load_tensors, save_tensors
from erc_graph.features.fine_tuning import TuningConfig
from erc_graph.features.low_rank import ADAPTER, ADAPTER_CONFIG
from erc_graph.features.tuned_files import ABOUT, HEAD
from erc_graph.methods import METHODS
from erc_graph.training.config import TrainingConfig
from starter.train import pack_encoders, settings


def test_the_settings_are_those_of_the_package() -> None:
    own = settings()
    assert own["chosen"] in own["graphs"] and own["seeds"]
    assert TuningConfig(**own["encoder"]["tuning"]).lora and TrainingConfig(**own["training"])
    for graph in own["graphs"].values():
        assert METHODS[graph["method"]].Config(causal=True, **graph.get("pipeline", {}))


def test_packed_encoders_are_half_as_large_and_name_nothing_that_they_saw(tmp_path: Path) -> None:
    folder, weight = tmp_path / "encoders", torch.randn(4, 300)
    for name in ("fold-0", "fold-1"):
        (folder / name).mkdir(parents=True)
        (folder / name / ADAPTER_CONFIG).write_text("{}")
        save_tensors(folder / name / ADAPTER, {"a": weight})
        save_tensors(folder / name / HEAD, {"weight": weight}, {"development": "[0.5]"})
    (folder / ABOUT).write_text(json.dumps({"model": "base", "members": {"fold-0": ["secret-1"], "fold-1": ["secret-2"]}}))
    pack_encoders(folder, tmp_path / "packed")
    assert json.loads((tmp_path / "packed" / ABOUT).read_text()) == {"model": "base", "members": {"fold-0": [], "fold-1": []}}
    assert not any(b"secret" in file.read_bytes() for file in (tmp_path / "packed").rglob("*") if file.is_file())
    packed = load_tensors(tmp_path / "packed" / "fold-1" / ADAPTER)[0]["a"]
    assert packed.dtype == torch.float16 and torch.allclose(packed.float(), weight, atol=2e-3)
    assert torch.equal(load_tensors(tmp_path / "packed" / "fold-1" / HEAD)[0]["weight"], weight)
