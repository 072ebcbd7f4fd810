"""From stored features to the first states: scaling fitted on the training split, and what stands where a modality is missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from erc_graph.data.batch import Batch


class Inputs(nn.Module):
    """Scaled features per modality; a learned vector stands for what is missing.

    Mean and deviation are fitted once on the training split (`fit`) and stored with the model as buffers.

    Args:
        widths: Modality → number of features.
    """

    def __init__(self, widths: Mapping[str, int]) -> None:
        super().__init__()
        self.widths = dict(widths)
        self.missing = nn.ParameterDict({name: nn.Parameter(torch.zeros(width)) for name, width in widths.items()})
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
        """Modality → `(N, width)`."""
        states = {}
        for name in self.widths:
            scaled = (batch.features[name] - self.get_buffer(f"mean_{name}")) / self.get_buffer(f"deviation_{name}")
            states[name] = torch.where(batch.present[name][:, None], scaled, self.missing[name])
        return states


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
