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
from starter.train import FOLDS, WHOLE, pack_encoder, settings


def test_the_settings_are_those_of_the_package() -> None:
    own = settings()
    assert own["chosen"] in own["graphs"] and own["seeds"]
    assert all(TuningConfig(**own["encoder"][name]).lora for name in (FOLDS, WHOLE)) and TrainingConfig(**own["training"])
    for graph in own["graphs"].values():
        assert METHODS[graph["method"]].Config(causal=True, **graph.get("pipeline", {}))


def test_the_packed_encoder_is_half_as_large_and_names_nothing_that_it_saw(tmp_path: Path) -> None:
    folder, weight = tmp_path / "whole", torch.randn(4, 300)
    (folder / "all").mkdir(parents=True)
    (folder / "all" / ADAPTER_CONFIG).write_text("{}")
    save_tensors(folder / "all" / ADAPTER, {"a": weight})
    save_tensors(folder / "all" / HEAD, {"weight": weight}, {"development": "[0.5]"})
    (folder / ABOUT).write_text(json.dumps({"model": "base", "members": {"all": []}}))
    pack_encoder(folder, tmp_path / "packed")
    assert json.loads((tmp_path / "packed" / ABOUT).read_text()) == {"model": "base", "members": {"all": []}}
    packed = load_tensors(tmp_path / "packed" / "all" / ADAPTER)[0]["a"]
    assert packed.dtype == torch.float16 and torch.allclose(packed.float(), weight, atol=2e-3)
    assert torch.equal(load_tensors(tmp_path / "packed" / "all" / HEAD)[0]["weight"], weight)
