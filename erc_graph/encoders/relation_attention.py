"""Attention to earlier utterances of the same speaker or of other speakers, in which single pairs may be dropped.

Zhang and Tan, HAAN-ERC, Neural Computing and Applications, 2023, Eqs. (2), (3) of `erc_graph.methods.haan_erc`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.encoders.dropout import Dropout
from erc_graph.encoders.turns import OverTurns


class Selector(nn.Module):
    """Decides for pairs of utterances whether one reads the other."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.of_target, self.of_source = (nn.Linear(width, width, bias=False) for _ in range(2))
        self.inner, self.outer = nn.Linear(2 * width, 2 * width), nn.Linear(2 * width, 2)

    def forward(self, target: Tensor, source: Tensor, pairs: tuple[Tensor, ...]) -> Tensor:
        """Map states `(D, L, width)`, and dialogue, target and source of `P` pairs, to `(P,)` logits that the target reads the source.

        In training with noise, such that the sign is a drawn decision (Gumbel-softmax of two choices, temperature 1).
        """
        dialogue, t, j = pairs
        left, right = self.inner.weight.chunk(2, 1)
        heard, hearing = F.linear(self.of_source(source), right), F.linear(self.of_target(target), left, self.inner.bias)
        no, yes = self.outer((hearing[dialogue, t] + heard[dialogue, j]).relu()).unbind(-1)
        noise = torch.rand_like(yes).clamp(1e-6, 1 - 1e-6).logit() if self.training else 0.0
        return yes - no + noise


class RelationAttention(OverTurns):
    """Multi-head attention to earlier utterances of the same speaker, or of others; none of its maps has a bias.

    Args:
        width: Width of the input and output states.
        relation: Whether utterances of the `same` speaker are read, the utterance itself among them, or those of any `other`.
        heads: Number of heads.
        head_width: Width of each.
        dropout: Dropout on the attention weights, in training.
        selector: Whether single pairs are dropped.
    """

    causal = True

    def __init__(self, width: int, relation: str, *, heads: int, head_width: int, dropout: float = 0.0, selector: bool = False) -> None:
        super().__init__()
        self.relation, self.heads, inner = relation, heads, heads * head_width
        self.query, self.key, self.value = (nn.Linear(width, inner, bias=False) for _ in range(3))
        self.output, self.dropout = nn.Linear(inner, width, bias=False), Dropout(dropout)
        self.selector = Selector(width) if selector else None

    def allowed(self, nodes: Nodes, batch: Batch) -> Tensor:
        """Return which utterances may read which: `(D, L, L)` bool, of target and source."""
        turn = torch.arange(batch.longest, device=batch.device)
        speaker, here = batch.pad(batch.speaker), batch.pad(nodes.present[:, 0])
        same = speaker[:, :, None] == speaker[:, None]
        return (same if self.relation == "same" else ~same) & (turn[:, None] >= turn) & here[:, None] & batch.mask[:, :, None]

    def weigh(self, scores: Tensor, heard: Tensor) -> Tensor:
        """Compute weights from scores `(D, heads, L, L)` and the allowed pairs; an utterance that reads no other reads itself."""
        own = torch.eye(scores.shape[-1], dtype=torch.bool, device=scores.device) & ~heard.any(-1, keepdim=True)
        return scores.masked_fill(~(heard | own)[:, None], -torch.inf).softmax(-1)

    def chosen(self, selector: Selector, x: Tensor, allowed: Tensor) -> Tensor:
        """Return the logarithm of the probability that each pair is kept: `(D, L, L)`, zero for an utterance itself."""
        own = torch.eye(x.shape[1], dtype=torch.bool, device=x.device)
        pairs = (allowed & ~own).nonzero(as_tuple=True)
        return x.new_zeros(allowed.shape).index_put(pairs, F.logsigmoid(selector(x, x, pairs)))

    def forward(self, nodes: Nodes, batch: Batch) -> Nodes:
        """Map `(N, 1, width)` to `(N, 1, width)`."""
        x = batch.pad(nodes.masked()[:, 0])  # (D, L, width)
        query, key, value = (part(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.query, self.key, self.value))
        allowed = self.allowed(nodes, batch)
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5  # (D, heads, L, L)
        if self.selector is None:
            weight = self.weigh(scores, allowed)
        else:  # decisions forward, and backward the gradient of what is likely
            likely = self.chosen(self.selector, x, allowed)
            weight = self.weigh(scores + likely[:, None], allowed)
            weight = weight + (self.weigh(scores, allowed & (likely > -math.log(2))) - weight).detach()
        return nodes.with_states(batch.unpad(self.output((self.dropout(weight) @ value).transpose(1, 2).flatten(2)))[:, None])
