"""Networks that compute one vector per utterance from sequences of steps: words and frames, or the utterances of the dialogue."""

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
    """Padded sequences of steps: the words or frames of `n` utterances, or the utterances of `n` dialogues.

    Attributes:
        states: `(n, L, width)` states of the steps, for at most `L` steps.
        present: `(n, L)` bool, presence of the steps; false for padding and for utterances without the modality.
        length: `(n,)` number of steps, present or absent, without padding.
    """

    states: Tensor
    present: Tensor
    length: Tensor

    def with_states(self, states: Tensor) -> Steps:
        """Return steps with the given states, and with the same presence and lengths."""
        return replace(self, states=states)

    def masked(self) -> Tensor:
        """Return the states, with zeros for absent steps (padding or missing modality)."""
        return torch.where(self.present[..., None], self.states, 0.0)

    @cached_property
    def place(self) -> Tensor:
        """Return the indices of the `P` present steps in the flattened `(n × L)` steps: `(P,)`."""
        return self.present.flatten().nonzero()[:, 0]

    def pad(self, rows: Tensor) -> Tensor:
        """Convert the vectors of `P` present steps to padded sequences: `(P, ...)` → `(n, L, ...)`, zero at all other steps."""
        return spread(rows, self.place, self.present.numel()).unflatten(0, self.present.shape)

    def unpad(self, padded: Tensor) -> Tensor:
        """Convert padded sequences to the vectors of `P` present steps: `(n, L, ...)` → `(P, ...)`."""
        return collect(padded.flatten(0, 1), self.place)


def last(steps: Steps) -> Tensor:
    """Return the last step of every sequence: `(n, width)`, zero for an empty sequence.

    >>> last(Steps(torch.tensor([[[1.0], [2.0], [9.0]]]), torch.tensor([[True, True, False]]), torch.tensor([2]))).tolist()
    [[2.0]]
    """
    states = F.pad(steps.masked(), (0, 0, 1, 0))  # a step of zeros in front
    return states[torch.arange(len(states), device=states.device), steps.length]


def largest(steps: Steps) -> Tensor:
    """Return the maximum of every channel over the steps: `(n, width)`, zero for an empty sequence."""
    found = steps.states.masked_fill(~steps.present[..., None], -torch.inf).amax(1)
    return torch.where(steps.present.any(1, keepdim=True), found, 0.0)


def resampled(steps: Steps, length: Tensor, longest: int) -> Tensor:
    """Resample sequence `i` to `length[i]` steps by averages over equal spans: `(n, longest, width)`, zero at padding.

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
    """Concatenate the states of two sequences, step by step.

    Sequences of words or frames are first `resampled` to the length of `one`, or to the length of `two` if `one` is empty.
    """
    if one.length is not two.length:
        length, longest = torch.where(one.length > 0, one.length, two.length), max(one.states.shape[1], two.states.shape[1])
        present = torch.arange(longest, device=length.device) < length[:, None]
        one, two = (Steps(resampled(part, length, longest), present, length) for part in (one, two))
    return Steps(torch.cat([one.masked(), two.masked()], -1), one.present | two.present, one.length)


class LSTMSteps(nn.Module):
    """An LSTM over steps, forward or bidirectional; the input is zero at padding and where the modality is missing.

    Args:
        inputs: Width of the input states.
        width: Width of the output states: all directions, concatenated.
        bidirectional: Whether a second LSTM processes each sequence backwards, from its last step.
    """

    def __init__(self, inputs: int, width: int, *, bidirectional: bool = False) -> None:
        super().__init__()
        count = 1 + bidirectional
        self.nets = nn.ModuleList(nn.LSTM(inputs, width // count, batch_first=True) for _ in range(count))

    def forward(self, steps: Steps) -> Steps:
        """Encode steps: `(n, L, inputs)` → `(n, L, width)`."""
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
        inputs: Modality → width of its states.
        widths: Widths of the output sequences, in order.
        pools: For each output sequence, the function that pools the sequence to one vector per utterance; not used if the steps are
            utterances.
        causal: Whether the output at a step never depends on later steps, if all sequences have the same length.
    """

    inputs: Mapping[str, int]
    widths: Sequence[int]
    pools: Sequence[Callable[[Steps], Tensor]]
    causal: bool

    @abstractmethod
    def forward(self, steps: Mapping[str, Steps]) -> Sequence[Steps]:
        """Compute one or more output sequences from the steps of every modality."""


class OfTurns(OverTurns):
    """Wrapper that applies a `StepNet` (a network over sequences) to the utterances of a dialogue.

    Args:
        net: The network; its input is one sequence of utterances per modality.
    """

    def __init__(self, net: StepNet) -> None:
        super().__init__()
        self.net, self.causal = net, net.causal

    def forward(self, nodes: Nodes, batch: Batch) -> Nodes:
        """Apply the network to all dialogues: `(N, S, largest width)` → `(N, 1, sum of the output widths)`, zero for missing modalities."""
        states, present, inputs = batch.pad(nodes.masked()), batch.pad(nodes.present), self.net.inputs
        steps = {m: Steps(states[:, :, i, : inputs[m]], present[:, :, i], batch.lengths) for i, m in enumerate(nodes.streams)}
        rows = batch.unpad(torch.cat([found.masked() for found in self.net(steps)], -1))
        return Nodes.of_turns(rows, nodes.present.any(1))


class ReadSteps(nn.Module):
    """An encoder that computes one vector per utterance with a `StepNet` (a network over sequences of several modalities).

    If at least one modality has a sequence per utterance, the steps are the words or frames of the utterance. A modality with a single
    vector then has one step. If all modalities have a single vector per utterance, the steps are the utterances of the dialogue.

    Args:
        widths: Modality with one vector per utterance → width of the vector.
        items: Modality with a sequence per utterance → shape of one item of the sequence (word vector, frame, sample or image).
        build: Function that builds the network from a mapping: modality → width of its states, text first.

    Attributes:
        names: The modalities, text first.
        width: Width of the output vector.
    """

    def __init__(self, widths: Mapping[str, int], items: Mapping[str, tuple[int, ...]], build: Callable[[dict[str, int]], StepNet]) -> None:
        super().__init__()
        self.front = FrontEnds(items)
        self.names = tuple(sorted((*widths, *items), key=lambda m: (m != "text", m)))
        net = build({m: int(self.front[m].width) if m in items else widths[m] for m in self.names})  # type: ignore[arg-type]
        self.net: Any = net if items else OfTurns(net)
        self.width, self.pools = sum(net.widths), net.pools

    def forward(self, values: Mapping[str, Tensor], present: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """Return one vector per utterance: `(N, width)`, zero for an utterance without any modality.

        Args:
            values: Modality with one vector per utterance → vectors `(N, width of the modality)`.
            present: Modality → `(N,)` bool, whether the utterance has the modality.
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
        """Encode `n` utterances as `(n, width)`; `padded` maps each modality to padded sequences `(n, L, *item)` and mask `(n, L)` bool."""
        steps = {}
        for m, (items, mask) in padded.items():
            states, mask = self.front[m](items, mask) if m in self.front else (items, mask)
            none = int(not mask.shape[1])  # where nobody has the modality: a step that is absent
            steps[m] = Steps(F.pad(states, (0, 0, 0, none)), F.pad(mask, (0, none)), mask.sum(1))
        return torch.cat([pool(found) for pool, found in zip(self.pools, self.net(steps), strict=True)], -1)
