"""Observation of the messages of a graph operator: a factor per message for explanations, and a record of edge weights for drawings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from erc_graph.graphs.rule_edges import EdgeType


@dataclass(frozen=True, eq=False)
class Sent:
    """A record of the messages of one call of `Edges.spread`. The batch has `K` copies of one dialogue; each copy has `E` edges.

    Attributes:
        types: Edge types, in the order of the edges.
        counts: Number of edges of each type, in one copy of the dialogue.
        weights: `(K, E)` weight of every message, averaged over the attention heads.
    """

    types: tuple[EdgeType, ...]
    counts: tuple[int, ...]
    weights: Tensor


@dataclass(eq=False)
class Watch:
    """An observer, which records the messages that a graph operator sends along edges, and can multiply the messages by factors.

    Edges are sorted as in `build_from_states`: by edge type, target and source. Edges to and from hyperedges come after all other edges.

    Attributes:
        multiplier: `(K, E)` factor of every message, for a batch of `K` copies of a dialogue with `E` edges each. `None`: messages are not
            multiplied, and the batch is recorded as one dialogue.
        record: The messages, as one object `Sent` per call of `Edges.spread`.
    """

    multiplier: Tensor | None = None
    record: list[Sent] = field(default_factory=list)


class Watched:
    """The connection between a set of edges and an observer (`Watch`).

    Args:
        watch: The observer.
        types: All edge types of the set, in the order of the edges.
        counts: Number of edges of each type in the whole batch.
        first: Index of the first edge of the set in `watch.multiplier`.

    Raises:
        ValueError: the number of edges does not fit the shape of `watch.multiplier`.
    """

    def __init__(self, watch: Watch, types: Sequence[EdgeType], counts: Sequence[int], first: int = 0) -> None:
        self.watch, self.types = watch, tuple(types)
        self.copies = 1 if watch.multiplier is None else len(watch.multiplier)
        self.counts = tuple(count // max(1, self.copies) for count in counts)
        self.end = first + sum(self.counts)
        self.multiplier: Tensor | None = None
        if watch.multiplier is not None:
            if watch.multiplier.shape[1] < self.end or [count * self.copies for count in self.counts] != list(counts):
                raise ValueError(
                    f"watch: expected one multiplier for each of the {sum(counts)} edges of the copies of one dialogue, found "
                    f"multipliers of shape {tuple(watch.multiplier.shape)}"
                )
            parts = watch.multiplier[:, first : self.end].split(self.counts, 1)
            self.multiplier = torch.cat([part.flatten() for part in parts]) if parts else None

    def seen(self, weights: Tensor) -> None:
        """Record the weights of all messages of the batch; `weights` is a flat tensor, sorted by edge type."""
        parts = weights.split([count * self.copies for count in self.counts])
        rows = [part.view(self.copies, -1) if len(part) else part.new_zeros(self.copies, 0) for part in parts]
        self.watch.record.append(Sent(self.types, self.counts, torch.cat(rows, 1) if rows else weights.new_zeros(self.copies, 0)))
