from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence, unpack_sequence

from erc_graph.data.nodes import Nodes
from erc_graph.encoders.recurrent import Recurrent, side_by_side
from erc_graph.encoders.turns import over_turns
from erc_graph.errors import ConfigError

NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


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
                for name in NAMES:
                    getattr(theirs, f"{name}_l{layer}{suffix}").copy_(getattr(net, f"{name}_l0"))
    x = batch.features["text"].requires_grad_()
    expected = torch.cat(unpack_sequence(theirs(pack_sequence(list(x.split(batch.lengths.tolist())), enforce_sorted=False))[0]))
    found = over_turns(ours, x, batch)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    weight = torch.randn_like(expected)
    gradients = [torch.autograd.grad((value * weight).sum(), x, retain_graph=True)[0] for value in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-12)
    names = [(layer, direction, name) for layer in range(layers) for direction in range(1 + both) for name in NAMES]
    own = [getattr(ours.layers[layer][direction], f"{name}_l0") for layer, direction, name in names]
    other = [getattr(theirs, f"{name}_l{layer}{('', '_reverse')[direction]}") for layer, direction, name in names]
    for left, right in zip(
        torch.autograd.grad((found * weight).sum(), own), torch.autograd.grad((expected * weight).sum(), other), strict=True
    ):
        torch.testing.assert_close(left, right, rtol=1e-10, atol=1e-12)
    count = [sum(p.numel() for p in net.parameters()) for net in (ours, theirs)]
    assert count[0] == count[1]


def test_dropout_stands_between_layers_only(batches):
    batch = batches(4, 3)
    x = batch.features["text"]
    one, two = (Recurrent("gru", 5, 4, layers=layers, dropout=0.5).double() for layers in (1, 2))
    assert torch.equal(over_turns(one, x, batch), over_turns(one, x, batch))
    assert not torch.equal(over_turns(two, x, batch), over_turns(two, x, batch))
    two.eval()
    assert torch.equal(over_turns(two, x, batch), over_turns(two, x, batch))


def test_two_directions_need_an_even_width():
    with pytest.raises(ConfigError, match="width: expected an even number, because each"):
        Recurrent("lstm", 5, 7, bidirectional=True)
    assert Recurrent("lstm", 5, 7)


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_turn_by_turn_equals_the_whole_dialogue(cell, layers, batches):
    batch = batches(12)
    net = Recurrent(cell, 5, 6, layers=layers, dropout=0.5).double().eval()
    states = batch.features["text"]
    whole, memory = over_turns(net, states, batch), None
    for i in range(12):
        turn, memory = net.step(Nodes.of_turns(states[[i]]), batch, memory)
        torch.testing.assert_close(turn.states[0, 0], whole[i], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("shape", ["alike", "two widths", "two layers", "one twice"])
def test_nets_side_by_side_are_nets_one_by_one(cell, shape, batches):
    batch = batches(4, 1, 9, 2)
    nets = [Recurrent(cell, width, 6, bidirectional=True).double() for width in (5, 3)]
    states = [batch.features[name].requires_grad_() for name in ("text", "audio")]
    if shape == "two widths":
        nets[1] = Recurrent(cell, 3, 4, bidirectional=True).double()
    elif shape == "two layers":
        nets[1] = Recurrent(cell, 3, 6, bidirectional=True, layers=2).double()
    elif shape == "one twice":
        nets[1], states[1] = nets[0], states[0] * 2
    expected = [over_turns(net, rows, batch) for net, rows in zip(nets, states, strict=True)]
    found = side_by_side(nets, states, batch)
    inputs = [*dict.fromkeys(p for net in nets for p in net.parameters()), states[0]]
    slopes = [torch.autograd.grad(sum((rows**3).sum() for rows in answer), inputs, retain_graph=True) for answer in (found, expected)]
    for left, right in zip([*found, *slopes[0]], [*expected, *slopes[1]], strict=True):
        torch.testing.assert_close(left, right, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_gru_as_a_loop_over_the_turns(dtype, batches):
    batch = batches(3, 1)
    net = Recurrent("gru", 5, 4).to(dtype)
    (own,) = net.layers[0]
    rows = []
    for part in batch.features["text"].to(dtype).split(batch.lengths.tolist()):
        h = torch.zeros(4, dtype=dtype)
        for x in part:
            a, b = own.weight_ih_l0 @ x + own.bias_ih_l0, own.weight_hh_l0 @ h + own.bias_hh_l0
            r, z = torch.sigmoid(a[:4] + b[:4]), torch.sigmoid(a[4:8] + b[4:8])
            h = (1 - z) * torch.tanh(a[8:] + r * b[8:]) + z * h
            rows.append(h)
    torch.testing.assert_close(over_turns(net, batch.features["text"].to(dtype), batch), torch.stack(rows))


def test_the_slope_of_a_gru(batches):
    batch = batches(3, 1, 2)
    net = Recurrent("gru", 5, 4, bidirectional=True, layers=2).double()
    assert torch.autograd.gradcheck(lambda x: over_turns(net, x, batch), batch.features["text"].requires_grad_())


def test_half_precision_and_its_range(batches):
    batch = batches(4, 2)
    net = Recurrent("gru", 5, 4, bidirectional=True)
    exact = over_turns(net, batch.features["text"].float(), batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = over_turns(net, batch.features["text"].float(), batch)
    torch.testing.assert_close(rough.float(), exact, rtol=0.05, atol=0.02)


def test_it_is_causal_where_it_reads_forward_alone():
    assert Recurrent("gru", 5, 4).causal and not Recurrent("gru", 5, 4, bidirectional=True).causal
    assert Recurrent("lstm", 5, 4).past is None
