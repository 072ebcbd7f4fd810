r"""Sliding adaptive window attention (MFDR, Section 2.1): a word attends to a window of frames, which grows if many weights are high.

A new window of `window` frames begins every `hop` frames. Word `i` of `n` has window `⌊i N / n⌋` of the `N` windows of the utterance. The
attention weights of a word are a softmax over its window (Algorithm 1, line 1). If at least half of these weights exceed their mean (lines
2-4, 6), the window grows by half a window on both sides. The new frames get weights from a second softmax (lines 7-10). The window may grow
a second time, if at least half of all weights of the word exceed their mean (lines 11-16). Every softmax adds one to the sum of the weights
of a word, so this sum is one, two or three. The growth of windows has no trainable parameters.

The implementation computes the product of all words with all frames, and then applies a mask. A copy of the frames of overlapping windows
would take more time.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MARGIN = 1e-5  # by which a weight exceeds the mean: equal frames have equal weights but for rounding, and none of them is a key point


def window_count(frames: Tensor, window: int, hop: int) -> Tensor:
    """Return the number of complete windows in a number of frames, at least one.

    >>> window_count(torch.tensor([3, 10, 14, 15, 255]), window=10, hop=5).tolist()
    [1, 1, 1, 2, 50]
    """
    return ((frames - window).div(hop, rounding_mode="floor") + 1).clamp(min=1)


def window_start(words: Tensor, frames: Tensor, longest: int, window: int, hop: int) -> Tensor:
    """Return the first frame of the window of every word.

    Args:
        words: `(n,)` number of words per utterance, at least one.
        frames: `(n,)` number of frames per utterance.
        longest: `L`, the largest number of words.
        window: Number of frames per window.
        hop: Number of frames from the start of one window to the start of the next.

    Returns:
        Index of the first frame, `(n, L)` int64; padding has the value of the last word.
    """
    place = torch.minimum(torch.arange(longest, device=words.device), words[:, None] - 1)
    return place * window_count(frames, window, hop)[:, None] // words[:, None] * hop


def adaptive_weights(scores: Tensor, start: Tensor, real: Tensor, window: int, *, adaptive: bool = True) -> tuple[Tensor, Tensor]:
    """Compute the attention weights of all words of all utterances (MFDR, Algorithm 1).

    Args:
        scores: `(n, L, T)` attention scores of `L` words and `T` frames.
        start: `(n, L)` first frame of the window of every word.
        real: `(n, L, T)` bool, true if neither the word nor the frame is padding.
        window: Number of frames per window, an even number; a new window begins every `window / 2` frames.
        adaptive: Whether windows grow.

    Returns:
        Attention weights `(n, L, T)`, and the mask `(n, L, T)` of the frames that every word attends to.
    """
    half = window // 2
    step = (torch.arange(scores.shape[-1], device=scores.device) - start[..., None]).div(half, rounding_mode="floor")  # in half windows
    own = real & ((step == 0) | (step == 1))
    weights = _softmax(scores, own)
    if not adaptive:
        return weights, own
    seen = own
    for ring in (1, 2):
        real = real & _grows(weights, seen)  # what did not grow once does not grow twice
        wider = real & ((step == -ring) | (step == 1 + ring))
        weights, seen = weights + _softmax(scores, wider), seen | wider
    return weights, seen


def _grows(weights: Tensor, seen: Tensor) -> Tensor:
    """Return whether at least half of the attention weights of a word exceed their mean, `(n, L, 1)` bool."""
    count = seen.sum(-1, keepdim=True)
    mean = weights.detach().sum(-1, keepdim=True).round() / count.clamp(min=1)  # a sum of softmaxes is a whole number
    points = (weights.detach() > (1 + MARGIN) * mean) & seen
    return (2 * points.sum(-1, keepdim=True) >= count) & (count > 0)


def _softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Compute the softmax over the frames where the mask is true; all other frames have weight zero."""
    return scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(-1) * mask


class SlidingAdaptiveWindowAttention(nn.Module):
    """Attention from words to the frames of their windows.

    Args:
        width: Width of words, frames and output.
        window: Number of frames per window, an even number; 0: every word attends to all frames.
        adaptive: Whether windows grow.
        hop: Number of frames from the start of one window to the start of the next; default: `window / 2`. `adaptive` requires the
            default.
    """

    def __init__(self, width: int, *, window: int = 10, adaptive: bool = True, hop: int | None = None) -> None:
        super().__init__()
        self.window, self.hop, self.adaptive = window, hop or max(1, window // 2), adaptive
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))

    def weights(self, words: Tensor, words_mask: Tensor, frames: Tensor, frames_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the attention weights `(n, L, T)` and the mask of the attended frames; see `forward` for the arguments."""
        scores = self.query(words) @ self.key(frames).mT / math.sqrt(words.shape[-1])
        real = words_mask[..., None] & frames_mask[:, None]
        if not self.window:
            return _softmax(scores, real), real
        lengths = words_mask.sum(1).clamp(min=1), frames_mask.sum(1)
        start = window_start(*lengths, words.shape[1], self.window, self.hop)
        return adaptive_weights(scores, start, real, self.window, adaptive=self.adaptive)

    def forward(self, words: Tensor, words_mask: Tensor, frames: Tensor, frames_mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the attention output of every word.

        Args:
            words: `(n, L, width)` queries.
            words_mask: `(n, L)` bool; real words come first.
            frames: `(n, T, width)` keys and values.
            frames_mask: `(n, T)` bool; real frames come first.

        Returns:
            The output `(n, L, width)`, the attention weights `(n, L, T)`, and the mask `(n, L, T)` of the attended frames.
        """
        weights, seen = self.weights(words, words_mask, frames, frames_mask)
        return weights @ self.value(frames), weights, seen


def windows_of(frames: Tensor, mask: Tensor, window: int, hop: int) -> tuple[Tensor, Tensor]:
    """Return the mean frame of each of `N` windows, and the mask of the windows: `(n, T, d)`, `(n, T)` → `(n, N, d)`, `(n, N)`.

    In an utterance without text, the mean frames replace the words.
    """
    short = max(0, window - frames.shape[1])
    real = F.pad(mask.to(frames.dtype), (0, short))[..., None]
    total, count = (F.avg_pool1d(rows.mT, window, hop).mT for rows in (F.pad(frames, (0, 0, 0, short)) * real, real))
    here = torch.arange(total.shape[1], device=mask.device) < window_count(mask.sum(1), window, hop)[:, None]
    return total / count.clamp(min=1 / window) * here[..., None], here & mask.any(1, keepdim=True)
