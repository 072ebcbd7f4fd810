"""Multi-head attention within one utterance, from the frames of one modality to the frames of another or the same modality."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Packing(Protocol):
    """Type of an object, such as a batch of dialogues, with methods to pad sequences and to remove the padding."""

    def pad(self, rows: Tensor, /) -> Tensor:
        """Pad `n` sequences to the same length: their concatenated vectors `(rows, ...)` → `(n, L, ...)`."""

    def unpad(self, padded: Tensor, /) -> Tensor:
        """Remove the padding of sequences, and concatenate them: `(n, L, ...)` → `(rows, ...)`."""


class CrossAttention(nn.Module):
    """Multi-head attention from queries to the keys and values of another sequence (Vaswani et al., 2017; Tsai et al., ACL 2019).

    Args:
        queries: Width of the queries.
        keys: Width of the keys.
        width: Width of the output frames.
        heads: Number of heads; the head width is `width / heads`, rounded up.
        dropout: Dropout rate of the attention weights in training.
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

    def forward(
        self, queries: Tensor, keys: Tensor, mask: Tensor, values: Tensor | None = None, packing: tuple[Packing, Packing] | None = None
    ) -> Tensor:
        """Compute the attention output of each query.

        Args:
            queries: `(n, L, queries)`, frames from which the queries are computed.
            keys: `(n, K, keys)`, frames from which the keys are computed.
            mask: `(n, K)` bool, true for real keys; or `(n, L, K)` bool, the allowed keys of each query.
            values: `(n, K, keys)`, frames from which the values are computed; default: `keys`.
            packing: Only for concatenated inputs without padding: a `Packing` for the queries, and a `Packing` for keys and values. The
                linear layers then do not process padding.

        Returns:
            Attention outputs `(n, L, width)`; with `packing`, concatenated outputs without padding. The output of a query without any key
            is zero.
        """
        mask = mask if mask.ndim == 3 else mask[:, None]
        present = mask.any(-1, keepdim=True)
        if not mask.shape[-1]:
            return queries.new_zeros(*queries.shape[:-1], self.output.out_features)
        asking, asked = packing or (None, None)

        def split(states: Tensor, packing: Packing | None) -> Tensor:  # (n, heads, frames, head width)
            return (packing.pad(states) if packing else states).unflatten(-1, (self.heads, -1)).transpose(1, 2)

        query, key, value = self.query(queries), self.key(keys), self.value(keys if values is None else values)
        heard = F.scaled_dot_product_attention(
            split(query, asking), split(key, asked), split(value, asked),
            attn_mask=(mask | ~present)[:, None], dropout_p=self.dropout if self.training else 0.0,
        ).transpose(1, 2).flatten(2)  # fmt: skip
        if asking:
            heard, present = asking.unpad(heard), asking.unpad(present.expand(-1, heard.shape[1], 1))
        return torch.where(present, self.output(heard), 0.0)
