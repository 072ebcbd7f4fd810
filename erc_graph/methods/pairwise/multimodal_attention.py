"""Multimodal attention learning (MAL), the second half of stage 2 of pairwise fusion, Eqs. (13) to (15)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from erc_graph.data.batch import Batch
from erc_graph.encoders.dropout import Dropout
from erc_graph.encoders.self_attention import SelfAttention
from erc_graph.encoders.turns import over_turns
from erc_graph.methods.parts import Classifier
from erc_graph.methods.ranges import Checked, Share, Size, Weight


@dataclass(frozen=True, kw_only=True)
class MalConfig(Checked):
    """Options of multimodal attention learning (stage 2).

    Attributes:
        attention: Use the attention layers ATT; off: the input is not changed.
        layers: Number l of ATT layers.
        heads: Number of attention heads in each layer.
        width: Width of the outputs C_i of the ATT layers.
        residual: Add a linear map of the input of each ATT layer to its output (not in the paper).
        pair_skip: Concatenate h^(VA), the GRU states of the pair without text, with the input of layers 2 to l.
        context_skip: Concatenate h^(Bt), the GRU states of the second text feature, with the output of the last layer.
        hidden: Width of the fully connected layer.
        dropout: Dropout in the attention layers and in the classifier.
        density: Weight λ_m1 of the density loss, the L1 norm of the fused states.
    """

    where = "pipeline.mal"

    attention: bool = True
    layers: Size = 2
    heads: Size = 4
    width: Size = 128
    residual: bool = False
    pair_skip: bool = True
    context_skip: bool = True
    hidden: Size = 128
    dropout: Share = 0.2
    density: Weight = 2e-5


class MultimodalAttention(nn.Module):
    """MAL: attention layers with skip connections, and the classifier."""

    def __init__(
        self,
        inputs: int,
        skip_pair: int,
        skip_context: int,
        outputs: int,
        config: MalConfig,
        *,
        causal: bool = False,
        past: int | None = None,
    ) -> None:
        super().__init__()
        self.pair_skip, self.context_skip = bool(config.pair_skip and skip_pair), bool(config.context_skip and skip_context)
        skip = skip_pair if self.pair_skip else 0
        self.attention, self.carry = nn.ModuleList(), nn.ModuleList()
        self.dropout = Dropout(config.dropout)
        width = inputs
        for layer in range(config.layers if config.attention else 0):
            joined = width + (skip if layer else 0)
            self.attention.append(SelfAttention(joined, config.width, heads=config.heads, dropout=config.dropout, causal=causal, past=past))
            if config.residual:
                self.carry.append(nn.Linear(joined, config.width, bias=False))
            width = config.width
        if not config.attention or config.layers == 1:  # no later layer that could take the skip
            width += skip
        self.width = width + (skip_context if self.context_skip else 0)
        self.classify = Classifier(self.width, outputs, hidden=config.hidden, dropout=config.dropout)

    def forward(self, fused: Tensor, pair: Tensor, context: Tensor | None, batch: Batch) -> Tensor:
        """Compute the fused utterance states E^(MM), which the classifier reads: `(utterances, width)`."""
        state = fused
        for layer, attention in enumerate(self.attention):
            joined = torch.cat([state, pair], -1) if layer and self.pair_skip else state
            state = over_turns(attention, self.dropout(joined), batch)  # Eq. (13)
            state = state + self.carry[layer](joined) if self.carry else state
        if len(self.attention) < 2 and self.pair_skip:
            state = torch.cat([state, pair], -1)
        return torch.cat([state, context], -1) if self.context_skip and context is not None else state  # of Eq. (14)
