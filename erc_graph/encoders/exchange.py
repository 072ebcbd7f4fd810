"""Cross-modal attention within an utterance: words or frames of every modality attend to words or frames of the other modalities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from erc_graph.encoders.cross_attention import CrossAttention


class Exchange(nn.Module):
    """Multi-head attention for every ordered pair of modalities; the attention outputs of each modality are summed.

    Args:
        names: The modalities.
        width: Width of the input and output vectors of a word or frame.
        heads: Number of heads of each multi-head attention.
        dropout: Dropout rate of the attention weights in training.
    """

    def __init__(self, names: Sequence[str], width: int, *, heads: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.attend = nn.ModuleDict({m: nn.ModuleDict() for m in names})
        for m, others in self.attend.items():
            others.update({o: CrossAttention(width, width, width, heads=heads, dropout=dropout) for o in names if o != m})  # type: ignore[operator]

    def forward(self, states: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return modality → attention output `(n, L, width)`; zero for an utterance without other modalities.

        Args:
            states: Modality → its words or frames `(n, L, width)`.
            masks: Modality → `(n, L)` bool, false for padding.
        """
        return {
            m: sum((attend(states[m], states[o], masks[o]) for o, attend in others.items()), torch.zeros_like(states[m]))  # type: ignore[operator]
            for m, others in self.attend.items()
        }
