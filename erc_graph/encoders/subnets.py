"""Small networks for one modality of one utterance: three layers over a vector, or the last state of an LSTM over words."""

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
    """Batch norm and three layers with ReLU (Zadeh et al., TFN, EMNLP 2017).

    Args:
        inputs: Width of the input vectors.
        width: Width of the output and of the hidden layers.
        dropout: Dropout after the norm, in training.
    """

    def __init__(self, inputs: int, width: int, dropout: float) -> None:
        super().__init__()
        self.norm, self.dropout = BatchNorm(inputs), Dropout(dropout)
        self.linear = nn.ModuleList(nn.Linear(width if i else inputs, width) for i in range(3))

    def forward(self, nodes: Nodes, batch: Batch) -> Tensor:
        """Map `(N, 1, inputs)` to `(N, width)`."""
        rows = self.dropout(self.norm(nodes, batch).states[:, 0])
        for linear in self.linear:
            rows = linear(rows).relu()
        return rows


class LastWord(nn.Module):
    """An LSTM over the words of an utterance, and a linear map of its last state.

    Args:
        inputs: Width of a word.
        words: Width of the LSTM.
        width: Width of the output vector.
        dropout: Dropout on the last state, in training.
    """

    def __init__(self, inputs: int, words: int, width: int, dropout: float) -> None:
        super().__init__()
        self.lstm, self.dropout, self.linear = nn.LSTM(inputs, words, batch_first=True), Dropout(dropout), nn.Linear(words, width)

    def forward(self, sequences: Ragged) -> Tensor:
        """Return `(N, width)`; zero where an utterance has no words."""
        return encode_sequences(self.read, sequences, self.linear.out_features, TOKENS)

    def read(self, padded: Tensor, mask: Tensor) -> Tensor:
        """Map `(n, L, inputs)`, `(n, L)` bool to `(n, width)`; the LSTM reads forward, so padding at the end changes nothing."""
        states, _ = self.lstm(padded)
        last = (mask.sum(1) - 1)[:, None, None].expand(-1, 1, states.shape[-1])
        return self.linear(self.dropout(torch.gather(states, 1, last)[:, 0]))
