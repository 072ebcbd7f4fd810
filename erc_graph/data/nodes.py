"""The data that the parts of a method exchange: one node state per utterance and stream (for example, per modality)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Nodes:
    """The nodes of a batch.

    Attributes:
        states: `(N, S, width)` for `N` utterances and `S` streams. The state of an absent node is never used.
        present: `(N, S)` bool, whether the node is present.
        streams: Names of the streams, in order: modalities, pairs of fused modalities, or one stream for the whole utterance.
        whole: True if it is known that all nodes are present.

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
            states: `(N, width)`
            present: `(N,)` bool; default: all are present.
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
        """Return nodes of the given streams, in the given order; a stream may occur twice."""
        return Nodes(self.states[:, places], self.present[:, places], tuple(self.streams[k] for k in places), self.whole)

    def masked(self) -> Tensor:
        """Return the states `(N, S, width)`; those of absent nodes are set to zero."""
        return self.states if self.whole else torch.where(self.present[..., None], self.states, 0.0)
