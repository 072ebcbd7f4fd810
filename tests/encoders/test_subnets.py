"""Modality nets of fusion methods, against loops over utterances."""

from __future__ import annotations

import torch
from torch import Tensor

from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.data.ragged import Ragged
from erc_graph.encoders.subnets import LastWord, SubNet


def turns(rows: int) -> Batch:
    """One dialogue of one speaker."""
    zeros = torch.zeros(rows, dtype=torch.long)
    return Batch(ptr=torch.tensor([0, rows]), speaker=zeros, target=zeros, judged=zeros == 0, row=torch.arange(rows))


def test_three_layers_with_relu_over_a_norm_by_running_figures() -> None:
    net = SubNet(3, 4, 0.5).double().eval()
    with torch.no_grad():
        net.norm.running_mean.uniform_(-1, 1)
        net.norm.running_var.uniform_(0.5, 2)
    rows = torch.randn(5, 3, dtype=torch.float64)
    x = (rows - net.norm.running_mean) / (net.norm.running_var + 1e-5).sqrt() * net.norm.weight + net.norm.bias
    for layer in net.linear:
        x = (x @ layer.weight.T + layer.bias).clamp(min=0)
    torch.testing.assert_close(net(Nodes.of_turns(rows, torch.ones(5, dtype=torch.bool)), turns(5)), x)


def test_the_last_word_speaks_for_the_utterance() -> None:
    net = LastWord(3, 4, 2, 0.5).double().eval()
    items = [torch.randn(n, 3, dtype=torch.float64) for n in (4, 0, 1, 7)]

    def alone(words: Tensor) -> Tensor:
        return net.linear(net.lstm(words)[0][-1]) if len(words) else torch.zeros(2, dtype=torch.float64)

    torch.testing.assert_close(net(Ragged.of(items)), torch.stack([alone(words) for words in items]))
