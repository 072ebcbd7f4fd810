"""Alignment of the sequences of an utterance: all get as many steps as the shortest, usually the words."""

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
    """Give every modality the same steps.

    Items that are more than the steps are averaged over equal spans of the utterance, fewer are repeated.

    Args:
        padded: Modality → `(n, L, width)` and the mask `(n, L)` bool; an utterance has any modality.
        leading: Modalities of which the shortest that is there says how many steps there are; where none is, one step.

    Returns:
        Modality → `(n, T, width)`, zero where it is missing, and `(n, T, modalities)` bool, what is there at which step.

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
    """All modalities of an utterance with the same steps: sequences aligned, vectors at every step, raw audio and video through front ends.

    Args:
        widths: Modality that is a vector → its width.
        items: Modality that is a sequence → shape of one item.
        frames: Width of what a front end makes.

    Attributes:
        inputs: Modality → width at a step; text first.
    """

    def __init__(self, widths: Mapping[str, int], items: Mapping[str, tuple[int, ...]], frames: int) -> None:
        super().__init__()
        found = dict(widths) | {name: item[0] if len(item) == 1 else frames for name, item in items.items()}
        self.inputs = dict(sorted(found.items(), key=lambda pair: (pair[0] != "text", pair[0])))
        self.leading = tuple(items)
        self.fronts = FrontEnds({name: item for name, item in items.items() if len(item) != 1}, frames)

    def forward(self, padded: Mapping[str, tuple[Tensor, Tensor]]) -> tuple[dict[str, Tensor], Tensor]:
        """Return `aligned` in the order of `inputs`."""
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
        """Apply an encoder to all utterances that have anything, some of similar length at a time.

        Args:
            function: What `forward` gives → `(n, width)`.
            values: Modality → `(N, ·)` vectors.
            sequences: Modality → its sequences.
            present: Modality → `(N,)` bool.
            width: Width of the output.

        Returns:
            `(N, width)`, zero where an utterance has nothing.
        """
        once = {name: Ragged.of_rows(rows, present[name]) for name, rows in values.items()}
        waves = any(not value.item for value in sequences.values())
        return encode_together(lambda padded: function(*self(padded)), {**sequences, **once}, width, SAMPLES if waves else TOKENS)
