"""One vector per utterance from items: alone as in company, against loops."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from erc_graph.data.ragged import Ragged
from erc_graph.encoders.attentive import AttentiveGRU, AttentiveSum, first_and_mean

KINDS: dict[str, Callable[[], Callable[[Tensor, Tensor], Tensor]]] = {
    "sum": lambda: AttentiveSum(3).double(),
    "gru": lambda: AttentiveGRU(3).double(),
    "first and mean": lambda: first_and_mean,
}


@pytest.mark.parametrize("name", KINDS)
def test_alone_as_in_company_whatever_is_padded(name: str) -> None:
    encode, ragged = KINDS[name](), Ragged.of([torch.randn(n, 3, dtype=torch.double) for n in (4, 1, 7)])
    padded, mask = ragged.pad()
    padded = padded.masked_fill(~mask[..., None], 1e3)
    found = encode(padded, mask)
    for i in range(3):
        alone = encode(ragged[i][None], torch.ones(1, len(ragged[i]), dtype=torch.bool))
        torch.testing.assert_close(found[i], alone[0])


@torch.no_grad()
def test_the_sum_equals_a_loop() -> None:
    pool, states = AttentiveSum(3).double(), torch.randn(1, 5, 3, dtype=torch.double)
    inner, outer = pool.score[0], pool.score[2]
    assert isinstance(inner, nn.Linear) and isinstance(outer, nn.Linear)
    scores = []
    for t in range(5):
        hidden = [math.tanh(float(inner.bias[k] + inner.weight[k] @ states[0, t])) for k in range(3)]
        scores.append(sum(float(outer.weight[0, k]) * hidden[k] for k in range(3)))
    total = sum(math.exp(score) for score in scores)
    expected = sum(math.exp(score) / total * states[0, t] for t, score in enumerate(scores))
    torch.testing.assert_close(pool(states, torch.ones(1, 5, dtype=torch.bool))[0], expected)


def test_first_and_mean() -> None:
    states = torch.tensor([[[1.0], [3.0], [9.0]]])
    assert first_and_mean(states, torch.tensor([[True, True, False]])).tolist() == [[1.0, 2.0]]
