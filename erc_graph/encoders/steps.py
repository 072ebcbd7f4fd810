"""One vector per utterance from a network over sequences: words and frames, or (without them) the utterances of the dialogue."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from erc_graph.data.batch import Batch, collect, spread
from erc_graph.data.nodes import Nodes
from erc_graph.data.ragged import Ragged
from erc_graph.encoders.frontend import FrontEnds
from erc_graph.encoders.sequences import encode_together
from erc_graph.encoders.turns import OverTurns

TOKENS = 4096  # most steps that are encoded at once


@dataclass(frozen=True)
class Steps:
    """Padded sequences: the words or frames of some utterances, or the utterances of some dialogues.

    Attributes:
        states: `(n, L, width)`.
        present: `(n, L)` bool; an utterance may lack a modality, what is padded lacks all.
        length: `(n,)` steps, present or not.
    """

    states: Tensor
    present: Tensor
    length: Tensor

    def with_states(self, states: Tensor) -> Steps:
        """Return the same steps with other states."""
        return replace(self, states=states)

    def masked(self) -> Tensor:
        """Return the states, zero where a step is absent."""
        return torch.where(self.present[..., None], self.states, 0.0)

    @cached_property
    def place(self) -> Tensor:
        """Find the steps that are present, counted through: `(P,)`."""
        return self.present.flatten().nonzero()[:, 0]

    def pad(self, rows: Tensor) -> Tensor:
        """Pad one row per step that is present, `(P, ...)`, to `(n, L, ...)`, zero where a step is absent."""
        return spread(rows, self.place, self.present.numel()).unflatten(0, self.present.shape)

    def unpad(self, padded: Tensor) -> Tensor:
        """Pack `(n, L, ...)` into one row per step that is present."""
        return collect(padded.flatten(0, 1), self.place)


def last(steps: Steps) -> Tensor:
    """Return the last step of every sequence: `(n, width)`, zero if there is none.

    >>> last(Steps(torch.tensor([[[1.0], [2.0], [9.0]]]), torch.tensor([[True, True, False]]), torch.tensor([2]))).tolist()
    [[2.0]]
    """
    states = F.pad(steps.masked(), (0, 0, 1, 0))  # a step of zeros in front
    return states[torch.arange(len(states), device=states.device), steps.length]


def largest(steps: Steps) -> Tensor:
    """Return the maximum of every channel over the steps: `(n, width)`, zero if there is none."""
    found = steps.states.masked_fill(~steps.present[..., None], -torch.inf).amax(1)
    return torch.where(steps.present.any(1, keepdim=True), found, 0.0)


def resampled(steps: Steps, length: Tensor, longest: int) -> Tensor:
    """Average every sequence over equal spans, as many as `length` `(n,)` says: `(n, longest, width)`, zero after the end.

    >>> three = Steps(torch.tensor([[[1.0], [2.0], [6.0]]]), torch.ones(1, 3, dtype=torch.bool), torch.tensor([3]))
    >>> resampled(three, torch.tensor([1]), 1).tolist()
    [[[3.0]]]
    """
    x, into = steps.masked(), length.clamp(min=1)[:, None].to(steps.states.dtype)
    own = steps.length.clamp(min=1)[:, None].to(x.dtype)
    to, of = (torch.arange(count, device=x.device) / scale for count, scale in ((longest, into), (x.shape[1], own)))  # (n, L), (n, T)
    begin, end = torch.maximum(to[..., None], of[:, None]), torch.minimum((to + 1 / into)[..., None], (of + 1 / own)[:, None])
    return ((end - begin).clamp(min=0) * into[..., None]) @ x


def beside(one: Steps, two: Steps) -> Steps:
    """Concatenate two sequences, both of utterances, or (`resampled`) at the length of the first, of the second where the first has no
    steps.
    """
    if one.length is not two.length:
        length, longest = torch.where(one.length > 0, one.length, two.length), max(one.states.shape[1], two.states.shape[1])
        present = torch.arange(longest, device=length.device) < length[:, None]
        one, two = (Steps(resampled(part, length, longest), present, length) for part in (one, two))
    return Steps(torch.cat([one.masked(), two.masked()], -1), one.present | two.present, one.length)


class LSTMSteps(nn.Module):
    """An LSTM over steps, forward or in both directions; absent steps are read as zeros.

    Args:
        inputs: Width of the input steps.
        width: Width of those that come out, both directions together.
        bidirectional: Whether each sequence is also read backwards from its own last step.
    """

    def __init__(self, inputs: int, width: int, *, bidirectional: bool = False) -> None:
        super().__init__()
        count = 1 + bidirectional
        self.nets = nn.ModuleList(nn.LSTM(inputs, width // count, batch_first=True) for _ in range(count))

    def forward(self, steps: Steps) -> Steps:
        """Map `(n, L, inputs)` to `(n, L, width)`."""
        x, place = steps.masked(), torch.arange(steps.states.shape[1], device=steps.states.device)
        turned = steps.length[:, None] - 1 - place
        order = torch.where(turned >= 0, turned, place)[..., None]  # back and forth: its own inverse
        found = [self.nets[0](x)[0]]
        for net in self.nets[1:]:
            states, _ = net(x.gather(1, order.expand_as(x)))
            found.append(states.gather(1, order.expand_as(states)))
        return steps.with_states(torch.cat(found, -1))


class StepNet(nn.Module):
    """Base class of a network over the sequences of several modalities.

    Attributes:
        inputs: Modality → width of its steps.
        widths: Width of the output, in order.
        pools: For each of these, what makes a vector of the steps of an utterance. Where utterances are the steps, its own step is read.
        causal: Whether no step reads a later one, where all sequences are of one length.
    """

    inputs: Mapping[str, int]
    widths: Sequence[int]
    pools: Sequence[Callable[[Steps], Tensor]]
    causal: bool

    @abstractmethod
    def forward(self, steps: Mapping[str, Steps]) -> Sequence[Steps]:
        """Map modality → steps to one or more sequences of states."""


class OfTurns(OverTurns):
    """A network over sequences whose steps are the utterances of a dialogue.

    Args:
        net: The network; it reads one sequence per stream.
    """

    def __init__(self, net: StepNet) -> None:
        super().__init__()
        self.net, self.causal = net, net.causal

    def forward(self, nodes: Nodes, batch: Batch) -> Nodes:
        """Map `(N, S, width)`, of which each stream uses its own width, to `(N, 1, sum of the net's widths)`; zero for absent states."""
        states, present, inputs = batch.pad(nodes.masked()), batch.pad(nodes.present), self.net.inputs
        steps = {m: Steps(states[:, :, i, : inputs[m]], present[:, :, i], batch.lengths) for i, m in enumerate(nodes.streams)}
        rows = batch.unpad(torch.cat([found.masked() for found in self.net(steps)], -1))
        return Nodes.of_turns(rows, nodes.present.any(1))


class ReadSteps(nn.Module):
    """One vector per utterance, from its sequences if any modality has sequences, else from the dialogue.

    Beside sequences a modality of vectors is a sequence of one step.

    Args:
        widths: Modality → width of its vectors.
        items: Modality that is a sequence → shape of one item.
        build: From modality → width of its steps, text first, to the network.

    Attributes:
        names: The modalities, in that order.
        width: Width of the output.
    """

    def __init__(self, widths: Mapping[str, int], items: Mapping[str, tuple[int, ...]], build: Callable[[dict[str, int]], StepNet]) -> None:
        super().__init__()
        self.front = FrontEnds(items)
        self.names = tuple(sorted((*widths, *items), key=lambda m: (m != "text", m)))
        net = build({m: int(self.front[m].width) if m in items else widths[m] for m in self.names})  # type: ignore[arg-type]
        self.net: Any = net if items else OfTurns(net)
        self.width, self.pools = sum(net.widths), net.pools

    def forward(self, values: Mapping[str, Tensor], present: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """Return `(N, width)`; zero where a modality is missing.

        Args:
            values: Modality → `(N, its width)`, of those that are vectors.
            present: Modality → `(N,)` bool.
            batch: The dialogues, with the sequences.
        """
        if not len(self.front):
            most = max(rows.shape[1] for rows in values.values())
            states = torch.stack([F.pad(values[m], (0, most - values[m].shape[1])) for m in self.names], 1)
            here = torch.stack([present[m] for m in self.names], 1)
            return self.net(Nodes(states, here, self.names), batch).states[:, 0]
        sequences = self.front.prepared(batch).sequences
        steps = {m: sequences[m] if m in self.front else Ragged.of_rows(values[m], present[m]) for m in self.names}
        return encode_together(self.read, steps, self.width, TOKENS)

    def read(self, padded: Mapping[str, tuple[Tensor, Tensor]]) -> Tensor:
        """Process some utterances: modality → `(n, L, *item)` and `(n, L)` bool, to `(n, width)`."""
        steps = {}
        for m, (items, mask) in padded.items():
            states, mask = self.front[m](items, mask) if m in self.front else (items, mask)
            none = int(not mask.shape[1])  # where nobody has the modality: a step that is absent
            steps[m] = Steps(F.pad(states, (0, 0, 0, none)), F.pad(mask, (0, none)), mask.sum(1))
        return torch.cat([pool(found) for pool, found in zip(self.pools, self.net(steps), strict=True)], -1)
