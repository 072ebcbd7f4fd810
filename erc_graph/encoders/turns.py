"""Parts that look at other utterances: the only kind of module that may.

What a method is follows from its parts. It is causal if all of them are; it judges utterances alone if it has none; and it can be asked
utterance by utterance, because each part knows how to take one more utterance.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes


class OverTurns(nn.Module):
    """A part that looks at other utterances.

    A subclass says whether it is `causal` and how far back it reads (`past`), and implements `forward`. `step` is right for every causal
    part: it keeps the utterances in reach and reads them again. A part with a faster way (a recurrence, a cache of keys) overrides it.

    Attributes:
        causal: Whether nothing of a later utterance reaches an utterance.
        past: How many utterances back an utterance reads; `None`: all.
    """

    causal: bool = False
    past: int | None = None

    @abstractmethod
    def forward(self, nodes: Nodes, batch: Batch) -> Nodes:
        """Map `(N, S, width)` to `(N, S, any width)`."""

    def step(self, nodes: Nodes, batch: Batch, memory: Any) -> tuple[Nodes, Any]:
        """Process the next utterance of a running dialogue, in evaluation mode.

        Args:
            nodes: `(1, S, width)` the nodes of the utterance.
            batch: The utterance.
            memory: What the utterance before handed on; `None` at the first. It is not changed, so that an utterance can be taken back; or
                it has a method `forget` that takes the newest utterance back.

        Returns:
            `(1, S, any width)`, and what to hand on.
        """
        now = (nodes.states, nodes.present, batch.speaker)
        states, present, speaker = now if memory is None else (torch.cat(pair) for pair in zip(memory, now, strict=True))
        if self.past is not None and len(states) > self.past + 1:
            states, present, speaker = (value[-self.past - 1 :] for value in (states, present, speaker))
        answer = self(Nodes(states, present, nodes.streams), dialogue_of(speaker))
        return Nodes(answer.states[-1:], answer.present[-1:], answer.streams), (states, present, speaker)


class OverRows(OverTurns):
    """A part that reads every stream by itself, as packed rows."""

    @abstractmethod
    def read(self, rows: Tensor, batch: Batch) -> Tensor:
        """Map `(N, width)` to `(N, any width)`."""

    @abstractmethod
    def read_next(self, row: Tensor, batch: Batch, memory: Any) -> tuple[Tensor, Any]:
        """Process the next utterance, in evaluation mode: `(1, width)` → `(1, any width)`, and what to hand on."""

    def forward(self, nodes: Nodes, batch: Batch) -> Nodes:
        """Map `(N, S, width)` to `(N, S, any width)`; zeros are read where a node is absent."""
        return nodes.with_states(torch.stack([self.read(rows, batch) for rows in nodes.masked().unbind(1)], 1))

    def step(self, nodes: Nodes, batch: Batch, memory: Any) -> tuple[Nodes, Any]:
        """Process the next utterance of every stream."""
        memories = memory or [None] * nodes.states.shape[1]
        found = [self.read_next(row, batch, own) for row, own in zip(nodes.masked().unbind(1), memories, strict=True)]
        return nodes.with_states(torch.stack([row for row, _ in found], 1)), [own for _, own in found]


def dialogue_of(speaker: Tensor) -> Batch:
    """Return a batch of one dialogue of which nothing but the speakers is known."""
    turns = len(speaker)
    return Batch(
        ptr=torch.tensor([0, turns], device=speaker.device),
        speaker=speaker,
        target=torch.full((turns,), -1, device=speaker.device),
        judged=torch.zeros(turns, dtype=torch.bool, device=speaker.device),
        row=torch.arange(turns, device=speaker.device),
        sizes=(turns,),
    )


def over_turns(part: nn.Module, rows: Tensor, batch: Batch) -> Tensor:
    """Apply a part to one stream: `(N, width)` → `(N, any width)`."""
    return part(Nodes.of_turns(rows), batch).states[:, 0]
