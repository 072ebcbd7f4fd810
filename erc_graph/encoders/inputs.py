"""From stored features to the first states: scaling fitted on the training split, and what stands where a modality is missing."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from erc_graph.data.batch import Batch

LEAST_DEVIATION = 0.1  # of a speaker within a dialogue, in units of the training split's deviation


class Inputs(nn.Module):
    """Scaled features per modality; a learned vector stands for what is missing.

    Mean and deviation are fitted once on the training split (`fit`) and stored with the model as buffers.

    Args:
        widths: Modality → number of features.
        speaker_relative: Modalities that are given twice: as they are, and beside that relative to the speaker (`relative_to_speaker`).

    Attributes:
        output_widths: Modality → number of values that come out.
    """

    def __init__(self, widths: Mapping[str, int], *, speaker_relative: Collection[str] = ()) -> None:
        super().__init__()
        self.widths = dict(widths)
        self.speaker_relative = frozenset(speaker_relative)
        self.output_widths = {name: width * (1 + (name in self.speaker_relative)) for name, width in widths.items()}
        self.missing = nn.ParameterDict({name: nn.Parameter(torch.zeros(width)) for name, width in self.output_widths.items()})
        for name, width in widths.items():
            self.register_buffer(f"mean_{name}", torch.zeros(width))
            self.register_buffer(f"deviation_{name}", torch.ones(width))

    def fit(self, batch: Batch) -> None:
        """Take mean and deviation from the present rows of `batch`, which must be training data alone."""
        for name in self.widths:
            rows = batch.features[name][batch.present[name]].double()
            if len(rows) > 1:
                deviation = rows.std(0, correction=0)
                self.get_buffer(f"mean_{name}").copy_(rows.mean(0))
                self.get_buffer(f"deviation_{name}").copy_(torch.where(deviation > 1e-6, deviation, 1.0))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Modality → `(N, output width)`."""
        states = {}
        for name in self.widths:
            scaled = (batch.features[name] - self.get_buffer(f"mean_{name}")) / self.get_buffer(f"deviation_{name}")
            if name in self.speaker_relative:
                scaled = torch.cat([scaled, relative_to_speaker(scaled, batch.present[name], batch)], -1)
            states[name] = torch.where(batch.present[name][:, None], scaled, self.missing[name])
        return states


def relative_to_speaker(values: Tensor, present: Tensor, batch: Batch) -> Tensor:
    """Values minus the speaker's own mean in the dialogue, over the speaker's own deviation there.

    How loud or high somebody speaks says more about the emotion when one knows how that person speaks otherwise (speaker normalisation,
    usual in speech emotion recognition: Busso et al., "Iterative feature normalization scheme for automatic emotion detection from speech",
    IEEE Transactions on Affective Computing, 2013). Whole dialogues are needed, later turns included.

    Args:
        values: `(N, d)` scaled features.
        present: `(N,)` bool; absent rows count nowhere.
        batch: The dialogues.

    Returns:
        `(N, d)`; zero for a speaker's only turn. A deviation below `LEAST_DEVIATION` counts as that much more.
    """
    own = batch.dialogue * batch.longest + batch.speaker  # a dialogue has no more speakers than turns
    here = present[:, None]
    values = torch.where(here, values, 0.0)
    groups = values.new_zeros(len(batch) * batch.longest, values.shape[1] + 1)
    sums = groups.index_add(0, own, torch.cat([values, here.to(values.dtype)], -1))
    turns = sums[:, -1:].clamp(min=1)
    distance = torch.where(here, values - (sums[:, :-1] / turns)[own], 0.0)
    variance = torch.zeros_like(sums[:, :-1]).index_add(0, own, distance.square()) / turns
    deviation = (variance + 1e-12).sqrt()  # a finite slope at zero
    return distance / (deviation[own] + LEAST_DEVIATION)


def swapped(batch: Batch, shares: Mapping[str, float]) -> Batch:
    """The batch with a share of a modality's vectors traded for another utterance's; for training alone.

    Features that were fitted to the training labels look far more reliable in training than they are; this restores the doubt.

    Args:
        batch: Dialogues.
        shares: Modality → share of rows that are traded, each for a row of the batch drawn at random, missing ones included.
    """
    features, present = dict(batch.features), dict(batch.present)
    for name, share in shares.items():
        rows = torch.arange(batch.utterances, device=batch.device)
        traded = torch.rand(len(rows), device=batch.device) < share
        rows = torch.where(traded, torch.randint(len(rows), (len(rows),), device=batch.device), rows)
        features[name], present[name] = features[name][rows], present[name][rows]
    return replace(batch, features=features, present=present)


def hidden(present: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """Presence with a share of the modalities of every utterance gone at random, never the last one; for training alone (modality dropout).

    Args:
        present: Modality → `(N,)` bool.
        share: Probability that a modality that is there is hidden.
    """
    here = torch.stack(list(present.values()), 1)
    kept = here & (torch.rand(here.shape, device=here.device) >= share)
    kept = torch.where(kept.any(1, keepdim=True), kept, here)
    return dict(zip(present, kept.unbind(1), strict=True))
