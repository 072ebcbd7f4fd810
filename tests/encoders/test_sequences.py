"""One vector per utterance from sequences, in chunks."""

from __future__ import annotations

import torch

from erc_graph.data.ragged import Ragged
from erc_graph.encoders.sequences import encode_sequences, masked_mean


def test_any_budget_gives_the_mean_of_each_sequence() -> None:
    parts = [torch.randn(n, 3) for n in (4, 0, 1, 7, 2)]
    expected = torch.stack([part.mean(0) if len(part) else torch.zeros(3) for part in parts])
    for tokens in (1, 8, 1000):
        torch.testing.assert_close(encode_sequences(masked_mean, Ragged.of(parts), 3, tokens), expected)


def test_gradients_reach_the_items() -> None:
    values = torch.randn(5, 3, requires_grad=True)
    encode_sequences(masked_mean, Ragged(values, torch.tensor([0, 4, 5])), 3, 8).sum().backward()
    assert values.grad is not None
    torch.testing.assert_close(values.grad[:, 0], torch.tensor([0.25, 0.25, 0.25, 0.25, 1.0]))


def test_nothing_there() -> None:
    assert encode_sequences(masked_mean, Ragged.of([torch.zeros(0, 3)] * 2), 3, 8).tolist() == [[0.0] * 3] * 2
