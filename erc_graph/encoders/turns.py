"""`OverTurns`, the base class of all modules whose output for an utterance depends on other utterances.

In any other module of a method, the output for an utterance must not depend on other utterances. A method is causal if all its `OverTurns`
modules are causal. A method without `OverTurns` modules can label single utterances. A causal method can label a live conversation, because
the method `step` of each `OverTurns` module processes the next utterance.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes


class OverTurns(nn.Module):
    """Base class of a module whose output for an utterance depends on other utterances.

    A subclass sets `causal` and `past`, and implements `forward`. The default `step` is correct for every causal module: it stores the
    last `past` utterances and processes them again. A subclass with a faster algorithm, such as a recurrence, overrides `step`.

    Attributes:
        causal: Whether the output for an utterance never depends on later utterances.
        past: Number of preceding utterances that the output for an utterance depends on; `None`: all preceding utterances.
    """

    causal: bool = False
    past: int | None = None

    @abstractmethod
    def forward(self, nodes: Nodes, batch: Batch) -> Nodes:
        """Process all dialogues of a batch: node states `(N, S, width)` → `(N, S, any width)`."""

    def step(self, nodes: Nodes, batch: Batch, memory: Any) -> tuple[Nodes, Any]:
        """Process the next utterance of a live dialogue, in evaluation mode.

        Args:
            nodes: `(1, S, width)` nodes of the utterance.
            batch: A batch that contains only this utterance.
            memory: The memory returned for the preceding utterance; `None` for the first utterance. To allow undo (removal of the newest
                utterance), `step` must not change this memory; otherwise, the memory needs a method `forget`, which removes this utterance.

        Returns:
            The nodes `(1, S, any width)`, and the memory for the next utterance.
        """
        now = (nodes.states, nodes.present, batch.speaker)
        states, present, speaker = now if memory is None else (torch.cat(pair) for pair in zip(memory, now, strict=True))
        if self.past is not None and len(states) > self.past + 1:
            states, present, speaker = (value[-self.past - 1 :] for value in (states, present, speaker))
        answer = self(Nodes(states, present, nodes.streams), dialogue_of(speaker))
        return Nodes(answer.states[-1:], answer.present[-1:], answer.streams), (states, present, speaker)


class OverRows(OverTurns):
    """Base class of a module over dialogues (`OverTurns`) that processes every stream (for example, modality) separately."""

    @abstractmethod
    def read(self, rows: Tensor, batch: Batch) -> Tensor:
        """Process one stream (for example, one modality) of all dialogues: `(N, width)` → `(N, any width)`."""

    @abstractmethod
    def read_next(self, row: Tensor, batch: Batch, memory: Any) -> tuple[Tensor, Any]:
        """Process the next utterance in evaluation mode; return its output `(1, any width)`, and the memory for the following utterance."""

    def forward(self, nodes: Nodes, batch: Batch) -> Nodes:
        """Process all `S` streams: node states `(N, S, width)` → `(N, S, any width)`. The input of a missing modality is zero."""
        return nodes.with_states(torch.stack([self.read(rows, batch) for rows in nodes.masked().unbind(1)], 1))

    def step(self, nodes: Nodes, batch: Batch, memory: Any) -> tuple[Nodes, Any]:
        """Process the next utterance of a live dialogue in every stream (for example, modality)."""
        memories = memory or [None] * nodes.states.shape[1]
        found = [self.read_next(row, batch, own) for row, own in zip(nodes.masked().unbind(1), memories, strict=True)]
        return nodes.with_states(torch.stack([row for row, _ in found], 1)), [own for _, own in found]


def dialogue_of(speaker: Tensor) -> Batch:
    """Return a batch of one dialogue with the given speakers, without labels and features."""
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
    """Apply a module over dialogues (`OverTurns`) to one vector per utterance: `(N, width)` → `(N, any width)`."""
    return part(Nodes.of_turns(rows), batch).states[:, 0]
