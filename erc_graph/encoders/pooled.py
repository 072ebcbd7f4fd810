"""Pooling of sequences to one vector per utterance: mean and standard deviation over time."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from erc_graph.data.batch import Batch
from erc_graph.data.ragged import Ragged
from erc_graph.encoders.sequences import encode_sequences, masked_mean
from erc_graph.features.mfcc import mfcc

COEFFICIENTS = 20  # of the MFCCs of a waveform
SIDE = 8  # of an image
TOKENS = 1 << 20  # numbers of a chunk


def pooled_width(item: tuple[int, ...]) -> int:
    """Return the width of the vector that `pooled` computes from a sequence; `item` is the shape of one word, frame, sample or image.

    >>> pooled_width((768,)), pooled_width(()), pooled_width((3, 48, 48))
    (1536, 40, 384)
    """
    return 2 * (COEFFICIENTS if not item else item[0] if len(item) == 1 else math.prod(item[:-2]) * SIDE * SIDE)


def pooled(batch: Batch) -> Batch:
    """Return the batch without sequences, with the mean and standard deviation of each sequence as features.

    The statistics are over the vectors of words or frames, or over the MFCCs of a waveform. An image is first reduced to a vector: for each
    channel, the mean brightness of each cell of an 8 × 8 grid.
    """
    if not batch.sequences:
        return batch
    vectors = {name: statistics(value) for name, value in batch.sequences.items()}
    present = {name: value.present for name, value in batch.sequences.items()}
    return replace(batch, features={**batch.features, **vectors}, present={**batch.present, **present}, sequences={})


@torch.no_grad()
def statistics(sequences: Ragged) -> Tensor:
    """Compute mean and standard deviation over time, concatenated: `(U, pooled_width)`, zero for an empty sequence."""
    size = max(1, math.prod(sequences.item))
    return encode_sequences(_statistics, sequences, pooled_width(sequences.item), max(1, TOKENS // size))


def _statistics(padded: Tensor, mask: Tensor) -> Tensor:
    """Compute mean and standard deviation over time of padded sequences: `(n, L, *item)` with the mask `(n, L)` → `(n, width)`."""
    if padded.ndim == 2:
        frames, mask = mfcc(padded, mask, coefficients=COEFFICIENTS)
    elif padded.ndim == 3:
        frames = padded.float()
    else:
        images = padded.flatten(0, 1).flatten(1, -3).float() / 255
        frames = F.adaptive_avg_pool2d(images, SIDE).flatten(1).view(*mask.shape, -1)
    mean = masked_mean(frames, mask)
    return torch.cat([mean, masked_mean((frames - mean[:, None]).square(), mask).sqrt()], -1)
