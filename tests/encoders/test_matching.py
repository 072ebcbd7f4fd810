from __future__ import annotations

import pytest
import torch

from erc_graph.encoders.matching import MatchingAttention
from erc_graph.encoders.turns import dialogue_of, over_turns
from tests.conv.loops import make_batch


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("causal", [False, True])
def test_equation_by_loop(causal: bool, plain: bool) -> None:
    part, batch = MatchingAttention(4, causal=causal, bounded=not plain, bias=not plain).double(), make_batch()
    rows = torch.randn(batch.utterances, 4, dtype=torch.float64, requires_grad=True)
    expected = []
    for d in range(len(batch)):
        x = rows[batch.ptr[d] : batch.ptr[d + 1]]
        for i in range(len(x)):
            heard = x[: i + 1] if causal else x
            score = torch.stack([y @ part.transform(x[i]) for y in heard])
            weight = (score if plain else score.tanh()).exp()
            expected.append(sum(w * y for w, y in zip(weight, heard, strict=True)) / weight.sum())
    found, wanted = over_turns(part, rows, batch), torch.stack(expected)
    torch.testing.assert_close(found, wanted)
    leaves, given = [rows, *part.parameters()], torch.randn_like(wanted)
    for mine, theirs in zip(*(torch.autograd.grad(value, leaves, given) for value in (found, wanted)), strict=True):
        torch.testing.assert_close(mine, theirs)
    assert part.causal == causal and part.width == 4 and (part.transform.bias is None) == plain


@torch.no_grad()
def test_one_turn_at_a_time_as_all_at_once() -> None:
    part, memory = MatchingAttention(4, causal=True), None
    rows = torch.randn(40, 4)
    whole = over_turns(part, rows, dialogue_of(torch.zeros(40, dtype=torch.long)))
    for i in range(40):
        found, memory = part.read_next(rows[i : i + 1], dialogue_of(torch.zeros(1, dtype=torch.long)), memory)
        torch.testing.assert_close(found[0], whole[i], rtol=1e-4, atol=1e-5)
