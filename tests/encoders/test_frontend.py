"""Frames of one width from words, waveforms and images."""

from __future__ import annotations

import pytest
import torch

from erc_graph.data.batch import Batch
from erc_graph.data.ragged import Ragged
from erc_graph.encoders.frontend import FrontEnd, FrontEnds
from erc_graph.features.mfcc import mfcc

MAKE = {
    (): lambda n: torch.randn(500 * n),
    (5,): lambda n: 3 + 2 * torch.randn(n, 5),
    (3, 8, 8): lambda n: torch.randint(0, 256, (n, 3, 8, 8), dtype=torch.uint8),
}


@pytest.mark.parametrize("item", list(MAKE), ids=str)
def test_alone_as_in_company(item: tuple[int, ...]) -> None:
    ragged = Ragged.of([MAKE[item](n) for n in (3, 1, 6)])
    front = FrontEnd(item, 4)
    front.fit(ragged)
    frames, mask = front(*ragged.pad())
    assert frames.shape == (*mask.shape, 4) and not frames[~mask].any()
    for i in range(3):
        alone, real = front(*ragged.take([i]).pad())
        assert int(front.count(ragged)[i]) == int(mask[i].sum())
        torch.testing.assert_close(frames[i, mask[i]], alone[0, real[0]], atol=1e-5, rtol=1e-4)
    frames.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in front.parameters())


@pytest.mark.parametrize("item", [(), (5,)], ids=str)
def test_scaled_by_the_training_data(item: tuple[int, ...]) -> None:
    ragged = Ragged.of([MAKE[item](n) for n in (3, 4, 6)])
    front = FrontEnd(item, 4)
    front.fit(ragged)
    rows = torch.cat(
        [
            mfcc(wave[None], torch.ones(1, len(wave), dtype=torch.bool))[0][0] if not item else wave
            for wave in map(ragged.__getitem__, range(3))
        ]
    )
    torch.testing.assert_close(front.get_buffer("mean"), rows.mean(0), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(front.get_buffer("deviation"), rows.std(0, correction=0), rtol=1e-3, atol=1e-3)


def test_coefficients_that_are_computed_beforehand() -> None:
    ragged = {
        "audio": Ragged.of([torch.randn(n) for n in (900, 0, 100, 4000)]),
        "text": Ragged.of([torch.randn(n, 5) for n in (1, 2, 0, 3)]),
    }
    batch = Batch(
        ptr=torch.tensor([0, 4]), speaker=torch.zeros(4).long(), target=torch.zeros(4).long(), judged=torch.ones(4).bool(),
        row=torch.arange(4), sequences=ragged,
    )  # fmt: skip
    fronts = FrontEnds({"audio": (), "text": (5,)}, 4)
    fronts.fit(batch)
    prepared = fronts.prepared(batch)
    assert prepared.sequences["audio"].sizes == (4, 0, 1, 23) and prepared.sequences["audio"].item == (40,)
    assert prepared.sequences["text"] is ragged["text"] and fronts.prepared(prepared) is prepared
    for rows in ([0, 3], [1, 2]):
        for one, other in zip(*(fronts["audio"](*b.sequences["audio"].take(rows).pad()) for b in (batch, prepared)), strict=True):
            torch.testing.assert_close(one, other)
