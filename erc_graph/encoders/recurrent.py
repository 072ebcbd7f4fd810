"""An LSTM or GRU over the utterances of a dialogue."""

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
    """An LSTM or GRU over the dialogue, with one state per utterance (`erc_graph.methods.pairwise`, Equations (1), (8), (11)).

    Dialogues are padded at the end, and the backward direction starts at the last utterance of each dialogue. Padding therefore does not
    change the states. Packed sequences of PyTorch give the same states, but need twice the time on a CPU.

    Args:
        cell: `lstm` or `gru`.
        inputs: Width of the input vectors.
        width: Width of the output vectors: both directions, concatenated.
        bidirectional: Whether the dialogue is processed in both directions.
        layers: Number of stacked layers.
        dropout: Dropout rate between layers in training.

    Raises:
        ConfigError: the network is bidirectional and the width is odd.
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
            raise ConfigError(f"width: expected an even number, because each of the two directions has half of the width, found {width}")
        self.cell, self.width, self.causal = cell, width, not bidirectional
        self.layers = nn.ModuleList(
            nn.ModuleList(net(width if layer else inputs, width // directions, batch_first=True) for _ in range(directions))
            for layer in range(layers)
        )
        self.dropout = Dropout(dropout)

    def nets(self, layer: int) -> list[Any]:
        """Return the PyTorch modules of a layer: forward and, if it is bidirectional, backward."""
        return list(cast(nn.ModuleList, self.layers[layer]))

    def read(self, states: Tensor, batch: Batch) -> Tensor:
        """Encode all utterances of the batch, one vector each: `(N, inputs)` → `(N, width)`."""
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
        """Process the next utterance of a live dialogue in evaluation mode. The network must not be bidirectional.

        Args:
            states: `(1, inputs)` vector of the utterance.
            batch: A batch that contains only this utterance.
            memory: The memory returned for the preceding utterance; `None` for the first utterance.

        Returns:
            The output `(1, width)`, and the memory for the next utterance: the states of every layer.
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
    """Apply one network per stream to the same dialogues. One-layer GRUs of equal width are computed together (`erc_graph.encoders.gru`).

    Args:
        nets: One network per stream; streams may share a network.
        states: `(N, inputs)` input of each stream (for example, modality), one vector per utterance.
        batch: The dialogues.

    Returns:
        `(N, width)` output of each stream.
    """
    if not all(type(net) is Recurrent for net in nets):  # one turn at a time (`erc_graph.inference.stream`)
        return [over_turns(net, rows, batch) for net, rows in zip(nets, states, strict=True)]
    shapes = {(len(net.layers), *((type(part), part.hidden_size) for part in net.nets(0))) for net in nets}
    alike = len(shapes) == 1 and len(nets[0].layers) == 1 and isinstance(nets[0].nets(0)[0], nn.GRU)
    if alike and all(map(gru.usable, states)):
        return gru.read([net.nets(0) for net in nets], states, batch)
    return [net.read(rows, batch) for net, rows in zip(nets, states, strict=True)]
