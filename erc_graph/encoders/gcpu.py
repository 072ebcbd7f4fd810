r"""Gated context perception unit: a recurrence with two inputs per step, the step's own state and its context (MFDR, Eqs. (1)-(6)).

Everything that does not depend on the preceding step is computed before the loop: the products with both inputs, for all steps at once. A
step then has three products; a GRU has one. (A hand-written backward pass, as in `erc_graph.encoders.gru`, was only a tenth faster and was
not kept.)
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from erc_graph.encoders.self_attention import FrameAttention

Cell = Literal["gcpu", "mgru", "gru"]


class ContextPerception(nn.Module):
    """A recurrent state per item that also reads the whole sequence.

    Args:
        inputs: Width of the input items.
        width: Width of the output states.
        cell: `gcpu`, or what the paper compares it with: `mgru`, whose update gate is complementary, or `gru`, which has no second input.
        context: Whether the second input is multi-head attention over the sequence; off: the item itself.
        heads: Number of heads of that attention.
        dropout: Dropout on its weights, in training.
    """

    def __init__(self, inputs: int, width: int, *, cell: Cell = "gcpu", context: bool = True, heads: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        self.attend = FrameAttention(inputs, heads=heads, dropout=dropout) if context and cell != "gru" else None
        self.cell: nn.Module = (
            nn.GRU(inputs, width, batch_first=True) if cell == "gru" else (GCPU if cell == "gcpu" else MGRU)(inputs, width)
        )

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Map `(n, L, inputs)` to `(n, L, width)`, zero outside the mask `(n, L)`; real items come first in every sequence."""
        if isinstance(self.cell, nn.GRU):
            hidden = self.cell(states)[0]
        else:
            hidden = self.cell(states, states if self.attend is None else self.attend(states, mask))
        return hidden * mask[..., None]  # no real item comes after a padded one: nothing of the padding was read


class _Cell(nn.Module):
    """Products of both inputs for all steps, and weights of the recurrence as PyTorch's GRU draws them.

    Args:
        inputs: Width of `z` and `g`.
        width: Width of the state.
        gates: Gates that see the inputs.
    """

    def __init__(self, inputs: int, width: int, gates: int, **shapes: tuple[int, ...]) -> None:
        super().__init__()
        self.gates, self.width = gates, width
        self.of_z = nn.Linear(inputs, (gates + 1) * width, bias=False)
        self.of_g = nn.Linear(inputs, (gates + 1) * width, bias=False)
        self.bias = nn.Parameter(torch.empty((gates + 2) * width))
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(torch.empty(shape)))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -(width**-0.5), width**-0.5)

    def inputs(self, z: Tensor, g: Tensor) -> Tensor:
        """`(L, n, (gates + 2) × width)`: what the gates see of both, then the candidate of `z`, then that of `g`."""
        at, of_z, of_g = self.gates * self.width, self.of_z(z), self.of_g(g)
        joined = torch.cat([of_z[..., :at] + of_g[..., :at], of_z[..., at:], of_g[..., at:]], -1)
        return (joined + self.bias).transpose(0, 1)


class GCPU(_Cell):
    """Eqs. (1)-(6) of MFDR: reset and update gate, and one candidate state per input.

    Args:
        inputs: Width of `z` and `g`.
        width: Width of the state.

    Attributes:
        reset: `(width, width)` W_hr.
        candidate: `(2 × width, width)` W_hz̃ over W_hg̃.
        update: `(width, 3 × width)` W_z̃u, W_g̃u, W_hu side by side.
        update_bias: `(width,)` b_u; the other biases stand with the inputs.
    """

    reset: nn.Parameter
    candidate: nn.Parameter
    update: nn.Parameter
    update_bias: nn.Parameter

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__(
            inputs, width, 1, reset=(width,) * 2, candidate=(2 * width, width), update=(width, 3 * width), update_bias=(width,)
        )

    def forward(self, z: Tensor, g: Tensor) -> Tensor:
        """Map `(n, L, inputs)` twice to `(n, L, width)`."""
        width = self.width
        hidden, states = z.new_zeros(len(z), width), []
        for step in self.inputs(z, g):
            kept = torch.addmm(step[:, :width], hidden, self.reset.T).sigmoid() * hidden  # (1)
            new = torch.addmm(step[:, width:], kept, self.candidate.T).tanh()  # (2), (3)
            update = torch.addmm(self.update_bias, torch.cat([new, kept], -1), self.update.T).sigmoid()  # (5)
            hidden = kept + update * (new[:, :width] + new[:, width:])  # (4), (6)
            states.append(hidden)
        return torch.stack(states, 1)


class MGRU(_Cell):
    """The same two inputs and candidates under a complementary update gate, which sees what the reset gate sees (MFDR, Fig. 4 (a)).

    Args:
        inputs: Width of `z` and `g`.
        width: Width of the state.

    Attributes:
        gate: `(2 × width, width)` of reset and update gate.
        candidate: As in `GCPU`.
    """

    gate: nn.Parameter
    candidate: nn.Parameter

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__(inputs, width, 2, gate=(2 * width, width), candidate=(2 * width, width))

    def forward(self, z: Tensor, g: Tensor) -> Tensor:
        """Map `(n, L, inputs)` twice to `(n, L, width)`."""
        width = self.width
        hidden, states = z.new_zeros(len(z), width), []
        for step in self.inputs(z, g):
            reset, update = torch.addmm(step[:, : 2 * width], hidden, self.gate.T).sigmoid().chunk(2, -1)
            new = torch.addmm(step[:, 2 * width :], reset * hidden, self.candidate.T).tanh()
            hidden = torch.lerp(hidden, new[:, :width] + new[:, width:], update)
            states.append(hidden)
        return torch.stack(states, 1)
