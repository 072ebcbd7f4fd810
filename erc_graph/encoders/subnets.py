"""Small networks for one modality of one utterance: three layers for a vector, or an LSTM for words."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.data.ragged import Ragged
from erc_graph.encoders.batch_norm import BatchNorm
from erc_graph.encoders.dropout import Dropout
from erc_graph.encoders.sequences import encode_sequences

TOKENS = 8192  # most words that are encoded at once


class SubNet(nn.Module):
    """Batch normalisation and three linear layers with ReLU (TFN, Zadeh et al., EMNLP 2017).

    Args:
        inputs: Width of the input vectors.
        width: Width of the output and of the hidden layers.
        dropout: Dropout rate after the batch normalisation, in training.
    """

    def __init__(self, inputs: int, width: int, dropout: float) -> None:
        super().__init__()
        self.norm, self.dropout = BatchNorm(inputs), Dropout(dropout)
        self.linear = nn.ModuleList(nn.Linear(width if i else inputs, width) for i in range(3))

    def forward(self, nodes: Nodes, batch: Batch) -> Tensor:
        """Encode one vector per utterance: `(N, 1, inputs)` → `(N, width)`."""
        rows = self.dropout(self.norm(nodes, batch).states[:, 0])
        for linear in self.linear:
            rows = linear(rows).relu()
        return rows


class LastWord(nn.Module):
    """An LSTM over the words of an utterance, and a linear layer on the last state of the LSTM.

    Args:
        inputs: Width of a word vector.
        words: Width of the LSTM states.
        width: Width of the output vector.
        dropout: Dropout rate of the last state, in training.
    """

    def __init__(self, inputs: int, words: int, width: int, dropout: float) -> None:
        super().__init__()
        self.lstm, self.dropout, self.linear = nn.LSTM(inputs, words, batch_first=True), Dropout(dropout), nn.Linear(words, width)

    def forward(self, sequences: Ragged) -> Tensor:
        """Encode all utterances as vectors `(N, width)`; the vector of an utterance without words is zero."""
        return encode_sequences(self.read, sequences, self.linear.out_features, TOKENS)

    def read(self, padded: Tensor, mask: Tensor) -> Tensor:
        """Encode padded words: `(n, L, inputs)` with the mask `(n, L)` bool → `(n, width)`. Padding does not change the result."""
        states, _ = self.lstm(padded)
        last = (mask.sum(1) - 1)[:, None, None].expand(-1, 1, states.shape[-1])
        return self.linear(self.dropout(torch.gather(states, 1, last)[:, 0]))
