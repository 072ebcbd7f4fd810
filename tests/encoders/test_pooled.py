"""Mean and deviation over time, against loops over utterances."""

from __future__ import annotations

import pytest
import torch

from erc_graph.data.ragged import Ragged
from erc_graph.encoders.pooled import SIDE, pooled_width, statistics
from erc_graph.features.mfcc import mfcc


def loop(frames: torch.Tensor) -> torch.Tensor:
    return torch.cat([frames.mean(0), frames.std(0, correction=0)])


def test_words() -> None:
    parts = [torch.randn(n, 3) for n in (4, 0, 1, 7)]
    found = statistics(Ragged.of(parts))
    torch.testing.assert_close(found, torch.stack([loop(part) if len(part) else torch.zeros(6) for part in parts]))


def test_waveforms_by_their_mfccs() -> None:
    parts = [torch.randn(n) for n in (400, 1000, 3999, 100)]
    found = statistics(Ragged.of(parts))
    assert found.shape == (4, pooled_width(()))
    for row, part in zip(found, parts, strict=True):
        frames, _ = mfcc(part[None], torch.ones(1, len(part), dtype=torch.bool), coefficients=20)
        torch.testing.assert_close(row, loop(frames[0]), rtol=1e-3, atol=1e-3)


def test_images() -> None:
    parts = [torch.randint(0, 256, (n, 3, 16, 16), dtype=torch.uint8) for n in (2, 3)]
    found = statistics(Ragged.of(parts))
    for row, part in zip(found, parts, strict=True):
        fields = part.float().view(len(part), 3, SIDE, 2, SIDE, 2).mean((3, 5)).flatten(1) / 255
        torch.testing.assert_close(row, loop(fields))


@pytest.mark.parametrize("other", [1, 30_000])
def test_alone_as_in_company(other: int) -> None:
    wave = torch.randn(5000)
    alone = statistics(Ragged.of([wave]))[0]
    torch.testing.assert_close(statistics(Ragged.of([torch.randn(other), wave]))[1], alone, rtol=1e-5, atol=1e-5)
