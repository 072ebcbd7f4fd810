"""Models that were saved in version 1 give the scores that they gave then.

`version_1/` was written by the last commit that saved in version 1: 53 small pipelines with random weights, the conversations that they
were asked about, and their scores.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from erc_graph.data.batch import Batch
from erc_graph.data.files.storage import load_tensors
from erc_graph.data.ragged import Ragged
from erc_graph.errors import CheckpointError
from erc_graph.inference.pipeline import Pipeline

FOLDER = Path(__file__).parent / "version_1"
MODELS = json.loads((FOLDER / "models.json").read_text(encoding="utf-8"))


def test_there_are_models() -> None:
    assert len(MODELS) == 53
    assert {model["config"]["pipeline"] for model in MODELS.values()} == {"BiGRU", "HFF", "MFDR", "Pairwise", "WavFusion"}


@pytest.fixture(scope="module")
def tensors() -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    return load_tensors(FOLDER / "models.safetensors")[0], load_tensors(FOLDER / "scores.safetensors")[0]


# What cannot be said any more, and the words in which it is refused.
GONE = {
    "hff-nodes": "config.nodes: expected 'fused', found 'modalities': this option is gone",
    "shared-gru": "config.mff.shared_gru: expected False, found True: this option is gone",
    "forward-speaker-relative": "pipeline.causal: expected parts that read no later turns, found inputs.speaker_relative",
}


@pytest.mark.parametrize("name", GONE)
def test_options_that_are_gone_are_named(name: str, tensors: tuple[dict[str, torch.Tensor], ...], tmp_path: Path) -> None:
    write(name, tensors[0], tmp_path)
    with pytest.raises(CheckpointError, match=re.escape(GONE[name])):
        Pipeline.from_pretrained(tmp_path)


def write(name: str, weights: dict[str, torch.Tensor], folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps(MODELS[name]["config"]))
    own = {key.removeprefix(f"{name}/"): value for key, value in weights.items() if key.startswith(f"{name}/")}
    save_file(own, folder / "model.safetensors", {"format": "pt", "kind": "erc_graph weights"})


@pytest.mark.parametrize("name", [name for name in MODELS if name not in GONE])
def test_scores_are_those_of_version_1(name: str, tensors: tuple[dict[str, torch.Tensor], ...], tmp_path: Path) -> None:
    weights, recorded = tensors
    write(name, weights, tmp_path)
    pipeline = Pipeline.from_pretrained(tmp_path)
    given = {key.removeprefix("inputs/"): value for key, value in recorded.items() if key.startswith("inputs/")}
    batch = Batch(
        **{key: given[key] for key in ("ptr", "speaker", "target", "judged")},
        row=torch.arange(len(given["speaker"])),
        features={key.removeprefix("features."): value for key, value in given.items() if key.startswith("features.")},
        present={key.removeprefix("present."): value for key, value in given.items() if key.startswith("present.")},
        sequences={to: Ragged(given[f"{kind}.values"], given[f"{kind}.ptr"]) for to, kind in MODELS[name]["sequences"].items()},
    )
    with torch.no_grad():
        scores = pipeline(batch).scores
    torch.testing.assert_close(scores, recorded[f"scores/{name}"], rtol=0, atol=1e-6)
