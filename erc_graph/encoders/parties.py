r"""A recurrence over the utterances of a dialogue with a dialogue state and states per speaker (DialogueRNN, COSMIC, MultiEMO).

Let `s` be the speaker of utterance `t`, and `u_t` the features of this utterance. The dialogue state is `g`, and the context is `c`. The
state of speaker `i` is `q_i`, and the emotion state is `e`. In each direction:

.. math::
    g_t &= \mathrm{GRU}([u_t ; q_{s, t-1}], g_{t-1}) \qquad
    c_t = \sum_{j < t} \mathrm{softmax}_j(g_j \cdot W u_t)\, g_j \\
    q_{s, t} &= \mathrm{GRU}([u_t ; c_t], q_{s, t-1}) \qquad
    q_{i, t} = \mathrm{GRU}([u_t ; q_{s, t}], q_{i, t-1}) \text{ or } q_{i, t-1}, \quad i \ne s \\
    e_t &= \mathrm{GRU}(q_{s, t}, e_{t-1})

A speaker may have several states `q`. In the equation of a state, another state of the same speaker can replace `c`. Such states and the
emotion state `e` are computed after the loop over utterances.

A step of the loop computes utterance `t` of all dialogues, in all streams (for example, modalities) and directions. Products that do not
depend on states are computed for all utterances before the loop. In training, dropout is applied to the states when they are stored. The
recurrence and the attention use the stored states. The option `late` of `Parties` determines whether dropout applies to new states within
the same utterance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.encoders.dropout import Dropout
from erc_graph.encoders.turns import OverTurns

SAID = "u"  # the given rows that the dialogue's state reads and that ask for the context


@dataclass(frozen=True, kw_only=True)
class Party:
    """Definition of one state `q` of every speaker.

    Attributes:
        width: Width of the state.
        given: Names of the input features that update the state at utterances of the speaker.
        of: Name of another state of the speaker, which replaces the context `c` in the equation of this state.
        listens: Names of the input features that update the state at utterances of another speaker, together with the new state of that
            other speaker. `None`: utterances of other speakers do not change the state.
    """

    width: int
    given: tuple[str, ...] = (SAID,)
    of: str | None = None
    listens: tuple[str, ...] | None = None


@dataclass(frozen=True, eq=False)
class Memory:
    """States after an utterance, for `n` = streams (for example, modalities) × directions × dialogues.

    Attributes:
        dialogue: The last dialogue state `g`.
        heard: All dialogue states `g` so far, `(utterances, n, width)`.
        slots: Name of a speaker state `q` → the states of all speakers, `(n × speakers, width)`.
        emotion: The last emotion state `e`.
    """

    dialogue: Tensor | None = None
    heard: Tensor | None = None
    slots: Mapping[str, Tensor] = field(default_factory=dict)
    emotion: Tensor | None = None

    @property
    def nbytes(self) -> int:
        """Return the size of all states in bytes."""
        return sum(0 if value is None else value.nbytes for value in (self.dialogue, self.heard, *self.slots.values(), self.emotion))


class Cells(nn.Module):
    """The parameters of one direction of one stream (for example, one modality); see `Parties` for the arguments."""

    def __init__(
        self, given: Mapping[str, int], width: int, parties: Mapping[str, Party], emotion: int, reads: Sequence[str],
        attention: str, bounded: bool,
    ) -> None:  # fmt: skip
        super().__init__()

        def cell(names: Sequence[str], inside: int, own: int) -> nn.GRUCell:
            return nn.GRUCell(sum(given[name] for name in names) + inside, own)

        inside = {name: width if p.of is None else parties[p.of].width for name, p in parties.items()}
        general = attention == "general"
        self.attend = nn.Linear(given[SAID], width, bias=bounded) if general else nn.Linear(width, 1, bias=False)
        self.dialogue = cell((SAID,), sum(p.width for p in parties.values() if p.of is None), width)
        self.party = nn.ModuleDict({name: cell(p.given, inside[name], p.width) for name, p in parties.items()})
        self.listener = nn.ModuleDict(
            {name: cell(p.listens, p.width, p.width) for name, p in parties.items() if p.listens is not None and p.of is None}
        )
        self.emotion = cell(reads, sum(p.width for p in parties.values()), emotion)


class Parties(OverTurns):
    """The recurrence for all streams (for example, modalities): input features → emotion states `e`, concatenated over both directions.

    The docstring of `erc_graph.encoders.parties` defines the states.

    Args:
        given: Name of input features → their width, in the order of concatenation. One name is `u`, the features of the utterance.
        width: Width of the dialogue state `g`.
        parties: Name → definition of a speaker state `q`. All speaker states that are computed from the context `c` are inputs of `g`.
        emotion: Width of the emotion state `e` in each direction.
        reads: Names of the input features from which `e` is computed, together with all states of the speaker.
        attention: Attention scores of the context `c`: `general`: `g_j · W u_t`; `simple`: `w · g_j`, which does not depend on `u_t`.
        bounded: Whether the `general` scores have a bias and a tanh.
        bidirectional: Whether a second recurrence, with its own parameters, processes the dialogue backwards.
        dropout: Dropout rate of all states when they are stored.
        late: Whether the other states of the same utterance are computed from the new states `q` before dropout.
        streams: Number of streams; each has its own parameters.

    Attributes:
        width: Width of the output of a stream.
        directions: The parameters of each stream and direction, ordered by stream.
    """

    def __init__(
        self, given: Mapping[str, int], width: int, parties: Mapping[str, Party], *, emotion: int, reads: Sequence[str] = (),
        attention: Literal["general", "simple"] = "general", bounded: bool = False, bidirectional: bool = True, dropout: float = 0.0,
        late: bool = False, streams: int = 1,
    ) -> None:  # fmt: skip
        super().__init__()
        self.given, self.parties, self.reads, self.bounded = dict(given), dict(parties), tuple(reads), bounded and attention == "general"
        self.backwards = (False, True)[: 1 + bidirectional] * streams  # of each direction
        self.directions = nn.ModuleList(Cells(given, width, parties, emotion, reads, attention, bounded) for _ in self.backwards)
        self.general, self.width = attention == "general", (1 + bidirectional) * emotion
        self.dropout, self.late, self.causal = Dropout(dropout), late, not bidirectional

    def forward(self, nodes: Nodes, batch: Batch) -> Nodes:
        """Apply the recurrence to all dialogues: `(N, streams, width of all input features)` → `(N, streams, width)`."""
        e = self.states(nodes.masked(), batch)[0]["e"]
        parts = [batch.unpad(own.transpose(0, 1), backwards=back) for own, back in zip(e.unbind(1), self.backwards, strict=True)]
        return nodes.with_states(torch.cat(parts, -1).unflatten(-1, (-1, self.width)))

    def step(self, nodes: Nodes, batch: Batch, memory: Any) -> tuple[Nodes, Any]:
        """Process the next utterance of a live dialogue."""
        states, memory = self.states(nodes.masked(), batch, memory or Memory())
        return nodes.with_states(states["e"][0].transpose(0, 1)), memory

    def states(self, rows: Tensor, batch: Batch, memory: Memory | None = None) -> tuple[dict[str, Tensor], Memory]:
        """Compute all states of the speaker of each utterance.

        Args:
            rows: Input features `(N, streams, width of all input features)`.
            batch: The dialogues.
            memory: `None` for whole dialogues. For a live dialogue, `Memory()` at the first utterance, then the memory that the last call
                returned.

        Returns:
            Name of the state (`g`, `e`, names of `parties`) → `(L, directions, D, width)`, for the directions of all streams; and the
            memory for the next utterance.
        """
        with torch.autocast(rows.device.type, enabled=False):
            return self._states(rows.to(next(self.parameters()).dtype), batch, memory)

    def _states(self, rows: Tensor, batch: Batch, handed: Memory | None) -> tuple[dict[str, Tensor], Memory]:
        memory = handed or Memory()
        parts = dict(zip(self.given, rows.split(list(self.given.values()), -1), strict=True))
        both = len(self.directions)  # of all streams
        speaker = self._spread([batch.speaker] * both, batch)  # (L, both, D)
        n = both * len(batch)
        spare = handed is not None  # the last one is that of somebody who has not spoken yet, and has listened
        slots = max([int(batch.speaker.max()) + 1 + spare, *(len(states) // n for states in memory.slots.values())])
        place = (speaker.flatten(1) + slots * torch.arange(n, device=rows.device)).unbind(0)

        def unit(name: str, given: Sequence[str], inside: Tensor | None = None) -> _Unit:
            """Return a GRU for all directions. `inside`, `(L, both, D, k)`, are the input states of the GRU, if already computed."""
            cells: list[Any] = [cell.get_submodule(name) for cell in self.directions]
            row = torch.cat([rows[..., :0], *(parts[one] for one in given)], -1)
            known = row.shape[-1]
            gates = [F.linear(own, c.weight_ih[:, :known], c.bias_ih) for own, c in zip(self._each(row), cells, strict=True)]
            weights = [torch.stack([getattr(c, one) for c in cells]) for one in ("weight_ih", "weight_hh", "bias_hh")]
            copies, kept = slots if name.startswith("listener") else 1, None
            if self.training and self.dropout.p:
                kept = self.dropout(rows.new_ones(batch.longest, both, copies * len(batch), weights[1].shape[2]))
            late = self.late and name.startswith("party")
            return _Unit(self._spread(gates, batch), weights[0][..., known:], weights[1], weights[2], copies, kept, inside, late)

        main = {name: p for name, p in self.parties.items() if p.of is None}
        units = {name: unit(f"party.{name}", p.given) for name, p in main.items()}
        listeners = {name: unit(f"listener.{name}", p.listens) for name, p in main.items() if p.listens is not None}
        dialogue, query = unit("dialogue", (SAID,)), self._queries(parts[SAID], batch)
        first = rows.new_zeros(both, len(batch), dialogue.width)
        state = {name: _grown(memory.slots.get(name), n, slots, p.width, rows) for name, p in self.parties.items()}
        g, past = first if memory.dialogue is None else memory.dialogue, 0 if memory.heard is None else len(memory.heard)
        heard = rows.new_empty(past + len(place), n, dialogue.width)
        if memory.heard is not None:
            heard[:past] = memory.heard
        order = rows.new_zeros(()).expand_as(heard)
        seen: dict[str, list[Tensor]] = {name: [] for name in ("g", *main)}
        for t, here in enumerate(place):
            own = {name: state[name].index_select(0, here).view(both, len(batch), -1) for name in main}
            c = torch.zeros_like(first)
            if past + t:
                c, order = _Context.apply(query[t], g.flatten(0, 1), order, heard, past + t, self.bounded)
            g, _ = dialogue(t, torch.cat(list(own.values()), -1), g)
            seen["g"].append(g)
            for name, before in own.items():
                new, stored = units[name](t, c.view_as(first), before)
                others = state[name]
                if name in listeners:
                    others = listeners[name](t, new, others.view(both, -1, new.shape[-1]))[1].flatten(0, 1)
                state[name] = others.index_copy(0, here, stored.flatten(0, 1))
                seen[name].append(new)
        found = {name: torch.stack(values) for name, values in seen.items()}
        for name, p in self.parties.items():
            if p.of is not None:
                found[name], state[name] = unit(f"party.{name}", p.given, found[p.of]).chain(state[name], place)
        read = torch.cat([found[name] for name in self.parties], -1)
        emotion = unit("emotion", self.reads, read)
        e = rows.new_zeros(n, emotion.width) if memory.emotion is None else memory.emotion
        found["e"], e = emotion.chain(e, None)
        heard[-1:] = g.detach().flatten(0, 1)
        return found, Memory(g, heard, state, e)

    def _spread(self, rows: Sequence[Tensor], batch: Batch) -> Tensor:
        """Pad the inputs of each direction: `(N, ...)` → `(L, directions, D, ...)`. Backward directions start at the end of dialogues."""
        padded = [batch.pad(own, backwards=back) for own, back in zip(rows, self.backwards, strict=True)]
        return torch.stack([own.transpose(0, 1) for own in padded], 1)

    def _each(self, rows: Tensor) -> list[Tensor]:
        """Return, for each direction, the vectors of its stream: `(N, streams, k)` → one `(N, k)` per direction."""
        return list(rows.repeat_interleave(len(self.backwards) // rows.shape[1], 1).unbind(1))

    def _queries(self, said: Tensor, batch: Batch) -> tuple[Tensor, ...]:
        """Compute the attention queries to the dialogue states `g` of earlier utterances: one tensor `(n, width)` per step."""
        maps: list[Any] = [cell.attend for cell in self.directions]
        if self.general:
            queries = self._spread([attend(own) for attend, own in zip(maps, self._each(said), strict=True)], batch)
        else:
            queries = torch.stack([attend.weight for attend in maps]).expand(batch.longest, -1, len(batch), -1)
        return queries.flatten(1, 2).unbind(0)


class _Unit:
    """One GRU per direction, prepared for the loop over steps. `both` is the number of directions of all streams.

    Args:
        gates: `(L, both, D, 3 width)` terms of the gates that are computed before the loop.
        inside: `(both, 3 width, k)` weights of the inputs that `gates` does not contain.
        weight: `(both, 3 width, width)` weights of the preceding state.
        bias: `(both, 3 width)` bias of the preceding state.
        copies: Number of states per dialogue and direction.
        kept: `(L, both, copies × D, width)` dropout factors of the new states; `None`: no dropout.
        inputs: `(L, both, D, k)` inputs that `gates` does not contain, if they are known before the loop.
        late: Whether the returned new states are without dropout.
    """

    def __init__(
        self, gates: Tensor, inside: Tensor, weight: Tensor, bias: Tensor, copies: int, kept: Tensor | None, inputs: Tensor | None,
        late: bool,
    ) -> None:  # fmt: skip
        turns, both, dialogues, _ = gates.shape
        self.width, self.copies, self.late = weight.shape[2], copies, late
        self.seen: list[Tensor] = []
        self.before: list[Tensor] = []
        self.inside, self.weight = inside.detach().transpose(1, 2), weight.detach().transpose(1, 2)
        if inputs is None:
            gates = _Late.apply(gates, inside, self.seen)
        else:
            product = inputs.transpose(0, 1).flatten(1, 2) @ inside.transpose(1, 2)
            gates = gates + product.view(both, turns, dialogues, -1).transpose(0, 1)
        hidden = bias[:, None].expand(turns, -1, copies * dialogues, -1)
        self.gates, self.hidden = gates.unbind(0), _Late.apply(hidden, weight, self.before).unbind(0)
        self.kept: Sequence[Tensor | None] = [None] * turns if kept is None else kept.unbind(0)

    def __call__(self, t: int, inputs: Tensor | None, before: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the new states of step `t`, `(both, copies × D, width)`: first the states for other GRUs, then the states to store.

        `inputs` is `(both, D, k)`, or `None` if all inputs were known before the loop. `before` contains the preceding states.
        """
        gates = self.gates[t]
        if inputs is not None:
            self.seen.append(inputs.detach())
            gates = torch.baddbmm(gates, inputs, self.inside)
        if self.copies > 1:
            gates = gates.repeat_interleave(self.copies, 1)
        self.before.append(before.detach())
        new: Tensor = _Gates.apply(gates, torch.baddbmm(self.hidden[t], before, self.weight), before)
        kept = self.kept[t]
        stored = new if kept is None else new * kept
        return new if self.late else stored, stored

    def chain(self, slots: Tensor, place: Sequence[Tensor] | None) -> tuple[Tensor, Tensor]:
        """Compute the states of all utterances, `(L, both, D, width)`, and the last states.

        `place` has, for each utterance, the index of the state that it updates. Without `place`, a dialogue has a single state.
        """
        seen = []
        for t, gates in enumerate(self.gates):
            before = slots if place is None else slots.index_select(0, place[t])
            new, stored = self(t, None, before.view(*gates.shape[:2], -1))
            slots = stored.flatten(0, 1) if place is None else slots.index_copy(0, place[t], stored.flatten(0, 1))
            seen.append(new)
        return torch.stack(seen), slots


