"""The recurrence of a memory fusion network (Zadeh et al., AAAI 2018): one LSTM per modality, and a memory of changes in LSTM cells.

A step is a word of an utterance, or an utterance of a dialogue. The equations are in `erc_graph.methods.mfn`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.encoders.dropout import Dropout
from erc_graph.encoders.turns import OverTurns

NETS = ("attention", "candidate", "keep", "take")
State = tuple[Tensor, Tensor, Tensor, Tensor]  # h, c, u, and which modalities have been there


class GatedMemory(nn.Module):
    """One LSTM per modality, attention over the LSTM cells of two consecutive steps, and a gated memory.

    If a modality is missing at a step, the state of its LSTM does not change. The attention then ignores the LSTM cell of this step. The
    attention still uses the cell of the preceding step, if the modality was present at any earlier step.

    Args:
        inputs: Modality → width of its input.
        widths: Modality → width of its LSTM.
        memory: Width of the memory.
        hidden: Name of a feed-forward network (`attention`, `candidate`, `keep` or `take`) → its hidden width.
        dropout: Dropout rate in the four feed-forward networks.

    Attributes:
        width: Width of the output: the states of all LSTMs and the memory, concatenated.
    """

    def __init__(
        self, inputs: Mapping[str, int], widths: Mapping[str, int], memory: int, hidden: Mapping[str, int], dropout: float
    ) -> None:
        super().__init__()
        self.names, self.widths, self.memory = tuple(inputs), [widths[name] for name in inputs], memory
        self.cells = nn.ModuleDict({name: nn.LSTMCell(inputs[name], widths[name]) for name in inputs})
        both = 2 * sum(self.widths)
        shapes = {"attention": (both, both), "candidate": (both, memory), "keep": (both + memory, memory), "take": (both + memory, memory)}
        self.nets = nn.ModuleDict(
            {
                name: nn.Sequential(nn.Linear(start, hidden[name]), nn.ReLU(), Dropout(dropout), nn.Linear(hidden[name], end))
                for name, (start, end) in shapes.items()
            }
        )
        self.width = sum(self.widths) + memory

    def _cells(self) -> list[tuple[str, nn.LSTMCell]]:
        return list(self.cells.items())  # type: ignore[arg-type]

    def gates(self, values: Mapping[str, Tensor]) -> Tensor:
        """Compute the terms of the gates that depend only on the input, for all steps at once.

        The input is a mapping, modality → `(..., inputs)`; the output is `(..., modalities, 4 × largest LSTM width)`.
        """
        most, rows = max(self.widths), []
        for name, cell in self._cells():
            own = F.linear(values[name], cell.weight_ih, cell.bias_ih + cell.bias_hh)
            rows.append(F.pad(own, (0, 4 * most - own.shape[-1])))
        return torch.stack(rows, -2)

    def forward(self, gates: Tensor, there: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Process all steps of `n` sequences.

        Args:
            gates: `(n, T, modalities, 4 × largest LSTM width)`, output of the method `gates` for `T` steps.
            there: `(n, T, modalities)` bool, presence of each modality at each step.
            state: State after the preceding steps; `None` at the start of a sequence.

        Returns:
            The output `(n, T, width)`, and the state after the last step.
        """
        count, size = torch.tensor(self.widths, device=there.device), sum(self.widths)
        on = there.repeat_interleave(count, -1, output_size=size)
        zeros = gates.new_zeros(len(gates), size)
        h, c, u, before = state or (zeros, zeros, gates.new_zeros(len(gates), self.memory), torch.zeros_like(there[:, 0]))
        first, cells, outputs = c, [], []
        parts = [cell.weight_hh.chunk(4) for _, cell in self._cells()]
        weight = torch.cat([torch.block_diag(*(part[gate] for part in parts)) for gate in range(4)]).T
        columns = [gates[..., i, gate * w : (gate + 1) * w] for gate in range(4) for i, w in enumerate(self.widths)]
        for x, run in zip(torch.cat(columns, -1).unbind(1), on.unbind(1), strict=True):  # Eq. (1)
            raw = torch.addmm(x, h, weight)
            enter, forget, _, leave = raw.sigmoid().chunk(4, -1)
            fresh = forget * c + enter * raw[:, 2 * size : 3 * size].tanh()
            h, c = torch.where(run, leave * fresh.tanh(), h), torch.where(run, fresh, c)
            cells.append(c)
            outputs.append(h)
        now = torch.stack(cells, 1)
        star = torch.cat([torch.cat([first[:, None], now[:, :-1]], 1), now], -1)  # Eq. (2), (n, T, 2 D)
        heard = (there.cumsum(1) > 0) | before[:, None]
        known = torch.cat([heard.repeat_interleave(count, -1, output_size=size), on], -1)
        attended = torch.where(known, torch.where(known, self.nets["attention"](star), -1e4).softmax(-1) * star, 0.0)  # Eq. (3)
        fresh = self.nets["candidate"](attended).tanh()  # Eq. (4)
        memories = self._memories(attended, fresh, there.any(-1, keepdim=True), u)
        return torch.cat([torch.stack(outputs, 1), memories], -1), (h, c, memories[:, -1], heard[:, -1])

    def last(self, values: Mapping[str, Tensor], there: Tensor) -> Tensor:
        """Compute the output at the last step of every sequence, `(n, width)`.

        Args:
            values: Modality → `(n, T, inputs)`, padded sequences of at most `T` steps.
            there: `(n, T, modalities)` bool, presence of each modality at each step.
        """
        states, _ = self(self.gates(values), there)
        return states[torch.arange(len(states), device=states.device), there.any(-1).sum(1) - 1]

    def _memories(self, attended: Tensor, fresh: Tensor, any_there: Tensor, u: Tensor) -> Tensor:
        """Compute the memory after every step, `(n, T, memory)`, with Equations (5) and (6) of `erc_graph.methods.mfn`."""
        keep, take = (cast(Any, self.nets[net]) for net in ("keep", "take"))
        both, memories = attended.shape[-1], []
        weight, bias = torch.cat([keep[0].weight, take[0].weight]), torch.cat([keep[0].bias, take[0].bias])
        second, second_bias = torch.block_diag(keep[3].weight, take[3].weight).T, torch.cat([keep[3].bias, take[3].bias])
        of_state, open_ = weight[:, both:].T, F.linear(attended, weight[:, :both], bias)
        for gate, new, there in zip(open_.unbind(1), fresh.unbind(1), any_there.unbind(1), strict=True):
            hidden = keep[2](torch.addmm(gate, u, of_state).relu())
            kept, taken = torch.addmm(second_bias, hidden, second).sigmoid().chunk(2, -1)  # Eq. (5)
            u = torch.where(there, kept * u + taken * new, u)  # Eq. (6)
            memories.append(u)
        return torch.stack(memories, 1)


class OverDialogue(OverTurns):
    """The recurrence of a memory fusion network (`GatedMemory`) over a dialogue. The input is the output of `GatedMemory.gates`."""

    causal = True

    def __init__(self, memory: GatedMemory) -> None:
        super().__init__()
        self.memory = memory

    def forward(self, nodes: Nodes, batch: Batch) -> Nodes:
        """Apply the recurrence to all dialogues: outputs of `GatedMemory.gates` `(N, modalities, any width)` → `(N, 1, width)`."""
        states, _ = self.memory(batch.pad(nodes.masked()), batch.pad(nodes.present))
        return Nodes.of_turns(batch.unpad(states), nodes.present.any(1))

    def step(self, nodes: Nodes, batch: Batch, memory: Any) -> tuple[Nodes, Any]:
        """Process the next utterance of a live dialogue."""
        states, state = self.memory(nodes.masked()[:, None], nodes.present[:, None], memory)
        return Nodes.of_turns(states[:, 0], nodes.present.any(1)), state
