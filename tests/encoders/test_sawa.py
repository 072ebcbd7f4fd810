"""Sliding adaptive window attention against Algorithm 1 in loops over utterances, words and frames."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from erc_graph.encoders.sawa import SlidingAdaptiveWindowAttention, adaptive_weights, window_count, window_start, windows_of

WIDTH = 4


def algorithm_1(query: Tensor, key: Tensor, width: int) -> tuple[Tensor, list[list[int]]]:
    """diag_att `(L, T)` of one utterance, line by line, and the frames of every row; windows begin every half width."""
    words, frames, half = len(query), len(key), width // 2
    windows = []  # k^x: the frames of every window
    while not windows or half * len(windows) + width <= frames:
        first = half * len(windows)
        windows.append([f for f in range(first, first + width) if f < frames])
    diagonal, rows = torch.zeros(words, frames, dtype=query.dtype), []

    def softmax(i: int, chosen: list[int]) -> list[float]:
        powers = [math.exp(float(query[i] @ key[f]) / math.sqrt(query.shape[1])) for f in chosen]
        return [power / sum(powers) for power in powers]

    def strong(i: int, chosen: list[int]) -> bool:
        weights = [float(diagonal[i, f]) for f in chosen]
        threshold = sum(weights) / len(weights)  # line 2
        return sum(weight > threshold + 1e-9 for weight in weights) >= 0.5 * len(weights)  # lines 3, 4

    for i in range(words):
        w = i * len(windows) // words
        row = list(windows[w])
        for f, weight in zip(row, softmax(i, row), strict=True):  # line 1
            diagonal[i, f] = weight
        for reach in (1, 2):
            if not strong(i, row):  # lines 6, 12
                break
            before = [(w - reach) * half + f for f in range(half)]  # lines 7, 13: first half of window w - reach
            after = [(w + reach) * half + half + f for f in range(half)]  # second half of window w + reach
            added = [f for f in (*before, *after) if 0 <= f < frames]
            for f, weight in zip(added, softmax(i, added), strict=True):  # lines 8-10, 14-16
                diagonal[i, f] = weight
            row += added
        rows.append(sorted(row))
    return diagonal, rows


def example(words: list[int], frames: list[int], seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Queries and keys, padded with what must not be read, and their masks."""
    random = torch.Generator().manual_seed(seed)
    found = []
    for lengths in (words, frames):
        values = 0.9 * torch.randn(len(lengths), max(lengths), WIDTH, generator=random, dtype=torch.double)
        found += [values, torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]]
    return found[0], found[1], found[2], found[3]


