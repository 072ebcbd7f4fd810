"""Convolutions over frames and pixels: alone as in company, against loops over the printed equations."""

from __future__ import annotations

import pytest
import torch

from erc_graph.data.ragged import Ragged
from erc_graph.encoders.convolution import FrameConvolution, ResidualImages


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_frames_alone_as_in_company(layers: int) -> None:
    net = FrameConvolution(3, layers=layers).double()
    ragged = Ragged.of([torch.randn(n, 3, dtype=torch.double) for n in (9, 1, 4, 16, 3)])
    found, mask = net(*ragged.pad())
    for i, size in enumerate(ragged.sizes):
        alone, real = net(ragged[i][None], torch.ones(1, size, dtype=torch.bool))
        assert real.all() and len(real[0]) == int(mask[i].sum()) == -(-size // 2**layers)
        torch.testing.assert_close(found[i, mask[i]], alone[0])
    assert not found[~mask].any()


@torch.no_grad()
def test_a_layer_equals_a_loop() -> None:
    net, frames = FrameConvolution(2, layers=1, kernel=3).double(), torch.randn(1, 5, 2, dtype=torch.double)
    weight, bias = net.convolutions[0].weight, net.convolutions[0].bias
    hidden = torch.zeros(5, 2, dtype=torch.double)
    for t in range(5):
        for k in range(2):
            total = bias[k]
            for shift in (-1, 0, 1):
                if 0 <= t + shift < 5:
                    total = total + weight[k, :, shift + 1] @ frames[0, t + shift]
            hidden[t, k] = max(0.0, float(total))
    pooled = torch.stack([torch.maximum(hidden[0], hidden[1]), torch.maximum(hidden[2], hidden[3]), hidden[4]])
    expected = pooled @ net.connected.weight.T + net.connected.bias
    torch.testing.assert_close(net(frames, torch.ones(1, 5, dtype=torch.bool))[0][0], expected)


@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 7, 11), (1, 1, 1)])
def test_images_alone_as_in_company(shape: tuple[int, ...]) -> None:
    net = ResidualImages(shape[0], 4).double()
    ragged = Ragged.of([torch.randint(0, 256, (n, *shape), dtype=torch.uint8) for n in (2, 5, 1)])
    found, mask = net(*ragged.pad())
    assert found.shape == (3, 5, 4) and not found[~mask].any()
    for i in range(3):
        torch.testing.assert_close(found[i, mask[i]], net.project(net.features(ragged[i].double() / 255)))
    found.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_blocks_add_to_what_goes_in_and_the_picture_is_averaged() -> None:
    net, image = ResidualImages(1, 4), torch.rand(1, 1, 16, 16)
    with torch.no_grad():
        for block in net.blocks:
            for parameter in block.parameters():
                parameter.zero_()
        states = net.reduce(net.stem(image)).relu()
    assert states.shape == (1, 32, 2, 2)
    expected = [sum(float(states[0, c, y, x]) for y in range(2) for x in range(2)) / 4 for c in range(32)]
    assert net.features(image)[0].tolist() == pytest.approx(expected, abs=1e-6)