class _Late(Function):
    """A function that returns the gates unchanged; its backward pass computes the gradient of a weight from all steps at once.

    The loop uses the weight without gradient. The loop appends the vectors that are multiplied by the weight to the list `inputs`.
    """

    @staticmethod
    def forward(ctx: Any, gates: Tensor, weight: Tensor, inputs: list[Tensor]) -> Tensor:
        ctx.inputs = inputs
        return gates.view_as(gates)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        slope, inputs = outer.transpose(0, 1).flatten(1, 2), torch.stack(ctx.inputs, 1).flatten(1, 2)
        return outer, slope.transpose(1, 2) @ inputs, None


class _Context(Function):
    """The context `c` of one utterance, computed from the dialogue states `g` of all earlier utterances.

    The tensor `memory` contains these states. The tensor `order` passes the sum of their gradients from step to step of the backward pass.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, newest: Tensor, order: Tensor, memory: Tensor, turns: int, bounded: bool) -> tuple[Tensor, Tensor]:
        memory[turns - 1] = newest
        ctx.heard, ctx.bounded, ctx.shape = memory[:turns], bounded, memory.shape
        score = (ctx.heard * query).sum(-1)  # (turns, n)
        score = score.tanh_() if bounded else score
        share = score.softmax(0)
        ctx.save_for_backward(query, score, share)
        ctx.set_materialize_grads(False)
        return (share[..., None] * ctx.heard).sum(0), order.view_as(order)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor | None, grads: Tensor | None) -> tuple[Tensor | None, ...]:
        query, score, share = ctx.saved_tensors
        heard, of_query = ctx.heard, None
        grads = torch.zeros(ctx.shape, dtype=query.dtype, device=query.device) if grads is None else grads
        if outer is not None:
            of_share = (heard * outer).sum(-1)
            slope = share * (of_share - (share * of_share).sum(0))
            slope = slope * (1 - score * score) if ctx.bounded else slope
            grads[: len(heard)].addcmul_(share[..., None], outer).addcmul_(slope[..., None], query)
            of_query = (slope[..., None] * heard).sum(0)
        return of_query, grads[len(heard) - 1], grads, None, None, None


class _Gates(Function):
    """The equations of `torch.nn.GRU` after the matrix products: products with inputs and with the old state, old state → new state."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, hidden: Tensor, before: Tensor) -> Tensor:
        width = before.shape[-1]
        open_ = (inputs[..., : 2 * width] + hidden[..., : 2 * width]).sigmoid_()
        share = hidden[..., 2 * width :]
        new = torch.addcmul(inputs[..., 2 * width :], open_[..., :width], share).tanh_()
        ctx.save_for_backward(open_, new, share, before)
        return torch.lerp(new, before, open_[..., width:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        open_, new, share, before = ctx.saved_tensors
        width = new.shape[-1]
        slope, back = outer.new_empty(*new.shape[:-1], 3 * width), outer * open_[..., width:]
        of_new, reset = slope[..., 2 * width :], open_[..., :width]
        torch.mul(outer - back, 1 - new * new, out=of_new)
        torch.mul(of_new, share, out=slope[..., :width])
        torch.mul(before - new, outer, out=slope[..., width : 2 * width])
        slope[..., : 2 * width].mul_(open_).mul_(1 - open_)
        hidden = slope.clone()
        hidden[..., 2 * width :].mul_(reset)
        return slope, hidden, back


def _grown(states: Tensor | None, n: int, slots: int, width: int, rows: Tensor) -> Tensor:
    """Extend speaker states to `slots` speakers, `(n × slots, width)`, by copies of the last state, which is still the initial state."""
    if states is None:
        return rows.new_zeros(n * slots, width)
    known = states.view(n, -1, width)
    return torch.cat([known, known[:, -1:].expand(-1, slots - known.shape[1], -1)], 1).flatten(0, 1)
