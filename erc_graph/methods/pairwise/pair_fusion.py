"""Pairwise modalities fusion (PMF), stage 1 of pairwise fusion, once per pair of modalities, Eqs. (1) to (7)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from erc_graph.conv.angular.angular import AngularConv, AngularConvConfig
from erc_graph.data.nodes import Nodes
from erc_graph.encoders.dropout import Dropout
from erc_graph.encoders.missing import Missing
from erc_graph.encoders.recurrent import Recurrent
from erc_graph.encoders.speaker import SpeakerEmbedding
from erc_graph.encoders.turns import over_turns
from erc_graph.graphs.recipe import GraphRecipe
from erc_graph.methods.inputs import Given, Shapes
from erc_graph.methods.parts import Classifier
from erc_graph.methods.penalties import Reduction, density
from erc_graph.methods.ranges import Checked, Even, Share, Weight
from erc_graph.methods.stage import Prediction

if TYPE_CHECKING:
    from erc_graph.methods.pairwise.pairwise import PairwiseConfig


@dataclass(frozen=True, kw_only=True)
class PmfConfig(Checked):
    """Options of pairwise modalities fusion (stage 1).

    Attributes:
        enabled: Use stage 1; off: a pair is represented by its two BiLSTM states, without a graph and without a loss of stage 1.
        width: Width of the node states.
        dropout: Dropout in the encoders, the graph and the classifier.
        project: Add a linear layer with ReLU before each BiLSTM (not in the paper).
        density: Weight λ_p1 of the density loss, the L1 norm of the fused pair.
    """

    where = "pipeline.pmf"

    enabled: bool = True
    width: Even = 128
    dropout: Share = 0.2
    project: bool = False
    density: Weight = 2e-5


class PairFusion(nn.Module):
    """Pairwise modalities fusion (PMF) of one pair of modalities, or of a single modality."""

    def __init__(self, shapes: Shapes, modalities: tuple[str, ...], config: PairwiseConfig, recipe: GraphRecipe) -> None:
        super().__init__()
        pmf = config.pmf
        self.modalities, self.enabled = modalities, pmf.enabled
        widths = {name: shapes.widths[name] for name in modalities}
        self.missing = Missing(widths)
        self.dropout = Dropout(pmf.dropout)
        self.project = nn.ModuleDict(
            {name: nn.Sequential(nn.Linear(widths[name], pmf.width), nn.ReLU()) for name in modalities} if pmf.project else {}
        )
        widths = {name: pmf.width if pmf.project else widths[name] for name in modalities}
        both = not config.causal
        self.encode = nn.ModuleDict({name: Recurrent("lstm", widths[name], pmf.width, bidirectional=both) for name in modalities})
        self.width = pmf.width * len(modalities)
        if pmf.enabled:
            self.speaker = SpeakerEmbedding(pmf.width, given=shapes.speaker)
            self.conv = AngularConv(pmf.width, recipe, AngularConvConfig(depth=config.depth), dropout=pmf.dropout)
            self.width = self.conv.width * len(modalities)
            self.classify = Classifier(self.width, shapes.outputs, hidden=pmf.width, dropout=pmf.dropout)
            self.penalty = pmf.density
            self.reduction: Reduction = config.density_reduction

    def nodes(self, given: Given) -> Nodes:
        """Compute the node states n^m, `(utterances, modalities, width)`; without PMF, these are the BiLSTM states."""
        features = self.missing(given.values, given.present)
        features = {m: self.project[m](value) if self.project else value for m, value in features.items()}
        read = [over_turns(self.encode[m], self.dropout(features[m]), given.batch) for m in self.modalities]  # Eq. (1)
        states = torch.stack(read, 1)
        states = states + self.speaker(given)[:, None] if self.enabled else states  # Eq. (2)
        return Nodes(states, given.here(self.modalities), self.modalities)

    def forward(self, given: Given) -> Tensor:
        """Compute the fused states E^(m1m2) of the pair, Eq. (5): `(utterances, width)`."""
        nodes = self.nodes(given)
        return (self.conv(nodes, given.batch).states if self.enabled else nodes.masked()).flatten(1)  # Eqs. (3)-(5)

    def predict(self, given: Given) -> Prediction:
        """Compute the prediction of stage 1: the scores of the pair's own classifier, and the density loss."""
        fused = self(given)
        penalty = self.penalty * density(fused, self.reduction)  # Eqs. (6), (7)
        return Prediction(scores=self.classify(fused), penalty=penalty, penalty_reduction=self.reduction, states=fused)
