"""MFCCs against the printed equations, window by window."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from erc_graph.features.mfcc import BINS, FLOOR, HOP, RATE, WINDOW, filters, mfcc


def oracle(wave: np.ndarray, mels: int, coefficients: int) -> np.ndarray:
    """Equations (1) to (5) in loops, in double precision."""
    hz = [k * RATE / BINS for k in range(BINS // 2 + 1)]
    top = 2595 * math.log10(1 + RATE / 2 / 700)
    edges = [700 * (10 ** (top * i / (mels + 1) / 2595) - 1) for i in range(mels + 2)]
    rows = []
    for start in range(0, max(1, len(wave) - WINDOW + 1), HOP):
        cut = np.zeros(WINDOW)
        cut[: len(wave[start : start + WINDOW])] = wave[start : start + WINDOW]
        window = [0.5 - 0.5 * math.cos(2 * math.pi * n / WINDOW) for n in range(WINDOW)]
        spectrum = np.fft.fft(np.array([x * w for x, w in zip(cut, window, strict=True)]), BINS)
        logs = []
        for m in range(1, mels + 1):
            low, centre, high = edges[m - 1 : m + 2]
            height = [max(0.0, min((f - low) / (centre - low), (high - f) / (high - centre))) for f in hz]
            logs.append(math.log(max(FLOOR, sum(abs(spectrum[k]) ** 2 * height[k] for k in range(len(hz))))))
        rows.append([sum(logs[m - 1] * math.cos((m - 0.5) * n * math.pi / mels) for m in range(1, mels + 1)) for n in range(coefficients)])
    return np.array(rows)


def test_equations_in_loops() -> None:
    rng = np.random.default_rng(0)
    waves = [rng.standard_normal(n) for n in (1000, 700, 399)]
    longest = max(map(len, waves))
    padded = torch.tensor(np.stack([np.pad(wave, (0, longest - len(wave))) for wave in waves])).float()
    mask = torch.arange(longest) < torch.tensor([len(wave) for wave in waves])[:, None]
    found, real = mfcc(padded, mask, mels=12, coefficients=7)
    for row, here, wave in zip(found, real, waves, strict=True):
        expected = oracle(wave, 12, 7)
        assert int(here.sum()) == len(expected)
        torch.testing.assert_close(row[here].double(), torch.tensor(expected), rtol=1e-3, atol=1e-3)


def test_a_tone_is_heard_in_its_filter_and_silence_is_finite() -> None:
    time = torch.arange(RATE) / RATE
    power = torch.fft.rfft(torch.sin(2 * math.pi * 1000 * time[:WINDOW]) * torch.hann_window(WINDOW), BINS).abs().square()
    loudest = int((power @ filters(40)).argmax())
    centre = 700 * (10 ** ((loudest + 1) * 2595 * math.log10(1 + 8000 / 700) / 41 / 2595) - 1)
    assert abs(centre - 1000) < 100
    silence, mask = mfcc(torch.zeros(1, 800), torch.ones(1, 800, dtype=torch.bool))
    assert silence.isfinite().all() and mask.all()


@pytest.mark.slow
def test_equals_librosa() -> None:
    """Filters of height one, no orthonormal transform; its DCT-II has a factor of two that Eq. (5) lacks; its window lies in the middle."""
    librosa = pytest.importorskip("librosa")
    wave = np.random.default_rng(0).standard_normal(4000).astype(np.float32)
    side = (BINS - WINDOW) // 2
    sizes = {"n_fft": BINS, "win_length": WINDOW, "hop_length": HOP, "sr": RATE, "n_mels": 40}
    power = librosa.feature.melspectrogram(y=np.pad(wave, side), center=False, power=2.0, htk=True, norm=None, **sizes)
    expected = librosa.feature.mfcc(S=np.log(np.maximum(power, FLOOR)), n_mfcc=20, dct_type=2, norm=None).T / 2
    found, real = mfcc(torch.from_numpy(wave)[None], torch.ones(1, 4000, dtype=torch.bool), coefficients=20)
    assert found.shape[1:] == expected.shape and real.all()
    torch.testing.assert_close(found[0], torch.from_numpy(expected).float(), atol=2e-3, rtol=1e-4)
