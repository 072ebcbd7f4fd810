"""Attention to earlier utterances of the same speaker or of other speakers; a selector may exclude pairs of utterances.

The attention is from HAAN-ERC (Zhang and Tan, Neural Computing and Applications, 2023). Equations (2) and (3) of HAAN-ERC are in
`erc_graph.methods.haan_erc`.
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
    """A network that decides for each pair of utterances whether the first utterance attends to the second utterance."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.of_target, self.of_source = (nn.Linear(width, width, bias=False) for _ in range(2))
        self.inner, self.outer = nn.Linear(2 * width, 2 * width), nn.Linear(2 * width, 2)

    def forward(self, target: Tensor, source: Tensor, pairs: tuple[Tensor, ...]) -> Tensor:
        """Compute a logit for each of `P` pairs, `(P,)`; if it is positive, the target utterance attends to the source utterance.

        The states `target` and `source` are `(D, L, width)`; `pairs` has the indices of dialogue, target and source of each pair. In
        training, noise is added to the logit, so its sign is a random decision (Gumbel-softmax with two classes and temperature 1).
        """
        dialogue, t, j = pairs
        left, right = self.inner.weight.chunk(2, 1)
        heard, hearing = F.linear(self.of_source(source), right), F.linear(self.of_target(target), left, self.inner.bias)
        no, yes = self.outer((hearing[dialogue, t] + heard[dialogue, j]).relu()).unbind(-1)
        noise = torch.rand_like(yes).clamp(1e-6, 1 - 1e-6).logit() if self.training else 0.0
        return yes - no + noise


class RelationAttention(OverTurns):
    """Multi-head attention, with projections without bias, to earlier utterances of the same speaker or of other speakers.

    Args:
        width: Width of the input and output states.
        relation: `same`: an utterance attends to itself and to earlier utterances of the same speaker; `other`: an utterance attends to
            earlier utterances of other speakers.
        heads: Number of attention heads.
        head_width: Width of each head.
        dropout: Dropout rate of the attention weights in training.
        selector: Whether a `Selector` may exclude pairs of utterances.
    """

    causal = True

    def __init__(self, width: int, relation: str, *, heads: int, head_width: int, dropout: float = 0.0, selector: bool = False) -> None:
        super().__init__()
        self.relation, self.heads, inner = relation, heads, heads * head_width
        self.query, self.key, self.value = (nn.Linear(width, inner, bias=False) for _ in range(3))
        self.output, self.dropout = nn.Linear(inner, width, bias=False), Dropout(dropout)
        self.selector = Selector(width) if selector else None

    def allowed(self, nodes: Nodes, batch: Batch) -> Tensor:
        """Return the attention mask `(D, L, L)` bool, indexed by target and source utterance, before the selector excludes pairs."""
        turn = torch.arange(batch.longest, device=batch.device)
        speaker, here = batch.pad(batch.speaker), batch.pad(nodes.present[:, 0])
        same = speaker[:, :, None] == speaker[:, None]
        return (same if self.relation == "same" else ~same) & (turn[:, None] >= turn) & here[:, None] & batch.mask[:, :, None]

    def weigh(self, scores: Tensor, heard: Tensor) -> Tensor:
        """Compute attention weights from scores `(D, heads, L, L)` and mask; an utterance without any allowed key attends to itself."""
        own = torch.eye(scores.shape[-1], dtype=torch.bool, device=scores.device) & ~heard.any(-1, keepdim=True)
        return scores.masked_fill(~(heard | own)[:, None], -torch.inf).softmax(-1)

    def chosen(self, selector: Selector, x: Tensor, allowed: Tensor) -> Tensor:
        """Return the log probability that the selector keeps a pair, `(D, L, L)`; zero for a pair on which the selector does not decide."""
        own = torch.eye(x.shape[1], dtype=torch.bool, device=x.device)
        pairs = (allowed & ~own).nonzero(as_tuple=True)
        return x.new_zeros(allowed.shape).index_put(pairs, F.logsigmoid(selector(x, x, pairs)))

    def forward(self, nodes: Nodes, batch: Batch) -> Nodes:
        """Compute the attention output of every utterance: `(N, 1, width)` → `(N, 1, width)`."""
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
