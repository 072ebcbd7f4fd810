"""Cross-modal attention within an utterance: the items of every modality attend to those of each other modality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from erc_graph.encoders.cross_attention import CrossAttention


class Exchange(nn.Module):
    """One attention per ordered pair of modalities; the results of a modality are added up.

    Args:
        names: The modalities.
        width: Width of the input and output items.
        heads: Number of heads of each attention.
        dropout: Dropout on the attention weights, in training.
    """

    def __init__(self, names: Sequence[str], width: int, *, heads: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.attend = nn.ModuleDict({m: nn.ModuleDict() for m in names})
        for m, others in self.attend.items():
            others.update({o: CrossAttention(width, width, width, heads=heads, dropout=dropout) for o in names if o != m})  # type: ignore[operator]

    def forward(self, states: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return modality → `(n, L, width)`; zero for an utterance that has no other modality.

        Args:
            states: Modality → its items `(n, L, width)`.
            masks: Modality → `(n, L)` bool, real items.
        """
        return {
            m: sum((attend(states[m], states[o], masks[o]) for o, attend in others.items()), torch.zeros_like(states[m]))  # type: ignore[operator]
            for m, others in self.attend.items()
        }
