"""Batch normalisation over present nodes; a node is absent if its modality is missing."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes


class BatchNorm(nn.Module):
    """Batch normalisation of every channel over all present nodes of a batch; evaluation uses running statistics.

    Unlike `torch.nn.BatchNorm1d`, `BatchNorm` ignores absent nodes (missing modalities). In training, a batch with a single present node is
    normalised with running statistics instead of causing an error. In training, the output for a dialogue also depends on other dialogues
    of the batch (see `Method.couples_batch`).

    Args:
        width: Number of channels.
        epsilon: Constant added to the variance.
        momentum: Weight of the current batch in the running statistics.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, width: int, *, epsilon: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.epsilon, self.momentum = epsilon, momentum
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))

    def forward(self, nodes: Nodes, batch: Batch) -> Nodes:
        """Normalise node states: `(N, S, width)` → `(N, S, width)`."""
        mean, variance = self._batch(nodes) if self.training else (self.running_mean, self.running_var)
        states = (nodes.states - mean) * (variance + self.epsilon).rsqrt()
        return nodes.with_states(states * self.weight + self.bias)

    def _batch(self, nodes: Nodes) -> tuple[Tensor, Tensor]:
        """Return mean and variance of the present nodes, `(width,)` each, and update the running statistics."""
        count = nodes.present.sum()
        mean = nodes.masked().sum((0, 1)) / count.clamp(min=1)
        distance = torch.where(nodes.present[..., None], nodes.states - mean, 0.0)
        variance = distance.square().sum((0, 1)) / count.clamp(min=1)
        several = count > 1
        with torch.no_grad():
            share = several.to(self.running_mean.dtype) * self.momentum
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
            unbiased = variance * count / (count - 1).clamp(min=1)
            self.running_var.lerp_(unbiased.to(self.running_var.dtype), share)
        return torch.where(several, mean, self.running_mean), torch.where(several, variance, self.running_var)
