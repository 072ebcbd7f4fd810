"""In which numbers a model of transformers is loaded."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch

from erc_graph.errors import CheckpointError, ConfigError
from erc_graph.features import pretrained as module
from erc_graph.features.pretrained import pretrained
from erc_graph.features.text import TextEncoder
from tests.features.conftest import causal

transformers = pytest.importorskip("transformers")


def test_sixteen_bits_where_they_are_stored_and_wanted(tiny_encoder: Path, tmp_path: Path) -> None:
    folder = causal("qwen2", tmp_path / "lm", tiny_encoder)
    assert {value.dtype for value in pretrained(folder, precision="bf16").parameters()} == {torch.float32}
    expected = TextEncoder(str(folder))(["we won !"])
    transformers.AutoModelForCausalLM.from_pretrained(folder).to(torch.float16).save_pretrained(folder, max_shard_size="10KB")
    assert len(list(folder.glob("*.safetensors"))) > 1  # in parts, as large ones are
    model = pretrained(folder, precision="bf16")
    assert {value.dtype for value in model.parameters()} == {torch.bfloat16} and not model.training and not model.config.use_cache
    assert {value.dtype for value in pretrained(folder).parameters()} == {torch.float32}
    torch.testing.assert_close(TextEncoder(str(folder))(["we won !"]), expected, atol=2e-2, rtol=0)
    torch.testing.assert_close(TextEncoder(str(folder), precision="bf16")(["we won !"]), expected, atol=0.1, rtol=0)


def test_quantized_where_there_is_no_gpu_or_no_library(tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"quantize: expected a CUDA GPU and the package bitsandbytes for 8bit, found no GPU; pip"):
        pretrained(tiny_encoder, quantize="8bit")
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"for 4bit, found no bitsandbytes; pip install bitsandbytes on a machine with a GPU"):
        pretrained(tiny_encoder, quantize="4bit", device="cuda")


def test_what_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="incomplete, damaged, or not a model that transformers knows"):
        pretrained(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "generation_config.json", "model.safetensors.index.json"])
def test_a_pipe_in_the_folder_is_not_waited_for(tiny_encoder: Path, tmp_path: Path, name: str) -> None:
    folder = shutil.copytree(tiny_encoder, tmp_path / "encoder")
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    with pytest.raises(CheckpointError, match=f"{name}: expected a regular file, found a named pipe"):
        pretrained(folder)
