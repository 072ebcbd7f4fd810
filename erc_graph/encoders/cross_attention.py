"""Multi-head attention within one utterance: from the frames of one modality to those of another, or of the same."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class CrossAttention(nn.Module):
    """Multi-head attention from queries to keys and values of another sequence (Vaswani et al., 2017; Tsai et al., ACL 2019).

    Args:
        queries: Width of the frames that ask.
        keys: Width of the frames that are asked.
        width: Width of the frames that come out.
        heads: Number of heads; the head width is `width / heads`, rounded up.
        dropout: On the attention weights, in training.
    """

    def __init__(self, queries: int, keys: int, width: int, *, heads: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        inner = heads * -(-width // heads)
        self.query, self.key, self.value = nn.Linear(queries, inner), nn.Linear(keys, inner), nn.Linear(keys, inner)
        self.output = nn.Linear(inner, width)
        for part in (self.query, self.key, self.value, self.output):  # PyTorch's own would shrink what is heard to a third of what is said
            nn.init.xavier_uniform_(part.weight)
            nn.init.zeros_(part.bias)

    def forward(self, queries: Tensor, keys: Tensor, mask: Tensor, values: Tensor | None = None) -> Tensor:
        """What each query hears.

        Args:
            queries: `(n, L, queries)`.
            keys: `(n, K, keys)`.
            mask: `(n, K)` bool, real keys; or `(n, L, K)`, those of each query.
            values: What is heard by way of the keys, `(n, K, keys)`; unset: the keys themselves.

        Returns:
            `(n, L, width)`; zero for a query without any key.
        """
        mask = mask if mask.ndim == 3 else mask[:, None]
        present = mask.any(-1, keepdim=True)
        if not keys.shape[1]:
            return queries.new_zeros(*queries.shape[:2], self.output.out_features)

        def split(states: Tensor) -> Tensor:  # (n, heads, frames, head width)
            return states.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        heard = F.scaled_dot_product_attention(
            split(self.query(queries)), split(self.key(keys)), split(self.value(keys if values is None else values)),
            attn_mask=(mask | ~present)[:, None], dropout_p=self.dropout if self.training else 0.0,
        )  # fmt: skip
        return torch.where(present, self.output(heard.transpose(1, 2).flatten(2)), 0.0)
