"""Files of a pretrained model that ask for what its weights cannot fill are refused before anything is built."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from erc_graph.errors import CheckpointError
from erc_graph.features.model_config import model_config
from erc_graph.features.pretrained import pretrained
from erc_graph.features.text import TextEncoder
from tests.features.conftest import causal

ROOM = "expected a limit of 3 tokens or more per text, so that a text has room for a word, found a limit of"


@pytest.fixture
def folder(tiny_encoder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_encoder, tmp_path / "encoder"))


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("num_hidden_layers", 10**9, "num_hidden_layers: expected 0 to 39, according to the weights of the model, found 1000000000"),
        ("hidden_size", 41, "hidden_size: expected 0 to 40, according to the weights of the model, found 41"),
        ("num_attention_heads", -1, "num_attention_heads: expected 0 to 40"),
        ("intermediate_size", 10**20, "intermediate_size: expected 0 to 40"),
        ("vocab_size", 10**9, "vocab_size: expected 0 to 262144"),
        ("max_position_embeddings", 10**9, "max_position_embeddings: expected 0 to 262144"),
        ("layer_norm_eps", float("nan"), "layer_norm_eps: expected a number from 0 to 1, found nan"),
        ("layer_norm_eps", -1, "layer_norm_eps: expected a number from 0 to 1, found -1"),
        ("text_config", {"num_layers": 10**9}, "num_layers: expected 0 to 39"),
        ("pad_token_id", 10**9, "pad_token_id: expected -1 to 39"),
        ("depths", [2, 10**9], "depths: expected 0 to 39"),
    ],
)
def test_numbers_that_the_weights_cannot_fill(name: str, value: object, found: str, folder: Path) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), name: value}))
    for read in (model_config, pretrained, lambda folder: TextEncoder(str(folder))):
        with pytest.raises(CheckpointError, match=re.escape(found)):
            read(folder)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "qwen2"])
def test_honest_ones_pass(kind: str, tiny_encoder: Path, tmp_path: Path) -> None:
    assert model_config(tiny_encoder)["num_hidden_layers"] == 2
    assert model_config(causal(kind, tmp_path / kind, tiny_encoder))["model_type"] == kind


@pytest.mark.parametrize(
    ("file", "content", "found"),
    [
        ("config.json", "3", "config.json: expected a JSON object, found 3"),
        ("modules.json", "3", "modules.json: expected a JSON array, found 3"),
        ("1_Pooling/config.json", "[3]", "1_Pooling/config.json: expected a JSON object, found [3]"),
        ("1_Pooling/config.json", "3", "1_Pooling/config.json: expected a JSON object, found 3"),
        ("sentence_bert_config.json", '{"max_seq_length": -5}', f"{ROOM} -5 in the files of the model"),
        ("sentence_bert_config.json", '{"max_seq_length": 2}', f"{ROOM} 2 in the files of the model"),
        ("sentence_bert_config.json", '{"max_seq_length": Infinity}', "max_seq_length: expected a number of tokens, found inf"),
        ("tokenizer_config.json", '{"model_max_length": "9"}', "model_max_length: expected a number of tokens, found '9'"),
    ],
)
def test_files_of_another_kind(file: str, content: str, found: str, folder: Path) -> None:
    (folder / file).write_text(content)
    with pytest.raises(CheckpointError, match=re.escape(found)):
        TextEncoder(str(folder))


def test_a_limit_beyond_all_others_is_none(folder: Path) -> None:
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 1000000000000000019884624838656}')  # as transformers writes it
    assert TextEncoder(str(folder)).longest == 32
