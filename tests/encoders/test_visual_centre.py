"""Learnable visual centre against its definition, one frame and one code at a time."""

from __future__ import annotations

import torch

from erc_graph.encoders.visual_centre import LearnableVisualCentre


@torch.no_grad()
def test_residuals_by_loops() -> None:
    net = LearnableVisualCentre(5, 6, codes=3).double()
    net.codebook.normal_()
    net.scale.copy_(torch.tensor([0.3, 1.0, 0.1]))
    states, lengths = torch.randn(2, 4, 6).double(), (4, 2)
    mask = torch.arange(4) < torch.tensor(lengths)[:, None]
    found = net.residuals(states, mask)
    for row, length in enumerate(lengths):
        expected = torch.zeros(3, 6).double()
        for frame in states[row, :length]:
            logits = [-net.scale[k] * ((frame - net.codebook[k]) ** 2).sum() for k in range(3)]
            total = sum(float(logit.exp()) for logit in logits)
            for k in range(3):
                expected[k] += float(logits[k].exp()) / total * (frame - net.codebook[k]) / length
        torch.testing.assert_close(found[row], expected)


def test_the_gate_is_one_per_channel_and_the_whole_is_its_definition() -> None:
    net, frames = LearnableVisualCentre(5, 8, codes=3).double(), torch.randn(1, 4, 5).double()
    states = []
    narrow = [net.norms[0](net.narrow(frame)).clamp(min=0) for frame in frames[0]]
    for t in range(4):
        across = net.across.bias.clone()
        for offset in (-1, 0, 1):
            if 0 <= t + offset < 4:
                across = across + net.across.weight[:, :, offset + 1] @ narrow[t + offset]
        wide = net.norms[2](net.wide(net.norms[1](across).clamp(min=0)))
        states.append((wide + net.carry(frames[0, t])).clamp(min=0))
    x = torch.stack(states)[None]
    mask = torch.ones(1, 4, dtype=torch.bool)
    codes = net.residuals(net.encode_norm(net.encode(x)).clamp(min=0), mask)[0]
    gate = net.gate(torch.stack([net.code_norm(code).clamp(min=0) for code in codes]).mean(0)).sigmoid()
    torch.testing.assert_close(net(frames, mask)[0], torch.stack([state + gate * state for state in x[0]]))


def test_alone_as_in_company_and_gradients_reach_codes_and_scales() -> None:
    net, frames, lengths = LearnableVisualCentre(5, 6).double(), torch.randn(3, 7, 5).double(), (7, 1, 4)
    mask = torch.arange(7) < torch.tensor(lengths)[:, None]
    whole = net(frames, mask)
    assert not whole[~mask].any()
    for row, length in enumerate(lengths):
        torch.testing.assert_close(whole[row, :length], net(frames[row : row + 1, :length], mask[row : row + 1, :length])[0])
    whole.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in net.parameters())
