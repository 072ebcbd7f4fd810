"""The gate between what is heard in two modalities, and in more."""

from __future__ import annotations

import torch

from erc_graph.encoders.gated_attention import GatedCrossAttention


def example(*counts: int, width: int = 4) -> tuple[torch.Tensor, dict[str, tuple[torch.Tensor, torch.Tensor]]]:
    """Two utterances; each of the others has as many real frames in the first, and two in the second."""
    others = {}
    for index, count in enumerate(counts):
        mask = torch.arange(3) < torch.tensor([count, 2])[:, None]
        others[f"m{index}"] = (torch.randn(2, 3, index + 2).double(), mask)
    return torch.randn(2, 5, width).double(), others


def test_two_others_are_the_printed_sigmoid() -> None:
    queries, others = example(3, 1)
    net = GatedCrossAttention(4, {"m0": 2, "m1": 3}, heads=2).double()
    fused, shares = net(queries, others)
    one, two = net.attend["m0"](queries, *others["m0"]), net.attend["m1"](queries, *others["m1"])
    for row in range(2):
        for frame in range(5):
            joined = torch.cat([one[row, frame], two[row, frame]])
            gate = 1 / (1 + torch.exp(-(net.gate.weight @ joined + net.gate.bias)))  # type: ignore[union-attr]
            torch.testing.assert_close(fused[row, frame], gate * one[row, frame] + (1 - gate) * two[row, frame])
            torch.testing.assert_close(shares[row, frame], torch.stack([gate, 1 - gate]))


def test_one_that_is_missing_has_share_zero_exactly() -> None:
    queries, others = example(0, 2, 3)
    net = GatedCrossAttention(4, {"m0": 2, "m1": 3, "m2": 4}).double()
    fused, shares = net(queries, others)
    assert not shares[0, :, 0].any() and (shares[1] > 0).all()
    torch.testing.assert_close(shares.sum(2), torch.ones(2, 5, 4).double())
    others["m0"] = (others["m0"][0] + torch.tensor([1.0, 0.0])[:, None, None], others["m0"][1])
    torch.testing.assert_close(net(queries, others)[0], fused)  # what is padded says nothing


def test_a_single_other_and_none_at_all() -> None:
    queries, others = example(0)
    net = GatedCrossAttention(4, {"m0": 2}).double()
    fused, shares = net(queries, others)
    assert net.gate is None and not fused[0].any() and not shares[0].any()
    torch.testing.assert_close(fused[1], net.attend["m0"](queries, *others["m0"])[1])
