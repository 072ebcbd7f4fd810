"""Front ends: modules that convert the words, frames, waveform or images of an utterance to vectors of one width, called frames."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from erc_graph.data.batch import Batch
from erc_graph.data.ragged import Ragged
from erc_graph.features.mfcc import HOP, WINDOW, mfcc

COEFFICIENTS = 40
TOKENS = 1 << 20  # numbers of a chunk, while scaling is fitted


def items_per_frame(item: tuple[int, ...]) -> int:
    """Return the number of items per frame: 160 samples of a waveform, or one word vector, frame or image of any other sequence.

    `item` is the shape of an item: `()` for a sample of a waveform.

    >>> items_per_frame(()), items_per_frame((768,))
    (160, 1)
    """
    return 1 if item else HOP


class FrontEnd(nn.Module):
    """The front end of one modality: padded sequences `(n, L, *item)` and their mask → frames `(n, frames, width)` and their mask.

    A waveform is converted to MFCCs, 100 frames per second. An image is encoded by a small convolutional network. If a sequence consists of
    vectors, they are used as frames. MFCCs and vectors are standardised with mean and standard deviation of the training split (method
    `fit`). A linear layer then projects all frames to `width`.

    Args:
        item: Shape of one item of a sequence: `()` for a sample of a waveform, `(d,)` for a vector, `(channels, height, width)` for an
            8-bit image.
        width: Width of the output frames; default: frames are not projected and keep their width.
    """

    def __init__(self, item: tuple[int, ...], width: int | None) -> None:
        super().__init__()
        inputs = COEFFICIENTS if not item else item[0] if len(item) == 1 else 64
        self.item, self.width = item, width or inputs
        scaled = 0 if len(item) > 1 else inputs
        self.register_buffer("mean", torch.zeros(scaled))
        self.register_buffer("deviation", torch.ones(scaled))
        self.image = (
            nn.Sequential(
                nn.Conv2d(item[0], 16, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(),
                nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(32 * 16, inputs), nn.ReLU(),
            )
            if len(item) > 1
            else None
        )  # fmt: skip
        self.project = nn.Linear(inputs, width) if width else nn.Identity()

    def frames(self, padded: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the frames before standardisation, and their mask: MFCCs of a waveform, or unchanged vectors or images."""
        return mfcc(padded, mask, coefficients=COEFFICIENTS) if padded.ndim == 2 else (padded.to(self.get_buffer("mean").dtype), mask)

    def count(self, sequences: Ragged) -> Tensor:
        """Return the number of frames per sequence, `(U,)`."""
        lengths = sequences.lengths
        return lengths if sequences.item else ((lengths - WINDOW).div(HOP, rounding_mode="floor") + 1).clamp(min=1) * (lengths > 0)

    @torch.no_grad()
    def fit(self, sequences: Ragged) -> None:
        """Compute mean and standard deviation of the frames of the training split."""
        if len(self.item) > 1 or not len(sequences.values):
            return
        total, squares, count = (torch.zeros(len(self.get_buffer("mean")), dtype=torch.double, device=sequences.device) for _ in range(3))
        for _, part in sequences.chunks(max(1, TOKENS // max(1, math.prod(self.item)))):
            frames, mask = self.frames(*part.pad())
            rows = frames[mask].double()
            total, squares, count = total + rows.sum(0), squares + rows.square().sum(0), count + len(rows)
        mean = total / count
        deviation = (squares / count - mean.square()).clamp(min=0).sqrt()
        self.get_buffer("mean").copy_(mean)
        self.get_buffer("deviation").copy_(torch.where(deviation > 1e-6, deviation, 1.0))

    def forward(self, padded: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Encode padded sequences: `(n, L, *item)`, mask `(n, L)` → frames `(n, frames, width)`, zero at padding, and their mask."""
        frames, mask = self.frames(padded, mask)
        if self.image is not None:
            real = self.image((frames[mask] / 255).to(self.get_buffer("mean").dtype))
            states = self.project(real)
            return states.new_zeros(*mask.shape, self.width).masked_scatter(mask[..., None], states), mask
        states = self.project((frames - self.get_buffer("mean")) / self.get_buffer("deviation"))
        return states * mask[..., None], mask


class FrontEnds(nn.ModuleDict):
    """Front ends, one for each modality with a sequence (of words, frames, samples or images) per utterance.

    Args:
        items: Modality → shape of one word vector, frame, sample or image.
        width: Width of all output frames; default: the frames of each modality keep their width.
    """

    def __init__(self, items: Mapping[str, tuple[int, ...]], width: int | None = None) -> None:
        super().__init__({name: FrontEnd(item, width) for name, item in items.items()})

    def fit(self, train: Batch) -> None:
        """Compute mean and standard deviation of every modality on the training split."""
        for name, front in self.items():
            front.fit(train.sequences[name])  # type: ignore[operator]

    def count(self, batch: Batch) -> dict[str, Tensor]:
        """Return the number of frames of every sequence: modality → `(U,)`."""
        return {name: front.count(batch.sequences[name]) for name, front in self.items()}  # type: ignore[operator]

    @torch.no_grad()
    def prepared(self, batch: Batch) -> Batch:
        """Return the batch with MFCCs instead of waveforms. MFCCs are then computed once instead of in every epoch."""
        waves = {name: value for name, value in batch.sequences.items() if name in self and not value.item}
        if not waves:
            return batch
        return replace(batch, sequences={**batch.sequences, **{name: _mfccs(value) for name, value in waves.items()}})


def _mfccs(waves: Ragged) -> Ragged:
    """Compute the MFCCs of every waveform, in the order of the waveforms."""
    rows, values, lengths = [], [waves.values.new_zeros(0, COEFFICIENTS)], torch.zeros(len(waves), dtype=torch.long)
    for chosen, part in waves.chunks(TOKENS):
        frames, mask = mfcc(*part.pad(), coefficients=COEFFICIENTS)
        rows.append(chosen)
        values.append(frames[mask])
        lengths[chosen] = mask.sum(1).cpu()
    order = torch.cat([*rows, (lengths == 0).nonzero().squeeze(1)])
    return Ragged(torch.cat(values), torch.cat([lengths.new_zeros(1), lengths[order].cumsum(0)])).take(order.argsort())
