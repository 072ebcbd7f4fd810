"""The recurrence of a memory fusion network: LSTMs side by side, and a memory of how their states change (Zadeh et al., AAAI 2018).

Steps are words of an utterance, or utterances of a dialogue. The equations are those of `erc_graph.methods.mfn`.
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
    """LSTMs of several modalities, attention over two steps of their cells, and a gated memory.

    A modality that is missing at a step keeps its state, and its cell counts only as that of a step before, if there was one.

    Args:
        inputs: Modality → width of the input.
        widths: Modality → width of its LSTM.
        memory: Width of the memory.
        hidden: Hidden width of each of `NETS`.
        dropout: Dropout in these networks.

    Attributes:
        width: Width of all LSTMs and the memory side by side.
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
        """Compute the part of the gates that does not depend on states: modality → `(..., inputs)` to `(..., modalities, 4 × largest
        width)`.
        """
        most, rows = max(self.widths), []
        for name, cell in self._cells():
            own = F.linear(values[name], cell.weight_ih, cell.bias_ih + cell.bias_hh)
            rows.append(F.pad(own, (0, 4 * most - own.shape[-1])))
        return torch.stack(rows, -2)

    def forward(self, gates: Tensor, there: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Process all steps.

        Args:
            gates: `(n, T, modalities, ·)`
            there: `(n, T, modalities)` bool.
            state: Of the steps before, if there were any.

        Returns:
            `(n, T, width)`, and the state after the last step.
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
        """Compute the state at the last step of every sequence: modality → `(n, T, inputs)` and `(n, T, modalities)` bool, to `(n,
        width)`.
        """
        states, _ = self(self.gates(values), there)
        return states[torch.arange(len(states), device=states.device), there.any(-1).sum(1) - 1]

    def _memories(self, attended: Tensor, fresh: Tensor, any_there: Tensor, u: Tensor) -> Tensor:
        """Eqs. (5), (6): `(n, T, memory)`; both gates are one product per step."""
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
    """The same recurrence over the utterances of a dialogue; what goes in are the gates of the modalities, as streams."""

    causal = True

    def __init__(self, memory: GatedMemory) -> None:
        super().__init__()
        self.memory = memory

    def forward(self, nodes: Nodes, batch: Batch) -> Nodes:
        """Map `(N, modalities, ·)` to `(N, 1, width)`."""
        states, _ = self.memory(batch.pad(nodes.masked()), batch.pad(nodes.present))
        return Nodes.of_turns(batch.unpad(states), nodes.present.any(1))

    def step(self, nodes: Nodes, batch: Batch, memory: Any) -> tuple[Nodes, Any]:
        """Process the next utterance."""
        states, state = self.memory(nodes.masked()[:, None], nodes.present[:, None], memory)
        return Nodes.of_turns(states[:, 0], nodes.present.any(1)), state
