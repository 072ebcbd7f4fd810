r"""The recurrence of `Directed`: a loop whose step `t` computes utterance `t` of all dialogues, with a hand-written backward pass.

In the forward and in the backward pass, a step has about twelve small operations. Most of the time is the overhead of starting these
operations. Some results do not depend on the preceding step: the products with the input states, the derivatives of the gates and the
gradients of the weights. These results are computed outside the loops.

Tensors have one row per utterance. Rows are sorted by step and within a step by dialogue, the longest dialogue first. The rows of a step
are therefore a contiguous slice without padding. The gates of an utterance are concatenated in this order:

    input n of C | hidden n of C | r of C | r of P | z of C | z of P | input n of P | hidden n of P

C and P are the GRU cells `nodal` and `contextual`, with reset gate `r`, update gate `z` and candidate `n = tanh(input + r * hidden)`. The
input of `nodal` is the input state, and its hidden state is the message. The input of `contextual` is the message, and its hidden state is
the input state. The message therefore contributes to all parts of the list above except the first and the last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from erc_graph.data.batch import Batch
from erc_graph.graphs.edge_list import Listed

NOTHING = -1e30  # score of a pair without an edge: finite, so that a turn without edges is no NaN


@dataclass(frozen=True, eq=False)
class Order:
    """Indices for the loop over steps; step `t` computes utterance `t` of every dialogue that has more than `t` utterances.

    Step `t` computes one utterance of each of `n` dialogues. In every dialogue, the sources of utterance `t` are utterances `first` to
    `t - 1`, so the step has `n × (t - first)` pairs of utterances. `N` is the number of utterances, and `E` is the number of edges.

    Attributes:
        rows: `(N,)` indices of the utterances in the batch, in the order in which the loop computes them.
        back: `(N,)` for every utterance of the batch, its index in the order of the loop.
        place: `(N,)` for every utterance of the batch, its index in a flattened tensor `(D, L)` of `D` dialogues, the longest first, which
            are padded to `L` utterances.
        counts: Number `n` of dialogues in each step.
        first: Index of the first source utterance in each step.
        relations: `R`, number of relations.
        score: `(pairs,)` logarithm of the number of edges of a pair; -1e30 for a pair without edges.
        pair: `(E,)` index of the pair of every edge.
        slot: `(E,)` index of every edge in a tensor `(pairs × R,)`, the concatenation of `(n, R, t - first)` over all steps.
        number: `(E,)` for every edge, the number of edges between its two nodes, including repeated edges.
    """

    rows: Tensor
    back: Tensor
    place: Tensor
    counts: tuple[int, ...]
    first: tuple[int, ...]
    relations: int
    score: Tensor
    pair: Tensor
    slot: Tensor
    number: Tensor

    def split(self, *rows: Tensor) -> list[tuple[Tensor, ...]]:
        """Split each tensor `(N, ...)`, one row per utterance, into one tensor `(n, ...)` per step, for its `n` utterances."""
        return [value.split(list(self.counts)) for value in rows]

    def split_pairs(self, *values: Tensor) -> list[list[Tensor]]:
        """Split each tensor `(pairs × R,)` into one tensor `(n, R, t - first)` per step `t`: dialogues, relations, source utterances.

        The last two arguments have the shape `(pairs,)` and are split into `(n, 1, t - first)` and `(n, t - first)`.
        """
        shapes = [(n, t - first) for t, (n, first) in enumerate(zip(self.counts, self.first, strict=True))]
        r = self.relations
        parts = [value.split([r * n * span for n, span in shapes]) for value in values[:-2]]
        found = [[part.view(n, r, span) for part, (n, span) in zip(split, shapes, strict=True)] for split in parts]
        last = [part.view(shape) for part, shape in zip(values[-1].split([n * span for n, span in shapes]), shapes, strict=True)]
        return [*found, [part.unsqueeze(1) for part in last], last]

    def windows(self, values: Tensor) -> list[Tensor]:
        """Return one view of `values` (dialogues × utterances) per step: the source utterances of `n` dialogues, `(n, t - first, ...)`."""
        stride = values.stride()
        return [
            values.as_strided((n, t - first, *values.shape[2:]), stride, first * stride[1])
            for t, (n, first) in enumerate(zip(self.counts, self.first, strict=True))
        ]

    def columns(self, values: Tensor) -> list[Tensor]:
        """Return one view of `values` (dialogues × utterances) per step: the `n` utterances that the step computes, `(n, ...)`."""
        return [value[:n] for value, n in zip(values.unbind(1), self.counts, strict=True)]


def order_of(batch: Batch, edges: Listed, relations: int) -> Order:
    """Compute the indices for the loop over utterances, for one stream. All edges must come from earlier utterances.

    Args:
        batch: The dialogues.
        edges: The edges; the index of a node is the index of its utterance in the batch.
        relations: Number of relations.
    """
    device, longest = batch.device, batch.longest
    ranking = torch.tensor(sorted(range(len(batch)), key=lambda i: -batch.sizes[i]), dtype=torch.long, device=device)
    rank = torch.empty_like(ranking).scatter_(0, ranking, torch.arange(len(batch), device=device))[batch.dialogue]
    rows = torch.argsort(batch.turn * len(batch) + rank)
    counts = tuple(sum(size > t for size in batch.sizes) for t in range(longest))
    turn, sender, lane = batch.turn[edges.target], batch.turn[edges.source], rank[edges.target]
    first = torch.arange(longest, device=device).scatter_reduce(0, turn, sender, "amin")
    span = torch.arange(longest, device=device) - first
    pairs = span * torch.tensor(counts, dtype=torch.long, device=device)
    before, place = pairs.cumsum(0) - pairs, sender - first[turn]
    pair = before[turn] + lane * span[turn] + place
    times = torch.ones(len(pair), dtype=torch.float64, device=device) if edges.times is None else edges.times
    number = times.new_zeros(sum(pairs.tolist())).index_add_(0, pair, times)
    return Order(
        rows=rows,
        back=torch.argsort(rows),
        place=rank * longest + batch.turn,
        counts=counts,
        first=tuple(first.tolist()),
        relations=relations,
        score=number.log().clamp(min=NOTHING),
        pair=pair,
        slot=relations * before[turn] + (lane * relations + edges.relation) * span[turn] + place,
        number=number[pair],
    )


class Recurrence(Function):
    """Autograd function of `Directed`: it computes output states and attention weights from input states and weights."""

    @staticmethod
    def forward(
        ctx: Any, below: Tensor, own: Tensor, bias: Tensor, heard: Tensor, matrices: Tensor, key: Tensor, gain: Tensor, order: Order
    ) -> tuple[Tensor, Tensor]:
        """Compute the states of all `N` utterances, one step of the loop after another; a pair is an utterance and one of its sources.

        Args:
            ctx: Context of autograd for the backward pass.
            below: `(N, w)` input states of width `w`, in the order of the batch.
            own: `(6 w, w)` weights of the gates for the input state.
            bias: `(8 w,)` biases of the gates.
            heard: `(w, 6 w)` weights of the gates for the message.
            matrices: `(R w, w)` matrices of the `R` relations, concatenated.
            key: `(w,)` weights of the attention score.
            gain: `(pairs × R,)` factor of the attention weight, for every pair and relation; zero without an edge.
            order: Indices from `order_of`.

        Returns:
            `(N, w)` output states, in the order of the batch, and `(pairs,)` attention weights of the pairs.
        """
        width, most, turns = below.shape[1], max(order.counts, default=0), len(order.counts)
        below = below.index_select(0, order.rows)
        gates = bias.repeat(len(below), 1)
        for columns, rows in _own(width):
            gates[:, columns].addmm_(below, own[rows].T)
        eight = gates.view(-1, 8, width)
        hidden = torch.stack([below.new_zeros(1).expand_as(below), below], 1)  # (N, 2, w): the message, the state below
        fresh, gathered = torch.empty_like(hidden), below.new_zeros(len(below), order.relations, width)
        states, keys, share = below.new_zeros(most, turns, width), below.new_zeros(most, turns), torch.zeros_like(gain)
        attention = order.score.to(below.dtype, copy=True)
        loop = zip(
            *order.split(gates[:, width : 7 * width], eight[:, 2:6], eight[:, ::6], eight[:, 2:4], eight[:, 1::6], eight[:, 4:6]),
            *order.split(hidden, hidden[:, 0], fresh, gathered, gathered.flatten(1)),
            *order.split_pairs(share, gain, attention, attention),
            *(order.windows(values) for values in (states, keys)),
            *(order.columns(values) for values in (states, keys)),
            strict=True,
        )
        # fmt: off
        for (gate, four, of_input, reset, of_hidden, update, pair, message, new, around, flat,
             part, factor, score, weight, sources, source_keys, state, of_key) in loop:
            # fmt: on
            if weight.numel():
                torch.softmax(weight.add_(source_keys), 1, out=weight)
                torch.bmm(torch.mul(factor, score, out=part), sources, out=around)
                gate.addmm_(torch.mm(flat, matrices, out=message), heard)
            four.sigmoid_()
            torch.addcmul(of_input, reset, of_hidden, out=new).tanh_()
            torch.sum(torch.lerp(new, pair, update), 1, out=state)
            torch.mv(state, key, out=of_key)
        ctx.order = order
        ctx.save_for_backward(below, own, heard, matrices, key, gain, gates, hidden, fresh, gathered, states, attention, share)
        ctx.mark_non_differentiable(attention)
        return states.flatten(0, 1).index_select(0, order.place), attention

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        """Compute the gradients of the inputs of `forward`, from the last utterance of the dialogues to the first."""
        below, own, heard, matrices, key, gain, gates, hidden, fresh, gathered, states, attention, share = ctx.saved_tensors
        order, width = ctx.order, hidden.shape[2]
        slope, of_hidden = _slopes(gates.view(-1, 8, width), hidden, fresh)
        steep, through = slope.flatten(1), of_hidden[:, 0]
        grads = torch.zeros_like(states).flatten(0, 1).index_copy_(0, order.place, outer).view_as(states)
        of_keys, of_gain = torch.zeros_like(states[..., 0]), torch.zeros_like(gain)
        to_message, to_gathered = heard.T.contiguous(), matrices.T.contiguous()
        loop = zip(
            *order.split(slope, steep[:, width : 7 * width], of_hidden, through, gathered),
            *order.split_pairs(share, gain, of_gain, attention, attention),
            *(order.windows(values) for values in (states, grads, of_keys)),
            *(order.columns(values) for values in (grads, of_keys)),
            strict=True,
        )
        # fmt: off
        for (eight, heard_slope, pair, message, around,
             part, factor, of_factor, score, weight, sources, to_sources, to_keys, grad, of_key) in reversed(list(loop)):
            # fmt: on
            wide = grad.addr_(of_key, key).unsqueeze(1)
            eight.mul_(wide)
            pair.mul_(wide)
            if weight.numel():
                back = torch.mm(message.addmm_(heard_slope, to_message), to_gathered).view_as(around)
                to_sources += torch.bmm(part.transpose(1, 2), back)
                of_part = torch.bmm(back, sources.transpose(1, 2))  # (n, R, t - first)
                if ctx.needs_input_grad[6]:
                    torch.mul(of_part, score, out=of_factor)
                of_weight = of_part.mul_(factor).sum(1).mul_(weight)
                to_keys += of_weight.addcmul_(weight, of_weight.sum(1, keepdim=True), value=-1)
        to_below = of_hidden[:, 1]
        for columns, rows in _own(width):
            to_below = torch.addmm(to_below, steep[:, columns], own[rows])
        return (
            to_below.index_select(0, order.back),
            torch.cat([steep[:, columns].T @ below for columns, _ in _own(width)]),
            steep.sum(0),
            hidden[:, 0].T @ steep[:, width : 7 * width],
            gathered.flatten(1).T @ through,
            of_keys.flatten() @ states.flatten(0, 1),
            of_gain if ctx.needs_input_grad[6] else None,
            None,
        )


def _own(width: int) -> list[tuple[slice, slice]]:
    """Return pairs of slices: columns of the gates that depend on the input state, and the rows of `own` that compute these columns."""
    runs = ((0, 1, 0), (2, 6, 1), (7, 8, 5))
    return [(slice(a * width, b * width), slice(c * width, (c + b - a) * width)) for a, b, c in runs]


def _slopes(eight: Tensor, hidden: Tensor, fresh: Tensor) -> tuple[Tensor, Tensor]:
    """Compute derivatives of the output state: for the gates before activation, `(N, 8, w)`; for both hidden states, `(N, 2, w)`."""
    tanh, sigmoid = torch.ops.aten.tanh_backward, torch.ops.aten.sigmoid_backward  # slope of the result × that of the activation
    reset, update, slope = eight[:, 2:4], eight[:, 4:6], torch.empty_like(eight)
    scratch = torch.sub(1, update)
    of_new = tanh(scratch, fresh, grad_input=slope[:, ::6])
    torch.mul(of_new, reset, out=slope[:, 1::6])
    sigmoid(torch.mul(of_new, eight[:, 1::6], out=scratch), reset, grad_input=slope[:, 2:4])
    sigmoid(torch.sub(hidden, fresh, out=scratch), update, grad_input=slope[:, 4:6])
    return slope, update.clone(memory_format=torch.contiguous_format)
