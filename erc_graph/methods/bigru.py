"""Baseline: two bidirectional GRU layers over the concatenated features of the turns. No graph, no speakers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from erc_graph.encoders.dropout import Dropout
from erc_graph.encoders.missing import Missing
from erc_graph.encoders.recurrent import Recurrent
from erc_graph.encoders.turns import over_turns
from erc_graph.errors import expect
from erc_graph.methods.base import Method
from erc_graph.methods.inputs import Given, Shapes


@dataclass(frozen=True, kw_only=True)
class BiGRUConfig:
    """Plain BiGRU.

    Attributes:
        width: Width of the states, both directions together.
        layers: Number of layers.
        dropout: Before, between and after them.
        causal: Read forward alone, so that nothing comes from later turns.
    """

    width: int = 256
    layers: int = 2
    dropout: float = 0.4
    causal: bool = False

    def __post_init__(self) -> None:
        expect(
            "pipeline",
            self,
            width=(self.width >= 2 and self.width % 2 == 0, "an even number of 2 or more (half of it for each direction)"),
            layers=(self.layers >= 1, "1 or more"),
            dropout=(0 <= self.dropout < 1, "a number in [0, 1)"),
        )


class BiGRU(Method):
    """Baseline that every table shows, so that a number means something."""

    Config = BiGRUConfig
    family = "recurrent"

    def build(self, config: BiGRUConfig, shapes: Shapes) -> None:
        """A learned vector for what is missing, a projection, the GRU, and a linear classifier."""
        width, dropout = config.width, config.dropout
        self.missing = Missing(shapes.widths)
        self.project = nn.Sequential(nn.Linear(sum(shapes.widths.values()), width), nn.ReLU(), Dropout(dropout))
        self.read = Recurrent("gru", width, width, bidirectional=not config.causal, layers=config.layers, dropout=dropout)
        self.classify = self.head(config, width, shapes.outputs)

    def encode(self, given: Given) -> Tensor:
        """`(N, width)`"""
        features = torch.cat(list(self.missing(given.values, given.present).values()), -1)
        return over_turns(self.read, self.project(features), given.batch)
