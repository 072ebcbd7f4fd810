from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from erc_graph.data.nodes import Nodes
from erc_graph.encoders.self_attention import FrameAttention, ModalityAttention, SelfAttention, TransformerEncoder
from erc_graph.encoders.turns import over_turns


def oracle(attention, states, ptr):
    """Attention of every turn to every turn of its dialogue, one head, one pair at a time."""
    heads, width = attention.heads, attention.head_width
    packed = (states @ attention.query_key_value.weight.T + attention.query_key_value.bias).tolist()
    rows = []
    for start, end in pairwise(ptr):
        for i in range(start, end):
            joined = []
            for head in range(heads):
                query = packed[i][head * width : (head + 1) * width]
                keys = [packed[j][(heads + head) * width : (heads + head + 1) * width] for j in range(start, end)]
                values = [packed[j][(2 * heads + head) * width : (2 * heads + head + 1) * width] for j in range(start, end)]
                scores = [math.exp(sum(q * k for q, k in zip(query, key, strict=True)) / math.sqrt(width)) for key in keys]
                for c in range(width):
                    joined.append(sum(score * value[c] for score, value in zip(scores, values, strict=True)) / sum(scores))
            rows.append(joined)
    return torch.tensor(rows, dtype=torch.float64) @ attention.output.weight.T + attention.output.bias


@pytest.mark.parametrize(("width", "heads", "head_width"), [(6, 1, 6), (6, 3, 2), (7, 3, 3), (4, 5, 1)])
def test_attention_is_the_printed_one_for_any_number_of_heads(width, heads, head_width, batches):
    batch = batches(4, 1, 7)
    attention = SelfAttention(5, width, heads=heads).double()
    assert attention.head_width == head_width
    found = over_turns(attention, batch.features["text"], batch)
    assert found.shape == (12, width)
    torch.testing.assert_close(found, oracle(attention, batch.features["text"], batch.ptr.tolist()), rtol=1e-10, atol=1e-12)


