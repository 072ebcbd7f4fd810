"""Dynamic frame convolution and poolings of the same frames, against loops over frames, places and channels."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from erc_graph.encoders.dfc import DynamicFrameConvolution, FramePooling, frame_count

WIDTH = 5
LONGEST = 14
LENGTHS = [14, 1, 2, 3, 4, 9, 13]


def example() -> tuple[Tensor, Tensor]:
    mask = torch.arange(LONGEST) < torch.tensor(LENGTHS)[:, None]
    return torch.randn(len(LENGTHS), LONGEST, WIDTH, dtype=torch.double), mask


def generated(layer: DynamicFrameConvolution) -> list[list[list[float]]]:
    """Φ[frame][place][channel]: two convolutions over the map, as sums."""
    learned, length = layer.map[0].detach(), layer.map.shape[2]
    hidden = []
    for place in range(length):
        sums = layer.first.bias.detach().clone()  # type: ignore[union-attr]
        for k in range(3):
            if 0 <= place + k - 1 < length:
                sums += layer.first.weight.detach()[:, :, k] @ learned[:, place + k - 1]
        spread = ((sums - sums.mean()).square().mean() + layer.norm.eps).sqrt()
        hidden.append(((sums - sums.mean()) / spread * layer.norm.weight.detach() + layer.norm.bias.detach()).clamp(min=0))
    kernels = []
    for frame in range(frame_count(length, layer.window, layer.hop)):
        sums = layer.last.bias.detach().clone()  # type: ignore[union-attr]
        for k in range(layer.window):
            sums += layer.last.weight.detach()[:, :, k] @ hidden[frame * layer.hop + k]
        kernels.append([[float(sums[channel * layer.window + place]) for channel in range(WIDTH)] for place in range(layer.window)])
    return kernels


def pooled(states: list[list[float]], kind: str, hop: int, most: int, kernels: Any = None) -> list[list[float]]:
    """Frames of one sequence of true length."""
    rows, frame = [], 0
    while frame < most and frame * hop < len(states):
        inside = [states[p] for p in range(frame * hop, frame * hop + 3) if p < len(states)]
        row = []
        for channel in range(WIDTH):
            values = [state[channel] for state in inside]
            if kind == "dfc":
                row.append(sum(kernels[frame][place][channel] * value for place, value in enumerate(values)))
            else:
                row.append(max(values) if kind == "max" else sum(values) / len(values))
        rows.append(row)
        frame += 1
    return rows


@pytest.mark.parametrize("kind", ["dfc", "max", "avg"])
def test_frames_in_loops(kind: Any) -> None:
    net = FramePooling(LONGEST, WIDTH, kind=kind, middle=6).double()
    states, mask = example()
    found, here = net(states, mask)
    assert found.shape == (len(LENGTHS), net.count, WIDTH) == (len(LENGTHS), 2, WIDTH)
    assert bool(list(net.parameters())) is (kind == "dfc")
    for i, length in enumerate(LENGTHS):
        rows, longest = states[i, :length].tolist(), LONGEST
        for layer, hop in enumerate((2, 3)):
            kernels = generated(net.layers[layer]) if kind == "dfc" else None  # type: ignore[arg-type]
            longest = (longest - 3) // hop + 1  # Eq. (7)
            rows = pooled(rows, kind, hop, longest, kernels)
        expected = torch.tensor(rows, dtype=torch.double)
        torch.testing.assert_close(found[i, : len(rows)], expected)
        assert here[i].tolist() == [True] * len(rows) + [False] * (net.count - len(rows))
        assert not found[i, len(rows) :].any()


@pytest.mark.parametrize("kind", ["dfc", "max", "avg", "linear"])
def test_a_sequence_alone_as_in_company(kind: Any) -> None:
    net = FramePooling(LONGEST, WIDTH, kind=kind, middle=6).double()
    states, mask = example()
    whole, here = net(states, mask)
    for i, length in enumerate(LENGTHS):
        alone, real = net(states[[i], :length], mask[[i], :length])
        assert real.all() and real.sum() == here[i].sum()
        torch.testing.assert_close(alone[0], whole[i][here[i]])
    other = states.masked_fill(~mask[..., None], 1e9)
    assert torch.equal(net(other, mask)[0], whole)
    assert not whole[~here].any()


def test_the_papers_own_numbers() -> None:
    net = FramePooling(50, 256)
    assert net.lengths == [50, 24, 8]
    first = net.layers[0]
    assert isinstance(first, DynamicFrameConvolution)
    assert first.map.shape == (1, 256, 50) and first.kernels().shape == (24, 256, 3) and first.norm.normalized_shape == (64,)
    assert FramePooling(50, 256, kind="linear").count == 50


def test_kernels_are_learned_at_every_place() -> None:
    net = FramePooling(LONGEST, WIDTH, middle=6)
    states, mask = example()
    net(states.float(), mask)[0].square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in net.parameters())
    one, other = net.layers[0].kernels()[:2]  # type: ignore[operator,union-attr]
    assert not torch.allclose(one, other)
