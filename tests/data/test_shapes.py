from __future__ import annotations

import subprocess
import sys

import torch
from torch import nn

from erc_graph.data.shapes import shapes_only


def test_a_module_of_shapes_takes_weights() -> None:
    def build() -> nn.Module:
        parts = [
            nn.Embedding(7, 4),
            nn.Linear(4, 4),
            nn.LayerNorm(4),
            nn.GRU(4, 3),
            nn.MultiheadAttention(4, 2),
            nn.TransformerEncoderLayer(4, 2),
        ]
        return nn.ModuleList(parts)

    real = build()
    with shapes_only():
        empty = build()
    assert all(value.is_meta for value in empty.state_dict().values())
    empty.load_state_dict(real.state_dict(), assign=True)
    assert all(torch.equal(value, real.state_dict()[name]) for name, value in empty.state_dict().items())
    assert torch.zeros(1).device.type == "cpu"


def test_the_compiler_is_not_imported() -> None:
    code = """
import sys, torch
from erc_graph.data.shapes import shapes_only
with shapes_only():
    torch.nn.Embedding(7, 4), torch.nn.Linear(4, 4), torch.nn.LSTM(4, 4), torch.nn.TransformerEncoderLayer(4, 2)
assert "torch._dynamo" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
