"""Baseline: two bidirectional GRU layers over the concatenated features of the turns. No graph, no speakers.

Where a corpus has sequences in the place of vectors, their mean and deviation over time are the features.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import nn

from erc_graph.data.batch import Batch
from erc_graph.encoders.dropout import Dropout
from erc_graph.encoders.inputs import Inputs, hidden, swapped
from erc_graph.encoders.pooled import pooled, pooled_width
from erc_graph.encoders.recurrent import Recurrent
from erc_graph.errors import expect
from erc_graph.methods.base import Pipeline, Schema
from erc_graph.methods.stage import Prediction


@dataclass(frozen=True, kw_only=True)
class BiGRUConfig:
    """Plain BiGRU.

    Attributes:
        width: Width of the states, both directions together.
        layers: Number of layers.
        dropout: Before, between and after them.
        speaker_relative: Modalities that are given twice: as they are, and relative to the speaker's mean and deviation in the dialogue.
        prior: Feature set of class log-probabilities, or several joined by `+`, that is read like the others, and added to the scores
            (`erc_graph.methods.prior`).
        prior_around: Add how frequent the classes are in the conversation as far as the prior sees, with a learned weight.
        bidirectional: Read in both directions; off: forward alone, so that nothing comes from later turns.
        modality_dropout: Share of modalities that are hidden in training.
        swap_noise: Modality → share of training rows that carry another utterance's features.
    """

    width: int = 256
    layers: int = 2
    dropout: float = 0.4
    speaker_relative: list[str] = field(default_factory=list)
    prior: str | None = None
    prior_around: bool = False
    bidirectional: bool = True
    modality_dropout: float = 0.0
    swap_noise: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        expect(
            "pipeline",
            self,
            width=(self.width >= 2 and self.width % 2 == 0, "an even number of 2 or more (half of it for each direction)"),
            layers=(self.layers >= 1, "1 or more"),
            dropout=(0 <= self.dropout < 1, "a number in [0, 1)"),
            modality_dropout=(0 <= self.modality_dropout < 1, "a number in [0, 1)"),
            swap_noise=(all(0 <= share <= 1 for share in self.swap_noise.values()), "numbers from 0 to 1"),
        )


class BiGRU(Pipeline):
    """Baseline that every table shows, so that a number means something."""

    Config = BiGRUConfig
    reads = ("features", "sequences")

    def __init__(self, schema: Schema, config: BiGRUConfig | None = None) -> None:
        super().__init__(schema)
        self.config = config or BiGRUConfig()
        width, dropout = self.config.width, self.config.dropout
        widths = {**schema.widths, **{name: pooled_width(item) for name, item in schema.sequences.items()}}
        self.inputs = Inputs(widths, speaker_relative=schema.known(self.config.speaker_relative, "pipeline.speaker_relative"))
        self.project = nn.Sequential(nn.Linear(sum(self.inputs.output_widths.values()), width), nn.ReLU(), Dropout(dropout))
        self.encode = Recurrent("gru", width, width, bidirectional=self.config.bidirectional, layers=self.config.layers, dropout=dropout)
        self.dropout = Dropout(dropout)
        self.classify = nn.Linear(width, schema.outputs)
        self.prior = schema.prior(self.config.prior, self.config.prior_around)

    @property
    def causal(self) -> bool:
        """Whether the GRU reads forward alone, and its inputs need no later turn."""
        return not (self.config.bidirectional or self.config.speaker_relative or self.config.prior_around)

    def fit_inputs(self, train: Batch) -> None:
        """Fit the scaling of all inputs on training data."""
        super().fit_inputs(pooled(train))

    def start_stage(self, index: int, batch: Batch) -> Batch:
        """Sequences are pooled once, and not in every epoch."""
        return pooled(batch)

    def forward(self, batch: Batch) -> Prediction:
        """Scores of every utterance: `(N, C)`."""
        batch = pooled(batch)
        if self.training and self.config.swap_noise:
            batch = swapped(batch, self.config.swap_noise)
        if self.training and self.config.modality_dropout:
            batch = replace(batch, present=hidden({m: batch.present[m] for m in self.inputs.widths}, self.config.modality_dropout))
        features = torch.cat(list(self.inputs(batch).values()), -1)
        states = self.encode(self.project(features), batch)
        scores = self.classify(self.dropout(states))
        return Prediction(scores=scores if self.prior is None else self.prior(scores, batch), states=states)
