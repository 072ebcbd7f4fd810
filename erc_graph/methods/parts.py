"""Parts that several methods are made of: what stands at the beginning, between the layers, and at the end."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.encoders.dropout import Dropout
from erc_graph.encoders.turns import OverTurns, over_turns
from erc_graph.methods.inputs import Given


class Turn(nn.Module):
    """All modalities of a turn side by side, as one stream; zeros stand for what is missing.

    Args:
        widths: Modality → width.

    Attributes:
        width: Width of the states.
        count: Number of streams: one.
    """

    def __init__(self, widths: Mapping[str, int]) -> None:
        super().__init__()
        self.names, self.count = tuple(widths), 1
        self.width = sum(widths.values())

    def forward(self, given: Given) -> Nodes:
        """`(N, 1, width)`; a turn is present where any of its modalities is."""
        states = torch.cat([given.values[name] for name in self.names], -1)
        return Nodes.of_turns(states, given.here(self.names).any(1))


class Streams(nn.Module):
    """A stream per modality, each through a linear map of its own to one width.

    Args:
        widths: Modality → width.
        width: Width of the states.
        read: Stream → a part over its turns, behind the map; only of streams that are there.

    Attributes:
        count: Number of streams.
    """

    def __init__(self, widths: Mapping[str, int], width: int, read: Mapping[str, OverTurns] | None = None) -> None:
        super().__init__()
        self.names, self.width, self.count = tuple(widths), width, len(widths)
        self.read = nn.ModuleDict({name: part for name, part in (read or {}).items() if name in widths})
        self.project = nn.ModuleDict({name: nn.Linear(inputs, width) for name, inputs in widths.items()})

    def forward(self, given: Given) -> Nodes:
        """`(N, S, width)`."""
        rows = {name: self.project[name](given.values[name]) for name in self.names}
        rows |= {name: over_turns(part, rows[name], given.batch) for name, part in self.read.items()}
        states = torch.stack([rows[name] for name in self.names], 1)
        return Nodes(states, given.here(self.names), self.names)


class Rowwise(nn.Module):
    """Layers that look at one node at a time.

    Args:
        *layers: Applied one after the other to `(N, S, width)`.

    Attributes:
        width: Width of the states that come out, where a linear layer among them says it.
    """

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)
        if linear := [layer.out_features for layer in layers if isinstance(layer, nn.Linear)]:
            self.width = linear[-1]

    def forward(self, nodes: Nodes, batch: Batch) -> Nodes:
        """`(N, S, width)` → `(N, S, any width)`."""
        return nodes.with_states(self.layers(nodes.states))


class Classifier(nn.Module):
    """Fully connected layers with ReLU and dropout in front of the scores."""

    def __init__(self, inputs: int, outputs: int, *, hidden: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(Dropout(dropout), nn.Linear(inputs, hidden), nn.ReLU(), Dropout(dropout), nn.Linear(hidden, outputs))

    def forward(self, states: Tensor) -> Tensor:
        """`(N, inputs)` → `(N, outputs)`."""
        return self.layers(states)
