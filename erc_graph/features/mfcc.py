r"""Mel-frequency cepstral coefficients (MFCC) of batches of waveforms, without trained parameters.

The equations are those of Xie, Zhou and Zhu, *Multimodal Emotion Recognition Based on Hierarchical Feature Fusion*, 2025.

.. math::
    X(t, f) &= \sum_n x(n)\, w(n - t)\, e^{-j 2 \pi f n} \tag{1} \\
    M(f) &= 2595 \log_{10}(1 + f / 700) \tag{2} \\
    S_m &= \sum_k |X(t, f_k)|^2 H_m(f_k) \tag{3} \\
    S'_m &= \log |S_m| \tag{4} \\
    c_n &= \sum_{m=1}^{M} S'_m \cos((m - 0.5)\, n \pi / M) \tag{5}

Here :math:`x` is the waveform, :math:`w` the window, :math:`X` the spectrum at time :math:`t` and frequency :math:`f`, :math:`M(f)` the
frequency in mel, :math:`M` the number of filters, :math:`S_m` the energy in filter :math:`m`, and :math:`c_n` a coefficient. The filters
:math:`H_m` are triangles of height one and of equal width on the mel scale. The window is a Hann window of 25 ms; a new window begins every
10 ms. The paper does not state the numbers of filters and coefficients; the default is 40 filters and 40 coefficients. The argument of the
logarithm has a lower bound, so that silence gives finite values. The paper does not mention this bound.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

RATE = 16_000
WINDOW, HOP, BINS = 400, 160, 512  # 25 ms, 10 ms, points of the transform
FLOOR = 1e-6


def mel(frequency: Tensor) -> Tensor:
    """Convert frequencies in Hz to mel.

    >>> round(float(mel(torch.tensor(1000.0))))
    1000
    """
    return 2595 * torch.log10(1 + frequency / 700)  # Eq. (2)


@lru_cache
def filters(count: int = 40, rate: int = RATE, bins: int = BINS) -> Tensor:
    """Return the triangular mel filters from 0 Hz to half the sampling rate, `(bins / 2 + 1, count)`, one filter per column."""
    top = float(mel(torch.tensor(rate / 2)))
    edges = 700 * (10 ** (torch.linspace(0, top, count + 2, dtype=torch.float64) / 2595) - 1)
    frequency = torch.linspace(0, rate / 2, bins // 2 + 1, dtype=torch.float64)[:, None]
    rising = (frequency - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequency) / (edges[2:] - edges[1:-1])
    return torch.minimum(rising, falling).clamp(min=0).float()


@lru_cache
def cosines(filters: int = 40, coefficients: int = 40) -> Tensor:
    """Return the matrix of the discrete cosine transform, `(filters, coefficients)`. The first column computes the coefficient c_0."""
    m, n = torch.arange(1, filters + 1, dtype=torch.float64)[:, None], torch.arange(coefficients, dtype=torch.float64)
    return torch.cos((m - 0.5) * n * math.pi / filters).float()


def mfcc(waves: Tensor, mask: Tensor, *, mels: int = 40, coefficients: int = 40) -> tuple[Tensor, Tensor]:
    """Compute the MFCC of every window of every utterance. A frame is one window.

    An utterance that is shorter than a window is padded with silence to the length of a window.

    Args:
        waves: Waveforms of `n` utterances, `(n, L)` float32 at 16 kHz, padded with zeros to `L` samples.
        mask: `(n, L)` bool, True for samples, False for padding.
        mels: Number of mel filters.
        coefficients: Number of coefficients; the first coefficient is c_0.

    Returns:
        Coefficients `(n, frames, coefficients)`, and the mask of real frames `(n, frames)` bool.
    """
    waves = F.pad(waves, (0, max(0, WINDOW - waves.shape[1])))
    windows = waves.unfold(1, WINDOW, HOP) * torch.hann_window(WINDOW, device=waves.device)
    power = torch.fft.rfft(windows, BINS).abs().square()  # Eq. (1)
    energy = power @ filters(mels).to(waves)  # Eq. (3)
    logs = energy.clamp(min=FLOOR).log()  # Eq. (4)
    start = torch.arange(windows.shape[1], device=waves.device) * HOP
    whole = (start + WINDOW <= mask.sum(1)[:, None]) | ((start == 0) & mask.any(1)[:, None])
    return logs @ cosines(mels, coefficients).to(waves), whole  # Eq. (5)
