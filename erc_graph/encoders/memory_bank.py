"""A memory of preceding utterances: GRUs over the utterances of a window, and attention over the states of the GRUs.

The window of an utterance consists of at most `window` preceding utterances of its dialogue. One GRU processes the utterances of the same
speaker in the window. A second GRU processes the utterances of other speakers. The states of both GRUs depend on the first utterance of the
window and on the speaker. A chain is the sequence of steps of both GRUs for one first utterance and one speaker. Utterances of one speaker
whose windows begin at the same utterance share a chain.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from erc_graph.data.batch import Batch

HOLD = 1e4  # in front of a sigmoid: exactly one, so that a state stays as it is


@dataclass(frozen=True, eq=False)
class TurnChains:
    """The `C` chains (sequences of GRU steps) of a batch, with `T` steps each; `erc_graph.encoders.memory_bank` defines chains.

    Attributes:
        rows: `(T, C)` index in the batch of the utterance of every step.
        here: `(T, C)` bool, whether the step has an utterance that is present (not padding, and not without features).
        sides: `(2, T, C)` bool, whether the utterance is by the speaker of the chain (index 0) or by another speaker (index 1).
        chain: `(N,)` index of the chain of every utterance.
        heard: `(N, T)` bool, the steps in the chain of an utterance that are present utterances of its window.
    """

    rows: Tensor
    here: Tensor
    sides: Tensor
    chain: Tensor
    heard: Tensor

    @classmethod
    def of(cls, batch: Batch, present: Tensor, window: int | None) -> TurnChains:
        """Compute the chains of a batch.

        Args:
            batch: The dialogues.
            present: `(N,)` bool, false for utterances that are left out of all windows.
            window: Largest number of preceding utterances in a window; `None`: all preceding utterances.
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
        """Return the values of the chain of every utterance: values `(k, T, C, ...)` of all chains → `(k, N, T, ...)`, for any `k`."""
        return steps.transpose(1, 2).index_select(1, self.chain)

    def of_sides(self, nets: ChainedGRU, rows: Tensor) -> Tensor:
        """Apply the first GRU to utterances by the speaker of the chain, and the second GRU to utterances by other speakers.

        The input `rows` is `(N, inputs)`, and the output is `(2, T, C, width)`. The output is zero at steps that the GRU does not process.
        """
        return torch.where(self.sides[..., None], nets(nets.before(rows)[:, self.rows], self.sides), 0.0)


class ChainedGRU(nn.Module):
    r"""Several GRUs that apply the reset gate before the matrix product, as in TensorFlow. Input `x` and state `h` give state `h'`:

    .. math:: r, z = \sigma(W_g [x ; h] + b_g) \quad n = \tanh(W_n [x ; r \odot h] + b_n) \quad h' = z \odot h + (1 - z) \odot n

    Args:
        count: Number of GRUs.
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
        """Compute the terms of the gates that depend only on the input: `(N, inputs)` or `(count, N, inputs)` → `(count, N, 3 width)`."""
        return rows @ self.inputs + self.bias

    def forward(self, before: Tensor, on: Tensor) -> Tensor:
        """Compute the state after every step from the output of `before`: `(count, T, C, 3 width)` → `(count, T, C, width)`.

        There are `C` sequences of `T` steps. At steps where `on`, `(count, T, C)` bool, is false, the state does not change.
        """
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
        """Apply `before` and `forward`: `(count, T, C, inputs)` → `(count, T, C, width)`."""
        return self(self.before(steps.flatten(1, 2)).unflatten(1, steps.shape[1:3]), on)


def bounded_attention(query: Tensor, memory: Tensor, heard: Tensor) -> Tensor:
    """Compute the softmax of `tanh(query · memory)`; because of the tanh, two weights differ at most by the factor `e²`.

    Args:
        query: `(N, width)` query of every utterance.
        memory: `(k, N, T, width)` keys of every utterance, from `k` memories of `T` steps.
        heard: `(k, N, T)` bool, the keys that an utterance attends to.

    Returns:
        `(k, N, T)` attention weights, zero for keys that are not attended to.
    """
    scores = (memory @ query[:, :, None])[..., 0].tanh()
    return torch.where(heard, torch.where(heard, scores, -HOLD).softmax(-1), 0.0)


def recalled(weights: Tensor, memory: Tensor) -> Tensor:
    """Compute the weighted sum over all steps of `k` memories: weights `(k, N, T)`, memories `(k, N, T, width)` → `(N, width)`."""
    return (weights[:, :, None] @ memory)[:, :, 0].sum(0)
