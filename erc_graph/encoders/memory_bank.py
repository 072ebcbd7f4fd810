"""A memory of the utterances before an utterance: chains of GRUs over them, and attention over the states of the GRUs.

An utterance reads at most `window` earlier utterances of its dialogue, divided into those of its own speaker and those of all others. A
chain begins at the edge of a window and belongs to a speaker. Utterances of one speaker whose windows begin at the same utterance share a
chain.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from erc_graph.data.batch import Batch

HOLD = 1e4  # in front of a sigmoid: exactly one, so that a state stays as it is


@dataclass(frozen=True, eq=False)
class TurnChains:
    """The chains of a batch, `C` of them with `T` steps, and which steps an utterance reads.

    Attributes:
        rows: `(T, C)` row of the batch at every step.
        here: `(T, C)` bool: there is an utterance to read.
        sides: `(2, T, C)` bool: it is the own speaker's, it is another's.
        chain: `(N,)` chain of every utterance.
        heard: `(N, T)` bool: steps that an utterance reads, its chain's utterances before it.
    """

    rows: Tensor
    here: Tensor
    sides: Tensor
    chain: Tensor
    heard: Tensor

    @classmethod
    def of(cls, batch: Batch, present: Tensor, window: int | None) -> TurnChains:
        """Find the chains.

        Args:
            batch: The dialogues.
            present: `(N,)` bool; an absent utterance is in nobody's history.
            window: Most utterances that are read; `None`: all.
        """
        span = batch.turn if window is None else batch.turn.clamp(max=window)
        first = torch.arange(batch.utterances, device=batch.device) - span
        steps = torch.arange(max(1, min(batch.longest - 1, window or batch.longest)), device=batch.device)
        keys, chain = torch.unique(first * batch.longest + batch.speaker, return_inverse=True)
        start, speaker = keys // batch.longest, keys % batch.longest
        rows = start + steps[:, None]
        inside = rows < batch.utterances
        rows = rows.clamp(max=batch.utterances - 1)
        here = inside & (batch.dialogue[rows] == batch.dialogue[start]) & present[rows]
        same = batch.speaker[rows] == speaker
        return cls(rows, here, here & torch.stack([same, ~same]), chain, (steps < span[:, None]) & here.T[chain])

    def of_turns(self, steps: Tensor) -> Tensor:
        """Map `(k, T, C, ...)` to what every utterance's chain holds: `(k, N, T, ...)`."""
        return steps.transpose(1, 2).index_select(1, self.chain)

    def of_sides(self, nets: ChainedGRU, rows: Tensor) -> Tensor:
        """Apply one GRU per side: `(N, inputs)` → `(2, T, C, width)`, zero while the other side speaks."""
        return torch.where(self.sides[..., None], nets(nets.before(rows)[:, self.rows], self.sides), 0.0)


class ChainedGRU(nn.Module):
    r"""GRUs side by side with the reset gate before the matrix product, as in TensorFlow; at a step without input the state is kept.

    .. math:: r, z = \sigma(W_g [x ; h] + b_g) \quad n = \tanh(W_n [x ; r \odot h] + b_n) \quad h' = z \odot h + (1 - z) \odot n

    Args:
        count: Number of networks.
        inputs: Width of the input.
        width: Width of the states.
    """

    def __init__(self, count: int, inputs: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.inputs = nn.Parameter(torch.empty(count, inputs, 3 * width))  # r, z, n
        self.gates, self.new = (nn.Parameter(torch.empty(count, width, times * width)) for times in (2, 1))
        self.bias = nn.Parameter(torch.ones(count, 1, 3 * width))
        nn.init.zeros_(self.bias[..., 2 * width :])
        for weight, outputs in ((self.inputs, 2 * width), (self.gates, 2 * width), (self.new, width)):
            bound = (6 / (inputs + width + outputs)) ** 0.5
            nn.init.uniform_(weight, -bound, bound)

    def before(self, rows: Tensor) -> Tensor:
        """Compute the part of the gates that does not depend on states: `(N, inputs)` or `(count, N, inputs)` → `(count, N, 3 width)`."""
        return rows @ self.inputs + self.bias

    def forward(self, before: Tensor, on: Tensor) -> Tensor:
        """Compute the state after every step: `(count, T, C, 3 width)` and `(count, T, C)` bool → `(count, T, C, width)`."""
        reset, update, new = before.chunk(3, -1)
        gates = torch.cat([reset, torch.where(on[..., None], update, HOLD)], -1)
        state, states = new.new_zeros(new.shape[0], *new.shape[2:]), []
        for gate, candidate in zip(gates.unbind(1), new.unbind(1), strict=True):
            reset, update = torch.baddbmm(gate, state, self.gates).sigmoid().chunk(2, -1)
            fresh = torch.baddbmm(candidate, reset * state, self.new).tanh()
            state = torch.lerp(fresh, state, update)
            states.append(state)
        return torch.stack(states, 1)

    def over(self, steps: Tensor, on: Tensor) -> Tensor:
        """Apply `before` and `forward` to `(count, T, C, inputs)`."""
        return self(self.before(steps.flatten(1, 2)).unflatten(1, steps.shape[1:3]), on)


def bounded_attention(query: Tensor, memory: Tensor, heard: Tensor) -> Tensor:
    """Compute the softmax of `tanh(query · memory)`; the bound keeps every weight within a factor of `e²` of every other.

    Args:
        query: `(N, width)`
        memory: `(k, N, T, width)`
        heard: `(k, N, T)` bool.

    Returns:
        `(k, N, T)`, zero where nothing is read.
    """
    scores = (memory @ query[:, :, None])[..., 0].tanh()
    return torch.where(heard, torch.where(heard, scores, -HOLD).softmax(-1), 0.0)


def recalled(weights: Tensor, memory: Tensor) -> Tensor:
    """Compute the sum over all memories and steps: `(k, N, T)`, `(k, N, T, width)` → `(N, width)`."""
    return (weights[:, :, None] @ memory)[:, :, 0].sum(0)
