"""Multi-head attention over utterances, over the words or frames of an utterance, and over modalities; a Transformer encoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.data.window import Window
from erc_graph.encoders.dropout import Dropout
from erc_graph.encoders.turns import OverRows


class SelfAttention(OverRows):
    """Multi-head self-attention over the utterances of a dialogue (Vaswani et al., 2017).

    Args:
        inputs: Width of the input vectors.
        width: Width of the output vectors.
        heads: Number of attention heads.
        head_width: Width of each head; default: `width / heads`, rounded up.
        dropout: Dropout rate of the attention weights in training.
        causal: Whether an utterance attends only to itself and to earlier utterances.
        past: Number of preceding utterances that an utterance attends to, if `causal`; `None`: all preceding utterances.
    """

    def __init__(
        self,
        inputs: int,
        width: int,
        *,
        heads: int = 1,
        head_width: int | None = None,
        dropout: float = 0.0,
        causal: bool = False,
        past: int | None = None,
    ) -> None:
        super().__init__()
        self.width, self.causal, self.past = width, causal, past
        self.heads, self.head_width = heads, head_width or -(-width // heads)
        self.query_key_value = nn.Linear(inputs, 3 * heads * self.head_width)
        self.output = nn.Linear(heads * self.head_width, width)
        self.dropout = dropout

    def read(self, states: Tensor, batch: Batch) -> Tensor:
        """Compute the attention output of every utterance: `(N, inputs)` → `(N, width)`, one vector per utterance."""
        packed = self.query_key_value(states).view(-1, 3, self.heads, self.head_width)
        # What lies before a real turn is real: a causal mask needs no second one for padding, which would leave rows without any key.
        mask = self._behind(batch) if self.causal else batch.mask[:, None, None, :]
        attended = _attend(batch.pad(packed), mask, self.dropout if self.training else 0.0)
        return self.output(batch.unpad(attended).flatten(1))

    def _behind(self, batch: Batch) -> Tensor:
        """Return the causal attention mask `(L, L)` bool, indexed by query and key, for dialogues of at most `L` utterances."""
        turn = torch.arange(batch.longest, device=batch.device)
        behind = turn[:, None] - turn
        return (behind >= 0) if self.past is None else (behind >= 0) & (behind <= self.past)

    def read_next(self, states: Tensor, batch: Batch, memory: Window | None) -> tuple[Tensor, Window]:
        """Process the next utterance of a live dialogue in evaluation mode. The attention must be causal.

        Args:
            states: `(1, inputs)` vector of the utterance.
            batch: A batch that contains only this utterance.
            memory: The memory returned for the preceding utterance; `None` for the first utterance.

        Returns:
            The output `(1, width)`, and the memory for the next utterance. The memory contains keys and values of earlier utterances.
        """
        memory = memory or Window(self.past)
        packed = self.query_key_value(states).view(3, self.heads, self.head_width)
        key, value = memory.push(packed[1:]).permute(1, 2, 0, 3)  # each (heads, turns, head width)
        attended = F.scaled_dot_product_attention(packed[0][:, None], key, value)
        return self.output(attended.flatten()[None]), memory


class FrameAttention(nn.Module):
    """Multi-head self-attention between the words or frames of an utterance.

    Args:
        width: Width of the input and output vectors.
        heads: Number of attention heads, each of width `width / heads`, rounded up.
        dropout: Dropout rate of the attention weights in training.
    """

    def __init__(self, width: int, *, heads: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, self.head_width = heads, -(-width // heads)
        self.query_key_value = nn.Linear(width, 3 * heads * self.head_width)
        self.output = nn.Linear(heads * self.head_width, width)
        self.dropout = dropout

    def forward(self, items: Tensor, mask: Tensor) -> Tensor:
        """Compute attention outputs of all words or frames: `(n, L, width)` → `(n, L, width)`. The mask `(n, L)` is true for the keys."""
        packed = self.query_key_value(items).unflatten(-1, (3, self.heads, self.head_width))
        return self.output(_attend(packed, mask[:, None, None, :], self.dropout if self.training else 0.0).flatten(2))


class FrameLayer(nn.Module):
    """A post-norm Transformer layer over the words or frames of an utterance.

    Args:
        width: Width of the input and output vectors.
        heads: Number of attention heads.
        feedforward: Hidden width of the feed-forward sublayer.
        dropout: Dropout rate of the attention weights, the hidden layer and the outputs of both sublayers in training.
    """

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.attention = FrameAttention(width, heads=heads, dropout=dropout)
        self.feedforward = nn.Sequential(nn.Linear(width, feedforward), nn.ReLU(), Dropout(dropout), nn.Linear(feedforward, width))
        self.norm, self.dropout = nn.ModuleList(nn.LayerNorm(width) for _ in range(2)), Dropout(dropout)

    def forward(self, items: Tensor, here: Tensor | None = None) -> Tensor:
        """Apply the layer to words or frames `(n, L, width)`. The mask `here`, `(n, L)` bool, is true for keys; default: all true."""
        here = torch.ones_like(items[..., 0], dtype=torch.bool) if here is None else here
        items = self.norm[0](items + self.dropout(self.attention(items, here | ~here.any(1, keepdim=True))))
        return self.norm[1](items + self.dropout(self.feedforward(items)))


def _attend(packed: Tensor, mask: Tensor, dropout: float) -> Tensor:
    """Compute attention from queries, keys and values in one tensor: `(n, L, 3, heads, head width)` → `(n, L, heads, head width)`."""
    query, key, value = packed.permute(2, 0, 3, 1, 4)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout).transpose(1, 2)


class ModalityAttention(nn.Module):
    """Multi-head attention from the fused state of an utterance to the states of its modalities.

    Args:
        width: Width of the input and output vectors.
        heads: Number of attention heads.
        head_width: Width of each head, independent of `width`.
        dropout: Dropout rate of the attention weights in training.
    """

    def __init__(self, width: int, *, heads: int = 1, head_width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, self.head_width = heads, head_width
        self.query = nn.Linear(width, heads * head_width)
        self.key_value = nn.Linear(width, 2 * heads * head_width)
        self.output = nn.Linear(heads * head_width, width)
        self.dropout = dropout

    def forward(self, states: Tensor, modalities: Tensor, present: Tensor) -> Tensor:
        """Compute the attention output of every utterance.

        Args:
            states: `(N, width)` fused states, the queries.
            modalities: `(N, modalities, width)` states of the modalities, the keys and values.
            present: `(N, modalities)` bool, whether the utterance has the modality. A missing modality has attention weight zero. If all
                modalities of an utterance are missing, their states are replaced by zeros.

        Returns:
            Attention outputs `(N, width)`.
        """
        modalities = modalities * present[..., None]
        query = self.query(states).view(-1, 1, self.heads, self.head_width).transpose(1, 2)  # (N, heads, 1, head width)
        packed = self.key_value(modalities).view(*present.shape, 2, self.heads, self.head_width)
        key, value = packed.permute(2, 0, 3, 1, 4)  # each (N, heads, modalities, head width)
        mask = (present | ~present.any(1, keepdim=True))[:, None, None]
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=self.dropout if self.training else 0.0)
        return self.output(attended.flatten(1))


class TransformerEncoder(nn.Module):
    """A post-norm Transformer encoder over the utterances of a dialogue (`erc_graph.methods.pairwise`, between Equations (11) and (12)).

    Args:
        width: Width of the input and output vectors.
        heads: Number of attention heads.
        layers: Number of layers.
        feedforward: Hidden width of the feed-forward sublayer; default: `2 * width`.
        dropout: Dropout rate of the attention weights, the hidden layer and the outputs of both sublayers in training.
        causal: Whether an utterance attends only to itself and to earlier utterances.
        past: Number of preceding utterances that an utterance attends to in each layer, if `causal`; `None`: all preceding utterances.
    """

    def __init__(
        self,
        width: int,
        *,
        heads: int = 1,
        layers: int = 1,
        feedforward: int | None = None,
        dropout: float = 0.1,
        causal: bool = False,
        past: int | None = None,
    ) -> None:
        super().__init__()
        self.width, hidden = width, feedforward or 2 * width
        self.attention = nn.ModuleList(
            SelfAttention(width, width, heads=heads, dropout=dropout, causal=causal, past=past) for _ in range(layers)
        )
        self.feedforward = nn.ModuleList(
            nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), Dropout(dropout), nn.Linear(hidden, width)) for _ in range(layers)
        )
        self.norm = nn.ModuleList(nn.LayerNorm(width) for _ in range(2 * layers))
        self.dropout = Dropout(dropout)

    def forward(self, nodes: Nodes, batch: Batch) -> Nodes:
        """Encode each of `S` streams (for example, modalities) separately: node states `(N, S, width)` → `(N, S, width)`."""
        for i, (attention, feedforward) in enumerate(zip(self.attention, self.feedforward, strict=True)):
            states = self.norm[2 * i](nodes.masked() + self.dropout(attention(nodes, batch).states))
            nodes = nodes.with_states(self.norm[2 * i + 1](states + self.dropout(feedforward(states))))
        return nodes
