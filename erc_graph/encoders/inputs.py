"""From stored features to the first states: scaling fitted on the training split, and what stands where a modality is missing."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from erc_graph.data.batch import Batch


class Inputs(nn.Module):
    """Scaled features per modality; a learned vector stands for what is missing.

    Mean and deviation are fitted once on the training split (`fit`) and stored with the model as buffers.

    Features that were fitted to the training labels look far more reliable in training than they are. Swap noise restores the doubt: in
    training a share of the rows carries the features of another utterance of the batch.

    Args:
        widths: Modality → number of features.
        swap_noise: Modality → share of rows that are swapped in training.
    """

    def __init__(self, widths: Mapping[str, int], swap_noise: Mapping[str, float] | None = None) -> None:
        super().__init__()
        self.widths = dict(widths)
        self.swap_noise = {name: share for name, share in (swap_noise or {}).items() if name in widths and share > 0}
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
            here = batch.present[name][:, None]
            state = torch.where(here, scaled, self.missing[name])
            if self.training and name in self.swap_noise:
                swapped = here & (torch.rand(len(state), 1, device=state.device) < self.swap_noise[name])
                state = torch.where(swapped, state[torch.randint(len(state), (len(state),), device=state.device)], state)
            states[name] = state
        return states