def weigh(query: Tensor, words: Tensor, key: Tensor, frames: Tensor, width: int, adaptive: bool = True) -> tuple[Tensor, Tensor]:
    start = window_start(words.sum(1), frames.sum(1), words.shape[1], width, width // 2)
    scores = query @ key.mT / math.sqrt(WIDTH)
    return adaptive_weights(scores, start, words[..., None] & frames[:, None], width, adaptive=adaptive)


# Words as windows; fewer words, more words; fewer frames than a window; frames behind the last whole window; one of each.
CASES = [(6, 21), (3, 30), (9, 14), (4, 3), (5, 19), (1, 1), (1, 40), (50, 10), (7, 9)]


@pytest.mark.parametrize("width", [2, 6])
@pytest.mark.parametrize("seed", range(6))
def test_algorithm_1(width: int, seed: int) -> None:
    query, words, key, frames = example([n for n, _ in CASES], [t for _, t in CASES], seed)
    found, seen = weigh(query, words, key, frames, width)
    grown = torch.zeros(3)
    for i, (n, t) in enumerate(CASES):
        expected, rows = algorithm_1(query[i, :n], key[i, :t], width)
        torch.testing.assert_close(found[i, :n, :t], expected)
        assert not found[i, n:].any() and not found[i, :, t:].any() and not seen[i, n:].any()
        assert [row.nonzero().flatten().tolist() for row in seen[i, :n]] == rows
        for total in expected.sum(1):
            grown[round(float(total)) - 1] += 1
    assert (grown > 0).all(), "windows of all three widths were tried"


def test_the_papers_own_numbers() -> None:
    """255 frames make 50 windows of 10, one for each of 50 words; a row grows to twice and to three times its width."""
    query, words, key, frames = example([50], [255])
    assert window_start(words.sum(1), frames.sum(1), 50, 10, 5).tolist() == [list(range(0, 250, 5))]
    assert int(window_count(torch.tensor(255), 10, 5)) == 50
    widths = weigh(query, words, key, frames, 10)[1][0].sum(-1)
    assert set(widths[2:48].tolist()) == {10, 20, 30} and widths.max() == 30
    assert set(weigh(query, words, key, frames, 10, adaptive=False)[1][0].sum(-1).tolist()) == {10}
    ends = torch.zeros(1, 4, 255)  # of words 0, 1, 48 and 49, whose windows cannot grow to both sides
    ends[0, :, 0], ends[0, :, 254] = -1e-2, -1e-2
    start = torch.tensor([[0, 5, 240, 245]])
    many = adaptive_weights(ends, start, torch.ones(1, 4, 255).bool(), 10)
    assert many[1].sum(-1).tolist() == [[15, 10, 10, 15]]


def test_equal_frames_are_no_key_points() -> None:
    """Silence: all weights of a window are equal but for rounding, and no window grows."""
    query, words, key, frames = example([4], [40])
    noise = 1e-9 * torch.randn(1, 40, WIDTH, dtype=torch.double)
    weights, seen = weigh(query, words, key[:, :1].expand(1, 40, WIDTH) + noise, frames, 10)
    assert (seen.sum(-1) == 10).all()
    torch.testing.assert_close(weights[seen], torch.full((40,), 0.1).double())


@pytest.mark.parametrize("window", [0, 4, 10])
def test_the_whole_layer(window: int) -> None:
    net = SlidingAdaptiveWindowAttention(WIDTH, window=window).double()
    words, words_mask, frames, frames_mask = example([3, 5, 1], [9, 30, 2])
    mixed, weights, seen = net(words, words_mask, frames, frames_mask)
    assert mixed.shape == (3, 5, WIDTH) and weights.shape == seen.shape == (3, 5, 30)
    assert not mixed[~words_mask].any() and not weights[~seen].any()
    for i, (n, t) in enumerate([(3, 9), (5, 30), (1, 2)]):
        query, key, value = net.query(words[i, :n]), net.key(frames[i, :t]), net.value(frames[i, :t])
        expected = algorithm_1(query.detach(), key.detach(), window)[0] if window else (query @ key.T / math.sqrt(WIDTH)).softmax(-1)
        torch.testing.assert_close(mixed[i, :n], expected @ value)
    other = frames.masked_fill(~frames_mask[..., None], 7.0)
    torch.testing.assert_close(net(words, words_mask, other, frames_mask)[0], mixed, rtol=0, atol=0)
    mixed.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_a_window_may_be_wider_than_two_hops_when_it_does_not_grow() -> None:
    net = SlidingAdaptiveWindowAttention(WIDTH, window=8, hop=2, adaptive=False).double()
    seen = net(*example([4], [14]))[2][0]
    assert [row.nonzero().flatten().tolist() for row in seen] == [list(range(2 * i, 2 * i + 8)) for i in range(4)]


def test_windows_stand_in_for_words() -> None:
    _, _, frames, mask = example([1], [15, 4, 9, 0, 1])
    means, here = windows_of(frames, mask, 6, 3)
    assert here.sum(1).tolist() == [4, 1, 2, 0, 1]
    for i, windows in enumerate([[(0, 6), (3, 9), (6, 12), (9, 15)], [(0, 4)], [(0, 6), (3, 9)], [], [(0, 1)]]):
        for w, (start, end) in enumerate(windows):
            torch.testing.assert_close(means[i, w], frames[i, start:end].mean(0))
        assert not means[i, len(windows) :].any()
    one, _ = windows_of(frames[1:2, :4], mask[1:2, :4], 6, 3)
    torch.testing.assert_close(one[0], means[1, :1])
