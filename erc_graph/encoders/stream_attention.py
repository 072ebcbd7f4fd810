"""Multi-head attention between streams (for example, modalities): utterances of one stream attend to utterances of other streams."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.encoders.dropout import dropped
from erc_graph.encoders.turns import OverTurns


class StreamAttention(OverTurns):
    """Attention from the last of several streams (for example, modalities) to all utterances of the other streams, with a single softmax.

    If `together`, every stream attends to all streams. The output is zero for an utterance without any key, for example if the dialogue
    lacks the other modalities. The key projection has no bias, because a bias would cancel in the softmax.

    Args:
        width: Width of the input and output states.
        heads: Number of attention heads.
        head_width: Width of each head; default: `width / heads`, rounded up.
        bias: Whether the projections of queries, values and output have a bias.
        dropout: Dropout rate of the attention weights in training.
        causal: Whether an utterance attends only to itself and to earlier utterances.
        together: Whether every stream attends to all streams.
    """

    def __init__(
        self,
        width: int,
        *,
        heads: int = 1,
        head_width: int | None = None,
        bias: bool = True,
        dropout: float = 0.0,
        causal: bool = False,
        together: bool = False,
    ) -> None:
        super().__init__()
        inner = heads * (head_width or -(-width // heads))
        self.width, self.heads, self.dropout, self.together, self.causal = width, heads, dropout, together, causal
        self.query, self.value = nn.Linear(width, inner, bias=bias), nn.Linear(width, inner, bias=bias)
        self.key, self.output = nn.Linear(width, inner, bias=False), nn.Linear(inner, width, bias=bias)

    def forward(self, nodes: Nodes, batch: Batch) -> Nodes:
        """Compute the attention output of the last stream, `(N, S, width)` → `(N, 1, width)`, or of all `S` streams if `together`."""
        states, streams = nodes.masked(), len(nodes.streams)
        first, asked = (0, streams) if self.together else (streams - 1, streams - 1)
        query = self._padded(self.query(states[:, first:]), batch)
        key, value = (self._padded(part(states[:, :asked]), batch) for part in (self.key, self.value))
        mask = batch.pad(nodes.present[:, :asked]).flatten(1)[:, None, None]  # (D, 1, 1, L asked)
        if self.causal:
            turn = torch.arange(batch.longest, device=batch.device)
            mask = mask & (turn.repeat_interleave(streams - first)[:, None] >= turn.repeat_interleave(asked))  # (D, 1, L asking, L asked)
        some = mask.any(-1, keepdim=True)
        if self.training and self.dropout:
            scores = (query / query.shape[-1] ** 0.5) @ key.transpose(-1, -2)
            heard = dropped(scores.masked_fill(~(mask | ~some), -torch.inf).softmax(-1), self.dropout) @ value
        else:
            heard = F.scaled_dot_product_attention(query, key, value, attn_mask=mask | ~some)
        found = torch.where(some[:, 0], self.output(heard.transpose(1, 2).flatten(2)), 0.0)  # (D, L asking, width)
        rows = batch.unpad(found.unflatten(1, (batch.longest, -1)))
        return Nodes(rows, nodes.present[:, first:], nodes.streams[first:], nodes.whole)

    def _padded(self, rows: Tensor, batch: Batch) -> Tensor:
        """Pad the dialogues and split the heads: `(N, S, heads · head width)` → `(D, heads, L S, head width)`."""
        return batch.pad(rows).flatten(1, 2).unflatten(-1, (self.heads, -1)).transpose(1, 2)
