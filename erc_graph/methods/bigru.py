"""Baseline: two bidirectional GRU layers over the utterances; the features of all modalities are concatenated.

The method uses neither a graph nor speakers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from erc_graph.encoders.dropout import Dropout
from erc_graph.encoders.missing import Missing
from erc_graph.encoders.recurrent import Recurrent
from erc_graph.encoders.turns import over_turns
from erc_graph.methods.base import Method
from erc_graph.methods.inputs import Given, Shapes
from erc_graph.methods.ranges import Causal, Even, Share, Size


@dataclass(frozen=True, kw_only=True)
class BiGRUConfig(Causal):
    """Options of the BiGRU baseline.

    Attributes:
        width: Width of the GRU states, for both directions together.
        layers: Number of GRU layers.
        dropout: Dropout before, between and after the GRU layers.
    """

    width: Even = 256
    layers: Size = 2
    dropout: Share = 0.4


class BiGRU(Method):
    """Recurrent baseline: every table of results contains this method for comparison."""

    Config = BiGRUConfig
    family = "recurrent"

    def build(self, config: BiGRUConfig, shapes: Shapes) -> None:
        """Build the learned vectors that replace missing modalities, a projection, the GRU, and a linear classifier."""
        width, dropout = config.width, config.dropout
        self.missing = Missing(shapes.widths)
        self.project = nn.Sequential(nn.Linear(sum(shapes.widths.values()), width), nn.ReLU(), Dropout(dropout))
        self.read = Recurrent("gru", width, width, bidirectional=not config.causal, layers=config.layers, dropout=dropout)
        self.classify = self.head(config, width, shapes.outputs)

    def encode(self, given: Given) -> Tensor:
        """Compute the utterance states before the classifier, `(N, width)`."""
        features = torch.cat(list(self.missing(given.values, given.present).values()), -1)
        return over_turns(self.read, self.project(features), given.batch)
