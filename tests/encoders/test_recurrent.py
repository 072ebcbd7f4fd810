from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence, unpack_sequence

from erc_graph.encoders.recurrent import Recurrent
from erc_graph.errors import ConfigError


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_it_is_pytorchs_own_net_over_packed_sequences(cell, both, layers, batches):
    batch = batches(4, 1, 9, 2)
    ours = Recurrent(cell, 5, 6, bidirectional=both, layers=layers).double()
    theirs = (nn.LSTM if cell == "lstm" else nn.GRU)(5, 6 // (1 + both), num_layers=layers, bidirectional=both).double()
    with torch.no_grad():
        for layer, directions in enumerate(ours.layers):
            assert len(directions) == 1 + both
            for net, suffix in zip(directions, ("", "_reverse"), strict=False):
                for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                    getattr(theirs, f"{name}_l{layer}{suffix}").copy_(getattr(net, f"{name}_l0"))
    x = batch.features["text"].requires_grad_()
    expected = torch.cat(unpack_sequence(theirs(pack_sequence(list(x.split(batch.lengths.tolist())), enforce_sorted=False))[0]))
    found = ours(x, batch)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    weight = torch.randn_like(expected)
    gradients = [torch.autograd.grad((value * weight).sum(), x)[0] for value in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-12)
    count = [sum(p.numel() for p in net.parameters()) for net in (ours, theirs)]
    assert count[0] == count[1]


def test_dropout_stands_between_layers_only(batches):
    batch = batches(4, 3)
    x = batch.features["text"]
    one, two = (Recurrent("gru", 5, 4, layers=layers, dropout=0.5).double() for layers in (1, 2))
    assert torch.equal(one(x, batch), one(x, batch))
    assert not torch.equal(two(x, batch), two(x, batch))
    two.eval()
    assert torch.equal(two(x, batch), two(x, batch))


def test_two_directions_need_an_even_width():
    with pytest.raises(ConfigError, match="width: expected an even number, half for each direction, found 7"):
        Recurrent("lstm", 5, 7, bidirectional=True)
    assert Recurrent("lstm", 5, 7)


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_turn_by_turn_equals_the_whole_dialogue(cell, layers, batches):
    batch = batches(12)
    net = Recurrent(cell, 5, 6, layers=layers, dropout=0.5).double().eval()
    states = batch.features["text"]
    whole, memory = net(states, batch), None
    for i in range(12):
        turn, memory = net.step(states[[i]], batch, memory)
        torch.testing.assert_close(turn[0], whole[i], rtol=1e-10, atol=1e-12)
