r"""A state for the dialogue and one for every speaker, from turn to turn: a DialogueRNN without listeners, as MultiEMO has it.

.. math::
    g_t &= \mathrm{GRU}_g([u_t ; q_{s}], g_{t-1}), \qquad c_t = \textstyle\sum_{\tau < t} \mathrm{softmax}_\tau(w^\top g_\tau)\, g_\tau \\
    q_s &\leftarrow \mathrm{GRU}_p([u_t ; c_t], q_s), \qquad e_t = \mathrm{GRU}_e(q_s, e_{t-1})

with the speaker `s` of turn `t`, and :math:`c_1 = 0`. After Majumder et al., "DialogueRNN", AAAI 2019.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from erc_graph.data.batch import Batch
from erc_graph.encoders.recurrent import Recurrent
from erc_graph.encoders.turns import OverRows

Memory = tuple[Tensor, ...]  # g (D, width), q (D, speakers, width), sums of the softmax (D, width) and (D, 1), their largest score (D, 1)


class PartyStates(OverRows):
    """`e_t` of every turn, read forward, or `[e_t ; e_t]` of both directions with nets of their own.

    Args:
        width: Of the rows that go in, and of all states.
        bidirectional: Whether the dialogue is read backwards, too.
    """

    def __init__(self, width: int, *, bidirectional: bool = False) -> None:
        super().__init__()
        self.width = width * (1 + bidirectional)
        self.directions = nn.ModuleList(_Direction(width) for _ in range(1 + bidirectional))

    @property
    def causal(self) -> bool:
        """Whether the dialogue is read forward alone."""
        return len(self.directions) == 1

    def read(self, rows: Tensor, batch: Batch) -> Tensor:
        """`(N, width)` → `(N, width)`, of both directions twice as wide."""
        forward, *backward = self.directions
        found = [forward(rows, batch)]
        for net in backward:
            turned = replace(batch, speaker=_reversed(batch.speaker, batch))
            found.append(_reversed(net(_reversed(rows, batch), turned), batch))
        return torch.cat(found, -1)

    def read_next(self, row: Tensor, batch: Batch, memory: Any) -> tuple[Tensor, Any]:
        """One more turn, forward."""
        net: Any = self.directions[0]
        states, emotion = memory or (None, None)
        speaker = batch.speaker
        states = net.start(row, int(speaker) + 1) if states is None else states
        if (more := int(speaker) + 1 - states[1].shape[1]) > 0:
            states = (states[0], F.pad(states[1], (0, 0, 0, more)), *states[2:])
        states, q = net.turn(net.global_input(row), net.party_input(row), F.one_hot(speaker, states[1].shape[1]).bool(), states)
        found, emotion = net.emotion.read_next(q, batch, emotion)
        return found, (states, emotion)


class _Direction(nn.Module):
    """One direction."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.global_cell, self.party_cell = nn.GRUCell(2 * width, width), nn.GRUCell(2 * width, width)
        self.score, self.emotion = nn.Linear(width, 1, bias=False), Recurrent("gru", width, width)

    def global_input(self, rows: Tensor) -> Tensor:
        """What of the gates of `g` depends on the turn itself: `(..., 3 width)`."""
        return F.linear(rows, self.global_cell.weight_ih[:, : self.width], self.global_cell.bias_ih)

    def party_input(self, rows: Tensor) -> Tensor:
        """The same of `q`."""
        return F.linear(rows, self.party_cell.weight_ih[:, : self.width], self.party_cell.bias_ih)

    def start(self, like: Tensor, speakers: int) -> Memory:
        """Before the first turn of `D` dialogues, of which `like` has rows."""
        zero = like.new_zeros(len(like), self.width)
        return zero, zero[:, None].expand(-1, speakers, -1), zero, zero[:, :1], zero[:, :1] - torch.inf

    def forward(self, rows: Tensor, batch: Batch) -> Tensor:
        """`(N, width)` → `(N, width)`."""
        speakers = batch.pad(F.one_hot(batch.speaker, int(batch.speaker.max()) + 1 if batch.utterances else 1).bool())
        inputs = zip(*(batch.pad(part(rows)).unbind(1) for part in (self.global_input, self.party_input)), speakers.unbind(1), strict=True)
        memory, found = self.start(speakers[:, 0, 0, None].to(rows.dtype), speakers.shape[-1]), []
        for g_input, q_input, own in inputs:
            memory, q = self.turn(g_input, q_input, own, memory)
            found.append(q)
        return self.emotion.read(batch.unpad(torch.stack(found, 1)), batch)

    def turn(self, g_input: Tensor, q_input: Tensor, own: Tensor, memory: Memory) -> tuple[Memory, Tensor]:
        """One turn of all dialogues; `own`: `(D, speakers)`, the one who speaks; none behind the end."""
        g, q, weighted, total, most = memory
        before = torch.where(own[..., None], q, 0.0).sum(1)  # q of the speaker
        c = weighted / torch.where(total > 0, total, 1.0)
        new = _gru(self.party_cell, q_input + F.linear(c, self.party_cell.weight_ih[:, self.width :]), before)
        g = _gru(self.global_cell, g_input + F.linear(before, self.global_cell.weight_ih[:, self.width :]), g)
        score = self.score(g)
        top = torch.maximum(most, score).detach()  # keeps the sums of the softmax finite
        old, fresh = (most - top).exp(), (score - top).exp()
        return (g, torch.where(own[..., None], new[:, None], q), old * weighted + fresh * g, old * total + fresh, top), new


def _gru(cell: nn.GRUCell, given: Tensor, state: Tensor) -> Tensor:
    """A step of a cell whose products with the input are known."""
    of_reset, of_update, of_new = given.chunk(3, -1)
    reset, update, new = F.linear(state, cell.weight_hh, cell.bias_hh).chunk(3, -1)
    update = (of_update + update).sigmoid()
    return update * state + (1 - update) * (of_new + (of_reset + reset).sigmoid() * new).tanh()


def _reversed(rows: Tensor, batch: Batch) -> Tensor:
    """`(N, ...)`, each dialogue's last turn first."""
    return batch.unpad(batch.pad(rows, backwards=True))
