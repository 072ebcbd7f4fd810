"""One vector per utterance from sequences, in chunks."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from erc_graph.data.ragged import Ragged
from erc_graph.encoders.sequences import encode_sequences, encode_together, masked_mean


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


def test_modalities_of_an_utterance_stay_together() -> None:
    words, frames = (Ragged.of([torch.randn(n, width) for n in lengths]) for width, lengths in ((2, (3, 0, 0, 1, 6)), (3, (0, 4, 0, 9, 2))))
    seen: list[int] = []

    def function(padded: Mapping[str, tuple[Tensor, Tensor]]) -> Tensor:
        assert not any(values[~mask].any() for values, mask in padded.values())
        seen.append(len(padded["text"][0]))
        return torch.cat([masked_mean(*padded[name]) for name in ("text", "audio")], -1)

    for tokens, count in ((1, [1, 1, 1, 1]), (24, [2, 2]), (1000, [4])):
        seen.clear()
        found = encode_together(function, {"text": words, "audio": frames}, 5, tokens)
        assert seen == count
        for i in range(5):
            expected = [part[i].mean(0) if len(part[i]) else torch.zeros(part.item) for part in (words, frames)]
            torch.testing.assert_close(found[i], torch.cat(expected))
    assert encode_together(function, {"text": words.take([2]), "audio": frames.take([2])}, 5, 8).tolist() == [[0.0] * 5]


def test_without_any_sequence_there_are_zeros_of_the_same_precision() -> None:
    nothing = Ragged.of([torch.zeros(0, 3, dtype=torch.float64)] * 2)
    found = encode_sequences(lambda padded, mask: padded.sum(1), nothing, 5, 8)
    assert found.dtype == torch.float64 and torch.equal(found, torch.zeros(2, 5, dtype=torch.float64))
