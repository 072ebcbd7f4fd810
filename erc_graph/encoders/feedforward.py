"""The feed-forward sublayer and post-norm Transformer layers (Vaswani et al., "Attention is all you need", NIPS 2017)."""

from __future__ import annotations

from torch import Tensor, nn

from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.encoders.dropout import Dropout
from erc_graph.encoders.turns import OverTurns


class FeedForward(nn.Module):
    """The feed-forward sublayer of a Transformer: two linear layers with ReLU, then residual connection and layer norm.

    Args:
        width: Width of input and output.
        hidden: Width of the hidden layer.
        dropout: Dropout rate of the output before the residual connection, in training.
        epsilon: Epsilon of the layer norm.
    """

    def __init__(self, width: int, hidden: int, dropout: float, *, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.norm, self.dropout = nn.LayerNorm(width, eps=epsilon), Dropout(dropout)

    def forward(self, states: Tensor) -> Tensor:
        """Apply the sublayer to states: `(..., width)` → `(..., width)`."""
        found: Tensor = self.norm(states + self.dropout(self.outer(self.inner(states).relu())))
        return found


class AttentionLayer(nn.Module):
    """A post-norm Transformer layer over utterances, with the attention module `attend`.

    Args:
        attend: The attention module.
        width: Width of input and output.
        hidden: Hidden width of the feed-forward sublayer.
        dropout: Dropout rate of the outputs of both sublayers, in training.
        epsilon: Epsilon of both layer norms.
    """

    def __init__(self, attend: OverTurns, width: int, hidden: int, dropout: float, *, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.attend, self.norm, self.dropout = attend, nn.LayerNorm(width, eps=epsilon), Dropout(dropout)
        self.feedforward = FeedForward(width, hidden, dropout, epsilon=epsilon)

    def forward(self, nodes: Nodes, batch: Batch) -> Nodes:
        """Apply the layer to node states: `(N, S, width)` → `(N, S, width)`."""
        return nodes.with_states(self.feedforward(self.norm(nodes.masked() + self.dropout(self.attend(nodes, batch).states))))
