"""The crossmodal Transformer: words or frames of one modality attend to words or frames of another (MulT, Tsai et al., ACL 2019)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from erc_graph.encoders.cross_attention import CrossAttention
from erc_graph.encoders.dropout import Dropout
from erc_graph.encoders.steps import StepNet, Steps, last


def sinusoids(steps: int, width: int, like: Tensor) -> Tensor:
    """Return sinusoidal position encodings `(steps, width)`: sines in the first half of the channels, cosines in the second half.

    The encodings have the data type and device of the tensor `like`.
    """
    half = width // 2
    rate = torch.exp(torch.arange(half, device=like.device, dtype=like.dtype) * (-math.log(10000) / max(half - 1, 1)))
    angle = torch.arange(1, steps + 1, device=like.device, dtype=like.dtype)[:, None] * rate
    return F.pad(torch.cat([angle.sin(), angle.cos()], 1), (0, width - 2 * half))


def visible(queries: Steps, keys: Steps, causal: bool) -> Tensor:
    """Return the attention mask of `L` queries and `K` keys, true for the keys that a query attends to: `(n, L or 1, K)` bool.

    If `causal`, query `i` attends to keys `j <= i + d`, where `d` is the absolute difference between the numbers of keys and queries.
    Otherwise, all queries attend to all keys.
    """
    if not causal:
        return keys.present[:, None]
    query, key = (torch.arange(part.states.shape[1], device=part.states.device) for part in (queries, keys))
    reach = query + (keys.length - queries.length).abs()[:, None]  # (n, L)
    return keys.present[:, None] & (key <= reach[..., None])


class CrossBlock(nn.Module):
    """A pre-norm Transformer block: attention and feed-forward network, with residual connections; queries and keys share a layer norm."""

    def __init__(self, width: int, *, heads: int, dropout: float, attention_dropout: float) -> None:
        super().__init__()
        self.attention = CrossAttention(width, width, width, heads=heads, dropout=attention_dropout)
        self.norm = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.feedforward = nn.Sequential(nn.Linear(width, 4 * width), nn.ReLU(), Dropout(dropout), nn.Linear(4 * width, width))
        self.dropout = Dropout(dropout)
        for name, value in self.feedforward.named_parameters():
            nn.init.zeros_(value) if name.endswith("bias") else nn.init.xavier_uniform_(value)

    def forward(self, x: Tensor, keys: Tensor | None, mask: Tensor, packing: tuple[Steps, Steps]) -> Tensor:
        """Apply the block to `P` states without padding: `(P, width)` → `(P, width)`. Without `keys`, the attention is self-attention."""
        query = self.norm[0](x)
        x = x + self.dropout(self.attention(query, query if keys is None else self.norm[0](keys), mask, packing=packing))
        return x + self.dropout(self.feedforward(self.norm[1](x)))


class CrossTransformer(nn.Module):
    """Pre-norm Transformer layers that all attend to the same keys, the input states of another modality.

    Without keys, the layers compute self-attention. The public implementations of MulT initialise the query, key and value weights as one
    matrix. Their initial weights are therefore smaller, by a factor of the square root of 2, than the initial weights of this class.

    Args:
        width: Width of the input and output states.
        heads: Number of attention heads.
        layers: Number of layers.
        dropout: Dropout rate after attention, in the feed-forward network and after it.
        attention_dropout: Dropout rate of the attention weights.
        embedding_dropout: Dropout rate of the input.
        positions: Whether position encodings are added to the input.
        causal: Whether a query attends only to keys up to its own position (see `visible`).
    """

    def __init__(
        self, width: int, *, heads: int, layers: int, dropout: float = 0.0, attention_dropout: float = 0.0, embedding_dropout: float = 0.0,
        positions: bool = True, causal: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        self.width, self.positions, self.causal = width, positions, causal
        self.dropout = Dropout(embedding_dropout)
        self.layers = nn.ModuleList(
            CrossBlock(width, heads=heads, dropout=dropout, attention_dropout=attention_dropout) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)

    def enter(self, steps: Steps) -> Tensor:
        """Scale the states, add position encodings, apply dropout, and remove padding and steps without the modality."""
        x = math.sqrt(self.width) * steps.states
        return self.dropout(steps.unpad(x + sinusoids(x.shape[1], self.width, x) if self.positions else x))

    def forward(self, queries: Steps, keys: Steps | None = None) -> Steps:
        """Compute one output state per query; the state is zero at padding and where the modality of the queries is missing."""
        x, read, asked = self.enter(queries), None if keys is None else self.enter(keys), keys or queries
        mask = visible(queries, asked, self.causal)
        for layer in self.layers:
            x = layer(x, read, mask, (queries, asked))
        return queries.with_states(queries.pad(self.norm(x)))


class Crossed(StepNet):
    """Crossmodal Transformers between all pairs of modalities.

    Each modality has one Transformer per other modality. Their outputs are concatenated and processed by a self-attention Transformer.

    Args:
        names: Names of the modalities; the outputs have this order.
        width: Width of the states of all modalities.
        stack: Function that builds a Transformer from the width, the modality of the queries and the modality of the keys. If both
            modalities are the same, the function builds the self-attention Transformer.
    """

    def __init__(self, names: Sequence[str], width: int, stack: Callable[[int, str, str], CrossTransformer]) -> None:
        super().__init__()
        wide = max(1, len(names) - 1) * width
        self.cross = nn.ModuleDict({t: nn.ModuleDict({s: stack(width, t, s) for s in names if s != t}) for t in names})
        memory = {t: stack(wide, t, t) for t in names}
        self.memory, self.causal = nn.ModuleDict(memory), all(net.causal for net in memory.values())
        self.inputs, self.widths, self.pools = dict.fromkeys(names, width), [wide] * len(names), [last] * len(names)

    def forward(self, steps: Mapping[str, Steps], instead: Mapping[tuple[str, str], Steps] | None = None) -> list[Steps]:
        """Return the states of each of `M` modalities, `(n, L, (M - 1) width)`, in the order of `names`; for `M = 1`: `(n, L, width)`.

        Args:
            steps: Modality → its sequence of steps (words, frames or utterances).
            instead: Pair (modality of the queries, modality of the keys) → steps that replace the keys of this pair.
        """
        found, other = [], instead or {}
        for t, nets in self.cross.items():
            asked = {s: other.get((t, s), steps[s]) for s in steps}
            heard = [net(steps[t], asked[s]).states for s, net in nets.items()] or [steps[t].states]  # type: ignore[operator]
            found.append(self.memory[t](steps[t].with_states(torch.cat(heard, -1))))
        return found