def test_attention_is_pytorchs_own_where_heads_divide_the_width(batches):
    batch = batches(4, 1, 7)
    states = torch.randn(12, 6, dtype=torch.float64)
    ours, theirs = SelfAttention(6, 6, heads=2).double(), nn.MultiheadAttention(6, 2).double()
    theirs.load_state_dict(
        {
            "in_proj_weight": ours.query_key_value.weight,
            "in_proj_bias": ours.query_key_value.bias,
            "out_proj.weight": ours.output.weight,
            "out_proj.bias": ours.output.bias,
        }
    )
    expected = torch.cat([theirs(x, x, x)[0] for x in states.split(batch.lengths.tolist())])
    torch.testing.assert_close(over_turns(ours, states, batch), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("layers", [1, 2])
def test_the_encoder_is_pytorchs_own_post_norm_one(layers, batches):
    batch = batches(4, 1, 7)
    states = torch.randn(12, 6, dtype=torch.float64)
    ours = TransformerEncoder(6, heads=2, layers=layers, feedforward=9, dropout=0.3).double().eval()
    for norm in ours.norm:
        nn.init.uniform_(norm.weight, 0.5, 2)
        nn.init.normal_(norm.bias)
    dialogues = list(states.split(batch.lengths.tolist()))
    for i in range(layers):
        theirs = nn.TransformerEncoderLayer(6, 2, 9).double().eval()
        parts = {
            "self_attn.in_proj_": ours.attention[i].query_key_value,
            "self_attn.out_proj.": ours.attention[i].output,
            "linear1.": ours.feedforward[i][0],
            "linear2.": ours.feedforward[i][-1],
            "norm1.": ours.norm[2 * i],
            "norm2.": ours.norm[2 * i + 1],
        }
        theirs.load_state_dict({name + kind: getattr(part, kind) for name, part in parts.items() for kind in ("weight", "bias")})
        dialogues = [theirs(x) for x in dialogues]
    torch.testing.assert_close(over_turns(ours, states, batch), torch.cat(dialogues), rtol=1e-9, atol=1e-10)


def test_dropout_only_in_training(batches):
    batch = batches(4, 3)
    states = torch.randn(7, 6, dtype=torch.float64)
    for module in (SelfAttention(6, 6, dropout=0.5), TransformerEncoder(6, dropout=0.5)):
        module.double()
        assert not torch.equal(over_turns(module, states, batch), over_turns(module, states, batch))
        module.eval()
        assert torch.equal(over_turns(module, states, batch), over_turns(module, states, batch))


@pytest.mark.parametrize("past", [None, 0, 1, 3])
def test_causal_attention_is_attention_over_each_turn_and_those_before_it(past, batches):
    """Each turn asked alone, as the last of a dialogue that ends with it and begins where it can still look."""
    batch = batches(6, 1, 3)
    attention = SelfAttention(5, 4, heads=2, causal=True, past=past).double()
    whole = SelfAttention(5, 4, heads=2).double()
    whole.load_state_dict(attention.state_dict())
    states = batch.features["text"]
    found = over_turns(attention, states, batch)
    for row in range(10):
        start = int(batch.ptr[batch.dialogue[row]])
        start = start if past is None else max(start, row - past)
        length = row + 1 - start
        torch.testing.assert_close(found[row], over_turns(whole, states[start : row + 1], batches(length))[-1], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("past", [None, 0, 2])
@pytest.mark.parametrize(("width", "heads"), [(6, 3), (7, 2)])
def test_turn_by_turn_equals_the_whole_dialogue(width, heads, past, batches):
    batch = batches(40)
    states = torch.randn(40, 6, dtype=torch.float64)
    attention = SelfAttention(6, width, heads=heads, causal=True, past=past).double()
    whole, memory = over_turns(attention, states, batch), None
    for i in range(40):
        turn, memory = attention.step(Nodes.of_turns(states[[i]]), batch, memory)
        torch.testing.assert_close(turn.states[0, 0], whole[i], rtol=1e-10, atol=1e-12)


def test_causal_or_not_makes_no_other_parameters():
    """Same names, same shapes, same order of creation: a seed gives the same weights."""
    both = []
    for causal in (False, True):
        torch.manual_seed(3)
        both.append(TransformerEncoder(6, heads=2, causal=causal, past=4 if causal else None).state_dict())
    assert all(torch.equal(one, other) for one, other in zip(both[0].values(), both[1].values(), strict=True))


def test_heads_as_wide_as_one_likes(batches):
    batch = batches(4, 1, 7)
    attention = SelfAttention(5, 8, heads=3, head_width=4).double()
    assert attention.head_width == 4 and over_turns(attention, batch.features["text"], batch).shape == (12, 8)
    torch.testing.assert_close(
        over_turns(attention, batch.features["text"], batch),
        oracle(attention, batch.features["text"], batch.ptr.tolist()),
        rtol=1e-10,
        atol=1e-12,
    )


@pytest.mark.parametrize("heads", [1, 4, 6])
def test_attention_to_modalities_equals_a_loop(heads):
    attention = ModalityAttention(5, heads=heads, head_width=3).double()
    states, modalities = torch.randn(4, 5, dtype=torch.float64), torch.randn(4, 3, 5, dtype=torch.float64, requires_grad=True)
    present = torch.tensor([[True, True, True], [True, False, True], [False, True, False], [False, False, False]])
    found = attention(states, modalities, present)
    width, rows = heads * 3, []
    for i in range(4):
        here = [m for m in range(3) if present[i, m]]
        query = (attention.query.weight @ states[i] + attention.query.bias).tolist()
        packed = [(attention.key_value.weight @ modalities[i, m] + attention.key_value.bias).tolist() for m in here]
        packed = packed or [attention.key_value.bias.tolist()]
        joined = []
        for head in range(heads):
            part = slice(3 * head, 3 * head + 3)
            scores = [math.exp(sum(q * k for q, k in zip(query[part], row[:width][part], strict=True)) / math.sqrt(3)) for row in packed]
            for c in range(3 * head, 3 * head + 3):
                joined.append(sum(score * row[width + c] for score, row in zip(scores, packed, strict=True)) / sum(scores))
        rows.append(joined)
    expected = torch.tensor(rows, dtype=torch.float64) @ attention.output.weight.T + attention.output.bias
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    found.square().sum().backward()
    assert not modalities.grad[~present].any() and modalities.grad[:2][present[:2]].any()


def test_attention_between_frames_is_that_between_turns(batches):
    """A sequence for a dialogue, padding for what lies behind it."""
    batch = batches(4, 1, 7)
    turns, frames = SelfAttention(6, 6, heads=2).double(), FrameAttention(6, heads=2).double()
    frames.load_state_dict(turns.state_dict())
    states = torch.randn(12, 6, dtype=torch.float64)
    found = batch.unpad(frames(batch.pad(states), batch.mask))
    torch.testing.assert_close(found, over_turns(turns, states, batch), rtol=1e-10, atol=1e-12)


def test_what_they_say_of_themselves():
    assert not SelfAttention(6, 6).causal and SelfAttention(6, 6, causal=True, past=3).past == 3
    assert all(layer.causal and layer.past == 3 for layer in TransformerEncoder(6, layers=2, causal=True, past=3).attention)
