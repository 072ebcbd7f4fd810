"""LSTM and GRU over the utterances of a dialogue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from erc_graph.data.batch import Batch
from erc_graph.encoders import gru
from erc_graph.encoders.dropout import Dropout
from erc_graph.encoders.turns import OverRows, over_turns
from erc_graph.errors import ConfigError

Memory = list[tuple[Tensor, ...]]  # per layer: hidden state, and the cell of an LSTM


class Recurrent(OverRows):
    """LSTM or GRU over the dialogue, one state per utterance (pairwise fusion, Eqs. (1), (8), (11)).

    Dialogues are padded at their end, and the backward direction reads each dialogue from its own last utterance. Neither direction ever
    reads padding. The result is that of a packed sequence, in half its time on a CPU.

    Args:
        cell: `lstm` or `gru`.
        inputs: Width of the input rows.
        width: Width of the output rows; both directions together.
        bidirectional: Whether the dialogue is read in both directions.
        layers: Number of stacked layers.
        dropout: Dropout between layers.

    Raises:
        ConfigError: the width is odd for two directions.
    """

    def __init__(
        self,
        cell: Literal["lstm", "gru"],
        inputs: int,
        width: int,
        *,
        bidirectional: bool = False,
        layers: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        net = nn.LSTM if cell == "lstm" else nn.GRU
        directions = 2 if bidirectional else 1
        if width % directions:
            raise ConfigError(f"width: expected an even number, half for each direction, found {width}")
        self.cell, self.width, self.causal = cell, width, not bidirectional
        self.layers = nn.ModuleList(
            nn.ModuleList(net(width if layer else inputs, width // directions, batch_first=True) for _ in range(directions))
            for layer in range(layers)
        )
        self.dropout = Dropout(dropout)

    def nets(self, layer: int) -> list[Any]:
        """Return PyTorch's networks of a layer: forward, and backward if it is bidirectional."""
        return list(cast(nn.ModuleList, self.layers[layer]))

    def read(self, states: Tensor, batch: Batch) -> Tensor:
        """Map `(N, inputs)` packed rows to `(N, width)`."""
        for index in range(len(self.layers)):
            states = self.dropout(states) if index else states
            nets = self.nets(index)
            if isinstance(nets[0], nn.GRU) and gru.usable(states):
                (states,) = gru.read([nets], [states], batch)
                continue
            states = torch.cat(
                [
                    batch.unpad(net(batch.pad(states, backwards=backwards))[0], backwards=backwards)
                    for net, backwards in zip(nets, (False, True), strict=False)
                ],
                -1,
            )
        return states

    def read_next(self, states: Tensor, batch: Batch, memory: Memory | None) -> tuple[Tensor, Memory]:
        """Process the next utterance of a live dialogue, in evaluation mode; forward direction only.

        Args:
            states: `(1, inputs)` the row of the utterance.
            batch: The utterance as a batch.
            memory: The memory from the preceding utterance; `None` at the first.

        Returns:
            `(1, width)`, and what to hand on: the states of every layer.
        """
        # Bare cells: the sequence form of PyTorch rearranges an LSTM's weights in every call on a CPU, a millisecond for one turn.
        handed: Memory = []
        for index, layer in enumerate(self.layers):
            net = cast("nn.LSTM | nn.GRU", next(layer.children()))
            first = states.new_zeros(1, net.hidden_size)
            hidden = memory[index] if memory else (first, first)
            weights = net.all_weights[0]
            if self.cell == "lstm":
                handed.append(torch.lstm_cell(states, hidden, *weights))
            else:
                handed.append((torch.gru_cell(states, hidden[0], *weights),))
            states = handed[-1][0]
        return states, handed


def side_by_side(nets: Sequence[Recurrent], states: Sequence[Tensor], batch: Batch) -> list[Tensor]:
    """Apply several networks to the same dialogues, one per stream; GRUs of one shape run together (`erc_graph.encoders.gru`).

    Args:
        nets: One network per stream; a network may occur twice.
        states: `(N, inputs)` packed rows of each stream.
        batch: The dialogues.

    Returns:
        `(N, width)` of each stream.
    """
    if not all(type(net) is Recurrent for net in nets):  # one turn at a time (`erc_graph.inference.stream`)
        return [over_turns(net, rows, batch) for net, rows in zip(nets, states, strict=True)]
    shapes = {(len(net.layers), *((type(part), part.hidden_size) for part in net.nets(0))) for net in nets}
    alike = len(shapes) == 1 and len(nets[0].layers) == 1 and isinstance(nets[0].nets(0)[0], nn.GRU)
    if alike and all(map(gru.usable, states)):
        return gru.read([net.nets(0) for net in nets], states, batch)
    return [net.read(rows, batch) for net, rows in zip(nets, states, strict=True)]
