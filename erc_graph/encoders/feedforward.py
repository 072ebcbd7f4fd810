"""Transformer layers with their norms after, and the feed-forward half of one (Vaswani et al., "Attention is all you need", NIPS 2017)."""

from __future__ import annotations

from torch import Tensor, nn

from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.encoders.dropout import Dropout
from erc_graph.encoders.turns import OverTurns


class FeedForward(nn.Module):
    """Two linear maps with ReLU between, residual, layer norm.

    Args:
        width: Width of input and output.
        hidden: Between the maps.
        dropout: On what is added, in training.
        epsilon: Of the norm.
    """

    def __init__(self, width: int, hidden: int, dropout: float, *, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.norm, self.dropout = nn.LayerNorm(width, eps=epsilon), Dropout(dropout)

    def forward(self, states: Tensor) -> Tensor:
        """Map `(..., width)` to `(..., width)`"""
        found: Tensor = self.norm(states + self.dropout(self.outer(self.inner(states).relu())))
        return found


class AttentionLayer(nn.Module):
    """A Transformer layer around attention over utterances that is given.

    Args:
        attend: The attention.
        width: Width of input and output.
        hidden: Of the feed-forward half.
        dropout: On what both halves add, in training.
        epsilon: Of both norms.
    """

    def __init__(self, attend: OverTurns, width: int, hidden: int, dropout: float, *, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.attend, self.norm, self.dropout = attend, nn.LayerNorm(width, eps=epsilon), Dropout(dropout)
        self.feedforward = FeedForward(width, hidden, dropout, epsilon=epsilon)

    def forward(self, nodes: Nodes, batch: Batch) -> Nodes:
        """Map `(N, S, width)` to the same."""
        return nodes.with_states(self.feedforward(self.norm(nodes.masked() + self.dropout(self.attend(nodes, batch).states))))
