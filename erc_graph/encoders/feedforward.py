"""The feed-forward half of a Transformer layer with the norm behind (Vaswani et al., "Attention is all you need", NIPS 2017)."""

from __future__ import annotations

from torch import Tensor, nn

from erc_graph.encoders.dropout import Dropout


class FeedForward(nn.Module):
    """Two linear maps with ReLU between, residual, layer norm.

    Args:
        width: Of what goes in and comes out.
        hidden: Between the maps.
        dropout: On what is added, in training.
        epsilon: Of the norm.
    """

    def __init__(self, width: int, hidden: int, dropout: float, *, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.norm, self.dropout = nn.LayerNorm(width, eps=epsilon), Dropout(dropout)

    def forward(self, states: Tensor) -> Tensor:
        """`(..., width)` → `(..., width)`"""
        found: Tensor = self.norm(states + self.dropout(self.outer(self.inner(states).relu())))
        return found
