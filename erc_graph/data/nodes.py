"""The node states that the modules of a method exchange. Each utterance has one node per stream, for example per modality."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Nodes:
    """The nodes of a batch: one node per utterance and stream.

    Attributes:
        states: `(N, S, width)` vectors for `N` utterances and `S` streams. The state of an absent node is never used.
        present: `(N, S)` bool: whether the utterance has the node; a node can be absent because a modality is missing.
        streams: Names of the streams, in order: modalities, pairs of fused modalities, or one stream for the whole utterance.
        whole: True if all nodes are known to be present.

    >>> nodes = Nodes.of_turns(torch.ones(3, 4))
    >>> nodes.streams, nodes.states.shape, nodes.width, bool(nodes.present.all())
    (('turn',), torch.Size([3, 1, 4]), 4, True)
    """

    states: Tensor
    present: Tensor
    streams: tuple[str, ...]
    whole: bool = False

    @classmethod
    def of_turns(cls, states: Tensor, present: Tensor | None = None) -> Nodes:
        """Build nodes of a single stream: one node per utterance.

        Args:
            states: State of each node, `(N, width)`.
            present: Whether each node is present, `(N,)` bool; default: all nodes are present.
        """
        here = torch.ones(len(states), dtype=torch.bool, device=states.device) if present is None else present
        return cls(states[:, None], here[:, None], ("turn",), present is None)

    @property
    def width(self) -> int:
        """Return the width of the state vectors."""
        return self.states.shape[-1]

    def with_states(self, states: Tensor) -> Nodes:
        """Return a copy of the nodes with the given states, `(N, S, d)` for any width `d`."""
        return replace(self, states=states)

    def take(self, *places: int) -> Nodes:
        """Return the nodes of the streams at the given positions, in the given order. A position may occur twice."""
        return Nodes(self.states[:, places], self.present[:, places], tuple(self.streams[k] for k in places), self.whole)

    def masked(self) -> Tensor:
        """Return the states `(N, S, width)`, with zeros as the states of absent nodes."""
        return self.states if self.whole else torch.where(self.present[..., None], self.states, 0.0)
