"""The gated context perception unit against Eqs. (1)-(6) in a loop over steps, units and weights by name."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from erc_graph.encoders.gcpu import GCPU, MGRU, ContextPerception


def by_the_letter(cell: Any, z: Tensor, g: Tensor) -> Tensor:
    """`(n, L, D)`: the printed equations, one sequence and one step at a time; D is also the inputs' width."""
    width = z.shape[-1]
    if isinstance(cell, GCPU):
        (w_zr, w_zz), (w_gr, w_gg) = cell.of_z.weight.chunk(2), cell.of_g.weight.chunk(2)
        b_r, b_z, b_g = cell.bias.chunk(3)
        w_zu, w_gu, w_hu = cell.update.chunk(3, 1)
    else:
        (w_zr, w_zi, w_zz), (w_gr, w_gi, w_gg) = cell.of_z.weight.chunk(3), cell.of_g.weight.chunk(3)
        b_r, b_u, b_z, b_g = cell.bias.chunk(4)
    w_hz, w_hg = cell.candidate.chunk(2)
    rows = []
    for own_z, own_g in zip(z, g, strict=True):
        h, states = torch.zeros(width, dtype=z.dtype), []
        for z_t, g_t in zip(own_z, own_g, strict=True):
            w_hr = cell.reset if isinstance(cell, GCPU) else cell.gate[:width]
            r = torch.sigmoid(w_hr @ h + w_zr @ z_t + w_gr @ g_t + b_r)  # (1)
            new_z = torch.tanh(w_zz @ z_t + w_hz @ (r * h) + b_z)  # (2)
            new_g = torch.tanh(w_gg @ g_t + w_hg @ (r * h) + b_g)  # (3)
            new = new_z + new_g  # (4)
            if isinstance(cell, GCPU):
                u = torch.sigmoid(w_zu @ new_z + w_gu @ new_g + w_hu @ (r * h) + cell.update_bias)  # (5)
                h = r * h + u * new  # (6)
            else:
                u = torch.sigmoid(cell.gate[width:] @ h + w_zi @ z_t + w_gi @ g_t + b_u)
                h = (1 - u) * h + u * new
            states.append(h)
        rows.append(torch.stack(states))
    return torch.stack(rows)


@pytest.mark.parametrize("kind", [GCPU, MGRU])
@pytest.mark.parametrize("length", [1, 2, 7])
def test_the_printed_equations(kind: type[nn.Module], length: int) -> None:
    cell = kind(5, 5).double()
    z, g = (torch.randn(3, length, 5, dtype=torch.double, requires_grad=True) for _ in range(2))
    found, expected = cell(z, g), by_the_letter(cell, z, g)
    torch.testing.assert_close(found, expected)
    weight = torch.randn_like(expected)
    wanted = [z, g, *cell.parameters()]
    for one, other in zip(
        *(torch.autograd.grad((states * weight).sum(), wanted, allow_unused=True) for states in (found, expected)), strict=True
    ):
        torch.testing.assert_close(torch.zeros(()).double() if one is None else one, torch.zeros_like(one) if other is None else other)


def test_gradients_by_differences() -> None:
    cell = GCPU(3, 4).double()
    z, g = (torch.randn(2, 5, 3, dtype=torch.double, requires_grad=True) for _ in range(2))
    names = [name for name, _ in cell.named_parameters()]

    def ask(z: Tensor, g: Tensor, *weights: Tensor) -> Tensor:
        return torch.func.functional_call(cell, dict(zip(names, weights, strict=True)), (z, g))

    assert torch.autograd.gradcheck(ask, (z, g, *cell.parameters()))


def test_inputs_of_another_width_and_first_weights() -> None:
    cell = GCPU(3, 16)
    assert cell(torch.randn(2, 4, 3), torch.randn(2, 4, 3)).shape == (2, 4, 16)
    assert all(0 < float(p.detach().abs().max()) <= 1 / math.sqrt(16) for p in cell.parameters())


@pytest.mark.parametrize("cell", ["gcpu", "mgru", "gru"])
@pytest.mark.parametrize("context", [True, False])
def test_a_sequence_alone_as_in_company(cell: Any, context: bool) -> None:
    net = ContextPerception(6, 5, cell=cell, context=context, heads=2).double().eval()
    lengths = [4, 1, 7]
    mask = torch.arange(7) < torch.tensor(lengths)[:, None]
    states = torch.randn(3, 7, 6, dtype=torch.double)
    whole = net(states, mask)
    assert not whole[~mask].any()
    for i, length in enumerate(lengths):
        torch.testing.assert_close(net(states[[i], :length], mask[[i], :length])[0], whole[i, :length])
    assert torch.equal(net(states.masked_fill(~mask[..., None], 9.0), mask), whole)
    before = net(states, mask)[:, 0] - net(states + (torch.arange(7) > 0)[:, None], mask)[:, 0]
    assert bool(before[0].any()) is (context and cell != "gru")  # the context alone knows what comes later
    assert not before[1].any()


def test_the_second_input_without_context_is_the_first() -> None:
    net = ContextPerception(4, 4, context=False).double()
    states = torch.randn(2, 3, 4, dtype=torch.double)
    assert net.attend is None and torch.equal(net(states, torch.ones(2, 3).bool()), net.cell(states, states))
    assert {type(ContextPerception(4, 4, cell=cell).cell) for cell in ("gcpu", "mgru", "gru")} == {GCPU, MGRU, nn.GRU}  # type: ignore[arg-type]


def test_half_precision() -> None:
    net = ContextPerception(8, 8)
    states, mask = torch.randn(2, 6, 8, requires_grad=True), torch.ones(2, 6).bool()
    expected = net(states, mask)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = net(states, mask)
    found.float().sum().backward()
    torch.testing.assert_close(found.float(), expected, rtol=0, atol=0.03)
    assert states.grad is not None and states.grad.isfinite().all()
