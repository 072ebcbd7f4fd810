r"""Gated context perception unit (MFDR, Equations (1)-(6)): a recurrent cell with two inputs per step, a word or frame and its context.

The matrix products with both inputs do not depend on the preceding step, so they are computed for all steps before the loop over steps.
Each step of the loop then has three matrix products, whereas a step of a GRU has one.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from erc_graph.encoders.self_attention import FrameAttention

Cell = Literal["gcpu", "mgru", "gru"]


class ContextPerception(nn.Module):
    """A recurrent network over words or frames. The second input at each step is a context from self-attention over all words or frames.

    Args:
        inputs: Width of the input vector of a word or frame.
        width: Width of the output states.
        cell: `gcpu` (class `GCPU`), or a baseline of the MFDR paper: `mgru` (class `MGRU`), or `gru`, which has no second input.
        context: Whether the second input is the output of multi-head self-attention; if false, the second input equals the first input.
        heads: Number of attention heads.
        dropout: Dropout rate of the attention weights in training.
    """

    def __init__(self, inputs: int, width: int, *, cell: Cell = "gcpu", context: bool = True, heads: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        self.attend = FrameAttention(inputs, heads=heads, dropout=dropout) if context and cell != "gru" else None
        self.cell: nn.Module = (
            nn.GRU(inputs, width, batch_first=True) if cell == "gru" else (GCPU if cell == "gcpu" else MGRU)(inputs, width)
        )

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Encode padded sequences: `(n, L, inputs)`, mask `(n, L)` → `(n, L, width)`, zero at padding. Padding follows the sequence."""
        if isinstance(self.cell, nn.GRU):
            hidden = self.cell(states)[0]
        else:
            hidden = self.cell(states, states if self.attend is None else self.attend(states, mask))
        return hidden * mask[..., None]  # no real item comes after a padded one: nothing of the padding was read


class _Cell(nn.Module):
    """Base class of recurrent cells with two inputs, a word or frame `z` and its context `g`, initialised as PyTorch's GRU.

    Args:
        inputs: Width of `z` and `g`.
        width: Width of the state.
        gates: Number of gates that depend on the inputs.
        shapes: Names and shapes of the parameters of the subclass.
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
        """Compute products of weights and inputs, `(L, n, (gates + 2) × width)`, for the gates and the candidate states of `z` and `g`."""
        at, of_z, of_g = self.gates * self.width, self.of_z(z), self.of_g(g)
        joined = torch.cat([of_z[..., :at] + of_g[..., :at], of_z[..., at:], of_g[..., at:]], -1)
        return (joined + self.bias).transpose(0, 1)


class GCPU(_Cell):
    """The cell of Equations (1)-(6) of MFDR, with a reset gate, an update gate, and one candidate state per input.

    Args:
        inputs: Width of the inputs, a word or frame `z` and its context `g`.
        width: Width of the state.

    Attributes:
        reset: `(width, width)` weight W_hr of the paper.
        candidate: `(2 × width, width)` weights W_hz̃ and W_hg̃, concatenated.
        update: `(width, 3 × width)` weights W_z̃u, W_g̃u and W_hu, concatenated.
        update_bias: `(width,)` bias b_u.
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
        """Compute all states from the inputs `z` and `g`, `(n, L, inputs)` each: `(n, L, width)`."""
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
    """The cell of Fig. 4 (a) of the MFDR paper.

    Unlike in `GCPU`, the update gate has the same inputs as the reset gate. The new state is a mean of the old state and the sum of the
    candidate states, weighted by the update gate.

    Args:
        inputs: Width of the inputs, a word or frame `z` and its context `g`.
        width: Width of the state.

    Attributes:
        gate: `(2 × width, width)` weights from the old state to the reset gate and the update gate.
        candidate: `(2 × width, width)` weights from the old state to the candidate states of `z` and `g`.
    """

    gate: nn.Parameter
    candidate: nn.Parameter

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__(inputs, width, 2, gate=(2 * width, width), candidate=(2 * width, width))

    def forward(self, z: Tensor, g: Tensor) -> Tensor:
        """Compute all states from the inputs `z` and `g`, `(n, L, inputs)` each: `(n, L, width)`."""
        width = self.width
        hidden, states = z.new_zeros(len(z), width), []
        for step in self.inputs(z, g):
            reset, update = torch.addmm(step[:, : 2 * width], hidden, self.gate.T).sigmoid().chunk(2, -1)
            new = torch.addmm(step[:, 2 * width :], reset * hidden, self.candidate.T).tanh()
            hidden = torch.lerp(hidden, new[:, :width] + new[:, width:], update)
            states.append(hidden)
        return torch.stack(states, 1)
