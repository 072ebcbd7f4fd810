"""Attention between frames of one utterance."""

from __future__ import annotations

import torch

from erc_graph.encoders.cross_attention import CrossAttention


def test_one_query_at_a_time() -> None:
    """Against softmax(q k / sqrt(d)) v, head by head, over the real keys alone."""
    net = CrossAttention(5, 3, 7, heads=2).double()
    queries, keys = torch.randn(3, 4, 5).double(), torch.randn(3, 6, 3).double()
    mask = torch.arange(6) < torch.tensor([6, 2, 0])[:, None]
    found = net(queries, keys, mask)
    assert found.shape == (3, 4, 7) and not found[2].any()  # who has no keys hears nothing
    for row, count in enumerate((6, 2)):
        key, value = net.key(keys[row, :count]), net.value(keys[row, :count])
        for position in range(4):
            query = net.query(queries[row, position])
            heads = []
            for part in (slice(0, 4), slice(4, 8)):  # 7 / 2 rounded up
                weight = (key[:, part] @ query[part] / 2.0).softmax(0)
                heads.append(weight @ value[:, part])
            torch.testing.assert_close(found[row, position], net.output(torch.cat(heads)))


def test_what_is_padded_has_no_gradient_and_no_keys_at_all_is_silence() -> None:
    net, mask = CrossAttention(2, 2, 4, heads=2), torch.tensor([[True, False], [False, False]])
    keys = torch.randn(2, 2, 2, requires_grad=True)
    net(torch.randn(2, 3, 2), keys, mask).sum().backward()
    assert keys.grad is not None and keys.grad.isfinite().all()
    assert (keys.grad.abs().sum(-1) > 0).tolist() == [[True, False], [False, False]]
    assert not net(torch.randn(2, 3, 2), torch.zeros(2, 0, 2), torch.zeros(2, 0, dtype=torch.bool)).any()
