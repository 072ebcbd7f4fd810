"""A-GRU: self-attention over the states of a GRU, within one utterance (WavFusion, Equations (2) and (6))."""

from __future__ import annotations

from torch import Tensor, nn

from erc_graph.encoders.cross_attention import CrossAttention
from erc_graph.encoders.dropout import Dropout


class AGRU(nn.Module):
    """A GRU over words or frames of an utterance, followed by self-attention.

    The GRU processes an utterance only forwards, so padding at the end does not change the states of real words or frames. The attention
    has a residual connection and a layer norm, as in a Transformer layer. In WavFusion, audio frames then attend to the output frames; the
    layer norm gives the output frames the scale of the audio frames.

    Args:
        inputs: Width of the input frames.
        width: Width of the output frames.
        heads: Number of attention heads.
        dropout: Dropout rate between GRU and attention, and of the attention weights, in training.
    """

    def __init__(self, inputs: int, width: int, *, heads: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.gru = nn.GRU(inputs, width, batch_first=True)
        self.attention = CrossAttention(width, width, width, heads=heads, dropout=dropout)
        self.norm = nn.LayerNorm(width)
        self.dropout = Dropout(dropout)

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Encode padded frames: `(n, L, inputs)` with the mask `(n, L)` bool → `(n, L, width)`, zero at padding."""
        states = self.dropout(self.gru(frames)[0])
        return self.norm(states + self.attention(states, states, mask)) * mask[..., None]
