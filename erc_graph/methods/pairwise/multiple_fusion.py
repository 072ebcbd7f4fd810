"""Multiple features fusion (MFF), the first half of stage 2 of pairwise fusion, Eqs. (8) to (12)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from erc_graph.conv.angular.angular import AngularConv, AngularConvConfig
from erc_graph.data.nodes import Nodes
from erc_graph.encoders.dropout import Dropout
from erc_graph.encoders.missing import Missing
from erc_graph.encoders.recurrent import Recurrent, side_by_side
from erc_graph.encoders.self_attention import TransformerEncoder
from erc_graph.encoders.speaker import SpeakerEmbedding
from erc_graph.encoders.turns import over_turns
from erc_graph.graphs.recipe import GraphRecipe
from erc_graph.methods.inputs import Given, Shapes
from erc_graph.methods.ranges import Checked, Even, Share, Size

if TYPE_CHECKING:
    from erc_graph.methods.pairwise.pairwise import PairwiseConfig


@dataclass(frozen=True, kw_only=True)
class MffConfig(Checked):
    """Options of multiple features fusion (stage 2).

    Attributes:
        width: Width of the node states.
        dropout: Dropout in the graph and the Transformer encoder.
        bidirectional: Let GRU1 (fused pairs) and GRU2 (second text feature) read in both directions, unless the method is causal.
        project: Add a linear layer with ReLU before GRU2 (not in the paper).
        gcn: Use graph convolution over the fused pairs; off: its output E^(VAT) is replaced by the concatenated GRU states.
        speaker: Add the speaker embedding to the node states (s_t in Table 4 of the paper).
        context_encoder: Use E^(Bt), the states of a Transformer encoder over the second text feature.
        heads: Number of attention heads of the Transformer encoder.
        layers: Number of layers of the Transformer encoder.
    """

    where = "pipeline.mff"

    width: Even = 128
    dropout: Share = 0.2
    bidirectional: bool = False
    project: bool = False
    gcn: bool = True
    speaker: bool = True
    context_encoder: bool = True
    heads: Size = 1
    layers: Size = 1


class MultipleFeaturesFusion(nn.Module):
    """MFF: a graph over the fused pairs of modalities, and a GRU and Transformer encoder over the second text feature."""

    def __init__(self, shapes: Shapes, widths: dict[str, int], config: PairwiseConfig, recipe: GraphRecipe) -> None:
        super().__init__()
        mff = config.mff

        def gru(inputs: int) -> Recurrent:
            return Recurrent("gru", inputs, mff.width, bidirectional=mff.bidirectional and not config.causal)

        self.encode = nn.ModuleDict({pair: gru(width) for pair, width in widths.items()})
        self.dropout = Dropout(mff.dropout)
        self.speaker = SpeakerEmbedding(mff.width, given=shapes.speaker) if mff.speaker else None
        self.conv = AngularConv(mff.width, recipe, AngularConvConfig(depth=config.depth), dropout=mff.dropout) if mff.gcn else None
        self.width = len(widths) * (self.conv.width if self.conv else mff.width)
        width = shapes.second_text or shapes.widths.get("text", 0)
        self.context = bool(width and (mff.context_encoder or config.mal.context_skip))
        self.missing = Missing({"Bt": width} if self.context else {})
        self.project = nn.Sequential(nn.Linear(width, mff.width), nn.ReLU()) if self.context and mff.project else None
        self.encode_context = gru(mff.width if self.project else width) if self.context else None
        self.transform = None
        if self.context and mff.context_encoder:
            self.transform = TransformerEncoder(
                mff.width, heads=mff.heads, layers=mff.layers, dropout=mff.dropout, causal=config.causal, past=recipe.past
            )
            self.width += mff.width

    def nodes(self, given: Given, pairs: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the node states n^(p) `(utterances, pairs, width)`, and the GRU states h^(p): pair of modalities → states."""
        nets = [cast(Recurrent, self.encode[pair]) for pair in pairs]
        read = side_by_side(nets, [self.dropout(e) for e in pairs.values()], given.batch)  # Eq. (8)
        nodes = torch.stack(read, 1)
        return (nodes if self.speaker is None else nodes + self.speaker(given)[:, None]), dict(zip(pairs, read, strict=True))  # Eq. (9)

    def forward(self, given: Given, pairs: dict[str, Tensor], present: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the output E^(MF) `(utterances, width)`, and the GRU states: pair, or `Bt` for the second text feature → states."""
        states, hidden = self.nodes(given, pairs)
        nodes = Nodes(states, present, tuple(pairs))
        fused = (self.conv(nodes, given.batch).states if self.conv else nodes.masked()).flatten(1)  # Eq. (10)
        if self.encode_context is not None:
            value, here = given.second_text or (given.values["text"], given.present["text"])
            features = self.missing({"Bt": value}, {"Bt": here})["Bt"]
            features = self.project(features) if self.project else features
            hidden["Bt"] = over_turns(self.encode_context, self.dropout(features), given.batch)  # Eq. (11)
            if self.transform is not None:
                fused = torch.cat([fused, over_turns(self.transform, hidden["Bt"], given.batch)], -1)  # Eq. (12)
        return fused, hidden
