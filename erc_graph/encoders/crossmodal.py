"""The crossmodal Transformer: the steps of one modality attend to those of another (Tsai et al., MulT, ACL 2019)."""

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
    """Return the position codes of 1 to `steps`, `(steps, width)`: sines in the first half of the channels, cosines in the second."""
    half = width // 2
    rate = torch.exp(torch.arange(half, device=like.device, dtype=like.dtype) * (-math.log(10000) / max(half - 1, 1)))
    angle = torch.arange(1, steps + 1, device=like.device, dtype=like.dtype)[:, None] * rate
    return F.pad(torch.cat([angle.sin(), angle.cos()], 1), (0, width - 2 * half))


def visible(queries: Steps, keys: Steps, causal: bool) -> Tensor:
    """Return which keys a query reads: `(n, L or 1, K)` bool. Causal: query `i` reads keys `j <= i + d`, where `d` is the difference of the
    lengths.
    """
    if not causal:
        return keys.present[:, None]
    query, key = (torch.arange(part.states.shape[1], device=part.states.device) for part in (queries, keys))
    reach = query + (keys.length - queries.length).abs()[:, None]  # (n, L)
    return keys.present[:, None] & (key <= reach[..., None])


class CrossBlock(nn.Module):
    """Attention and feed-forward network, each after a layer norm and with a residual; queries and keys share the norm."""

    def __init__(self, width: int, *, heads: int, dropout: float, attention_dropout: float) -> None:
        super().__init__()
        self.attention = CrossAttention(width, width, width, heads=heads, dropout=attention_dropout)
        self.norm = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.feedforward = nn.Sequential(nn.Linear(width, 4 * width), nn.ReLU(), Dropout(dropout), nn.Linear(4 * width, width))
        self.dropout = Dropout(dropout)
        for name, value in self.feedforward.named_parameters():
            nn.init.zeros_(value) if name.endswith("bias") else nn.init.xavier_uniform_(value)

    def forward(self, x: Tensor, keys: Tensor | None, mask: Tensor, packing: tuple[Steps, Steps]) -> Tensor:
        """Map packed rows `(P, width)` to `(P, width)`, given the keys (none: self-attention), the mask of each query, and both steps."""
        query = self.norm[0](x)
        x = x + self.dropout(self.attention(query, query if keys is None else self.norm[0](keys), mask, packing=packing))
        return x + self.dropout(self.feedforward(self.norm[1](x)))


class CrossTransformer(nn.Module):
    """Pre-norm Transformer layers whose queries attend to the input keys, the same in every layer; without keys: self-attention.

    The public codes draw the maps of queries, keys and values as one matrix, whose Glorot bounds are smaller by the square root of 2.

    Args:
        width: Width of the input and output steps.
        heads: Attention heads.
        layers: Number of layers.
        dropout: Dropout after attention and in the feed-forward network.
        attention_dropout: Dropout on the attention weights.
        embedding_dropout: Dropout on the input.
        positions: Whether position codes are added to the input.
        causal: Whether a query reads keys only up to its own place (`visible`).
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
        """Return the input: scaled, with position codes, packed."""
        x = math.sqrt(self.width) * steps.states
        return self.dropout(steps.unpad(x + sinusoids(x.shape[1], self.width, x) if self.positions else x))

    def forward(self, queries: Steps, keys: Steps | None = None) -> Steps:
        """Return one step per query; zero for an absent step."""
        x, read, asked = self.enter(queries), None if keys is None else self.enter(keys), keys or queries
        mask = visible(queries, asked, self.causal)
        for layer in self.layers:
            x = layer(x, read, mask, (queries, asked))
        return queries.with_states(queries.pad(self.norm(x)))


class Crossed(StepNet):
    """Every modality attends to each other modality; the results are concatenated and then self-attended. A network over steps.

    Args:
        names: Modalities, in the order in which they attend to each other.
        width: Width of their steps.
        stack: Function from width, modality of the queries and modality of the keys to the Transformer; the same modality twice: the
            self-attention.
    """

    def __init__(self, names: Sequence[str], width: int, stack: Callable[[int, str, str], CrossTransformer]) -> None:
        super().__init__()
        wide = max(1, len(names) - 1) * width
        self.cross = nn.ModuleDict({t: nn.ModuleDict({s: stack(width, t, s) for s in names if s != t}) for t in names})
        memory = {t: stack(wide, t, t) for t in names}
        self.memory, self.causal = nn.ModuleDict(memory), all(net.causal for net in memory.values())
        self.inputs, self.widths, self.pools = dict.fromkeys(names, width), [wide] * len(names), [last] * len(names)

    def forward(self, steps: Mapping[str, Steps], instead: Mapping[tuple[str, str], Steps] | None = None) -> list[Steps]:
        """Return for every modality, in order, `(n, L, (M - 1) width)`; for a single modality `(n, L, width)`.

        Args:
            steps: Modality → its steps.
            instead: Modality of the queries and modality of the keys → steps that are read in place of the keys' own.
        """
        found, other = [], instead or {}
        for t, nets in self.cross.items():
            asked = {s: other.get((t, s), steps[s]) for s in steps}
            heard = [net(steps[t], asked[s]).states for s, net in nets.items()] or [steps[t].states]  # type: ignore[operator]
            found.append(self.memory[t](steps[t].with_states(torch.cat(heard, -1))))
        return found
