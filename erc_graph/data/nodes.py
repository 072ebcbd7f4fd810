"""The data that the parts of a method exchange: one state per utterance and stream."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Nodes:
    """The nodes of a batch.

    Attributes:
        states: `(N, S, width)` for `N` utterances and `S` streams; the state of an absent node is never read.
        present: `(N, S)` bool.
        streams: Names of the streams, in order: modalities, fused pairs, or the utterance itself.
        whole: Whether all nodes are known to be present.

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
        """Build nodes of one stream, the utterance.

        Args:
            states: `(N, width)`
            present: `(N,)` bool; default: all.
        """
        here = torch.ones(len(states), dtype=torch.bool, device=states.device) if present is None else present
        return cls(states[:, None], here[:, None], ("turn",), present is None)

    @property
    def width(self) -> int:
        """Return the width of the states."""
        return self.states.shape[-1]

    def with_states(self, states: Tensor) -> Nodes:
        """Return the same nodes with other states: `(N, S, any width)`."""
        return replace(self, states=states)

    def take(self, *places: int) -> Nodes:
        """Return some streams in a given order; a stream may occur twice."""
        return Nodes(self.states[:, places], self.present[:, places], tuple(self.streams[k] for k in places), self.whole)

    def masked(self) -> Tensor:
        """Return the states `(N, S, width)`, zero where a node is absent."""
        return self.states if self.whole else torch.where(self.present[..., None], self.states, 0.0)
