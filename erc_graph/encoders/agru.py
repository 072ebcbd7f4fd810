"""A-GRU: self-attention over the states of a GRU, within one utterance (WavFusion, Eqs. (2) and (6))."""

from __future__ import annotations

from torch import Tensor, nn

from erc_graph.encoders.cross_attention import CrossAttention
from erc_graph.encoders.dropout import Dropout


class AGRU(nn.Module):
    """A GRU over words or frames of an utterance, followed by self-attention.

    The GRU reads forward, so that what is padded after an utterance's end changes nothing before it. The attention has the residual path
    and the norm of a Transformer layer, so that its frames are as large as those of the modality that asks them later.

    Args:
        inputs: Width of the input frames.
        width: Width of the output frames.
        heads: Attention heads.
        dropout: Dropout between GRU and attention, and on the attention weights, in training.
    """

    def __init__(self, inputs: int, width: int, *, heads: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.gru = nn.GRU(inputs, width, batch_first=True)
        self.attention = CrossAttention(width, width, width, heads=heads, dropout=dropout)
        self.norm = nn.LayerNorm(width)
        self.dropout = Dropout(dropout)

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Map `(n, L, inputs)`, `(n, L)` bool to `(n, L, width)`, zero where the mask is false."""
        states = self.dropout(self.gru(frames)[0])
        return self.norm(states + self.attention(states, states, mask)) * mask[..., None]
