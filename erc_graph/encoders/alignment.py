"""Alignment of the sequences of an utterance: all are resampled to the length of the shortest sequence, usually the words."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from erc_graph.data.ragged import Ragged
from erc_graph.encoders.frontend import FrontEnds
from erc_graph.encoders.sequences import encode_together

TOKENS = 8192  # most items that are encoded at once
SAMPLES = 1 << 20  # where some are samples of a waveform


def aligned(padded: Mapping[str, tuple[Tensor, Tensor]], leading: Collection[str]) -> tuple[dict[str, Tensor], Tensor]:
    """Resample the sequences of all modalities to the same number of steps.

    Longer sequences are averaged over equal spans of the utterance; the words or frames of shorter sequences are repeated.

    Args:
        padded: Modality → `(n, L, width)` and the mask `(n, L)` bool; every utterance has at least one modality.
        leading: Modalities that determine the number of steps of an utterance. This number is the length of their shortest sequence, or 1
            if an utterance lacks all leading modalities.

    Returns:
        Modality → `(n, T, width)`, zero if the modality is missing, and `(n, T, modalities)` bool, the presence of each modality at each
            step. `T` is the largest number of steps.

    >>> frames = torch.tensor([[[1.0], [3.0], [5.0], [9.0]]]), torch.ones(1, 4, dtype=torch.bool)
    >>> words = torch.tensor([[[1.0], [2.0]]]), torch.ones(1, 2, dtype=torch.bool)
    >>> aligned({"audio": frames, "text": words}, ("audio", "text"))[0]["audio"].flatten().tolist()
    [2.0, 7.0]
    """
    lengths = {name: mask.sum(1) for name, (_, mask) in padded.items()}
    longest = max(values.shape[1] for values, _ in padded.values())
    known = [torch.where(lengths[name] > 0, lengths[name], longest + 1) for name in leading]
    steps = torch.stack(known).amin(0) if known else torch.ones_like(next(iter(lengths.values())))
    steps = torch.where(steps > longest, 1, steps)[:, None]
    step = torch.arange(int(steps.max()), device=steps.device)
    found, there = {}, []
    for name, (values, _) in padded.items():
        count = lengths[name][:, None]
        start = (step * count // steps).clamp(max=max(values.shape[1] - 1, 0))
        end = torch.maximum(start + 1, (step + 1) * count // steps).clamp(max=values.shape[1])
        sums = F.pad(values, (0, 0, 1, 0)).cumsum(1)
        of_start, of_end = (sums.gather(1, edge[..., None].expand(-1, -1, values.shape[2])) for edge in (start, end))
        there.append((step < steps) & (count > 0))
        found[name] = torch.where(there[-1][..., None], (of_end - of_start) / (end - start).clamp(min=1)[..., None], 0.0)
    return found, torch.stack(there, -1)


class AlignedSteps(nn.Module):
    """Alignment of all modalities of an utterance; front ends first convert raw audio and video to vectors.

    If a modality has a single vector per utterance, the vector is repeated at every step.

    Args:
        widths: Modality with one vector per utterance → width of the vector.
        items: Modality with a sequence per utterance → shape of one item of the sequence (word vector, audio frame or image).
        frames: Width of the frames that front ends compute.

    Attributes:
        inputs: Modality → width of its vectors at each step; text first.
    """

    def __init__(self, widths: Mapping[str, int], items: Mapping[str, tuple[int, ...]], frames: int) -> None:
        super().__init__()
        found = dict(widths) | {name: item[0] if len(item) == 1 else frames for name, item in items.items()}
        self.inputs = dict(sorted(found.items(), key=lambda pair: (pair[0] != "text", pair[0])))
        self.leading = tuple(items)
        self.fronts = FrontEnds({name: item for name, item in items.items() if len(item) != 1}, frames)

    def forward(self, padded: Mapping[str, tuple[Tensor, Tensor]]) -> tuple[dict[str, Tensor], Tensor]:
        """Convert raw audio and video to vectors, then align all modalities with `aligned`; the output has the order of `inputs`."""
        read = {name: self.fronts[name](*padded[name]) if name in self.fronts else padded[name] for name in self.inputs}
        return aligned(read, self.leading)

    def encode(
        self,
        function: Callable[[Mapping[str, Tensor], Tensor], Tensor],
        values: Mapping[str, Tensor],
        sequences: Mapping[str, Ragged],
        present: Mapping[str, Tensor],
        width: int,
    ) -> Tensor:
        """Apply an encoder to all utterances with at least one modality; utterances of similar length are encoded together.

        Args:
            function: The encoder, which maps the output of `forward` to `(n, width)`.
            values: Modality with one vector per utterance → vectors `(N, width of the modality)`.
            sequences: Modality with a sequence per utterance → the sequences.
            present: Modality with one vector per utterance → `(N,)` bool, whether the utterance has the modality.
            width: Width of the output of the encoder.

        Returns:
            Output of the encoder, `(N, width)`, zero for an utterance without any modality.
        """
        once = {name: Ragged.of_rows(rows, present[name]) for name, rows in values.items()}
        waves = any(not value.item for value in sequences.values())
        return encode_together(lambda padded: function(*self(padded)), {**sequences, **once}, width, SAMPLES if waves else TOKENS)
