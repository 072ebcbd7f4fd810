from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from erc_graph.data.files.storage import load_tensors
from erc_graph.features.bert import Bert, is_bert


def test_token_states_equal_those_of_transformers(tiny_encoder: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = json.loads((tiny_encoder / "config.json").read_text())
    weights, _ = load_tensors(tiny_encoder / "model.safetensors")
    model = transformers.BertModel.from_pretrained(tiny_encoder).eval()
    tokens = torch.randint(4, 15, (3, 9))
    mask = torch.arange(9) < torch.tensor([[9], [5], [1]])
    with torch.no_grad():
        expected = model(input_ids=tokens, attention_mask=mask.long()).last_hidden_state
        for names in (weights, {f"bert.{name}": value for name, value in weights.items()}):
            states = Bert(config, names)(tokens, mask)
            torch.testing.assert_close(states[mask], expected[mask], atol=1e-5, rtol=0)


def test_only_what_is_computed_exactly_is_claimed() -> None:
    plain = {"model_type": "bert", "hidden_act": "gelu"}
    assert is_bert(plain)
    for other in ({"model_type": "roberta"}, {"hidden_act": "relu"}, {"position_embedding_type": "relative_key"}, {"is_decoder": True}):
        assert not is_bert({**plain, **other})
