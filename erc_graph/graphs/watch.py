"""Observation of the messages of an operator: a multiplier of messages for explanations, and a record of weights for drawings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from erc_graph.graphs.rule_edges import EdgeType


@dataclass(frozen=True, eq=False)
class Sent:
    """The messages of one `spread`.

    Attributes:
        types: Edge types, in order.
        counts: Edges of each type, of one copy.
        weights: `(K, E)` the weight of every message, heads averaged.
    """

    types: tuple[EdgeType, ...]
    counts: tuple[int, ...]
    weights: Tensor


@dataclass(eq=False)
class Watch:
    """An observer of the messages of an operator.

    Edges are in the order of `build_from_states`: edge types in order, then target, then source; incidences of hyperedges behind them.

    Attributes:
        multiplier: `(K, E)` factor of every message, in a batch of `K` equal dialogues with `E` edges each; default: none, and the batch
            counts as one dialogue.
        record: Sent messages, one entry per call.
    """

    multiplier: Tensor | None = None
    record: list[Sent] = field(default_factory=list)


class Watched:
    """Edges of some types with an observer.

    Args:
        watch: The observer.
        types: All edge types of these edges, in order.
        counts: Edges of each type in the whole batch.
        first: Edges of one copy that come before in the multiplier.

    Raises:
        ValueError: a multiplier for another number of edges.
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
                    f"watch: expected a multiplier for {sum(counts)} edges of copies of one dialogue, found {tuple(watch.multiplier.shape)}"
                )
            parts = watch.multiplier[:, first : self.end].split(self.counts, 1)
            self.multiplier = torch.cat([part.flatten() for part in parts]) if parts else None

    def seen(self, weights: Tensor) -> None:
        """Record `(E of the batch,)` weights."""
        parts = weights.split([count * self.copies for count in self.counts])
        rows = [part.view(self.copies, -1) if len(part) else part.new_zeros(self.copies, 0) for part in parts]
        self.watch.record.append(Sent(self.types, self.counts, torch.cat(rows, 1) if rows else weights.new_zeros(self.copies, 0)))
