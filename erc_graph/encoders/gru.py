r"""Several GRUs over the same dialogues, computed together on a CPU: one batched matrix product per step for all modalities and directions.

Step `t` computes the states :math:`h'` of utterance `t` in all dialogues, from its input `x` and the state `h` of the preceding utterance:

.. math::
    r &= \sigma(W_r x + U_r h + b_r) \qquad z = \sigma(W_z x + U_z h + b_z) \\
    n &= \tanh(W_n x + b_n + r \odot (U_n h + c_n)) \qquad h' = (1 - z) \odot n + z \odot h

Equations and parameters are the same as in `torch.nn.GRU`. PyTorch needs a thousand small operations for a dialogue of fifty utterances;
most of the time is spent to start the operations. This module needs five operations per step in the forward pass and three in the backward
pass, for any number of GRUs. The products with the inputs, the derivatives of the gates and the gradients of the weights do not depend on
the preceding step. Therefore, this module computes these three outside the loop over steps. LSTMs need no special module, because PyTorch
computes LSTMs with the fast library oneDNN.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from erc_graph.data.batch import Batch


def usable(states: Tensor) -> bool:
    """Return whether `read` supports the states: they must be on a CPU, in single or double precision, without autocast."""
    return states.device.type == "cpu" and states.dtype in (torch.float32, torch.float64) and not torch.is_autocast_enabled("cpu")


def read(nets: Sequence[Sequence[nn.GRU]], states: Sequence[Tensor], batch: Batch) -> list[Tensor]:
    """Compute one layer of several GRUs of the same width.

    Args:
        nets: The GRUs of every stream (for example, a modality): a forward GRU and, if the stream is bidirectional, a backward GRU.
        states: `(N, inputs)` input of every stream, one vector per utterance.
        batch: The dialogues.

    Returns:
        `(N, directions × width)` output states of every stream.
    """
    flat = [net for directions in nets for net in directions]
    gates = [F.linear(rows, _joined(own, "weight_ih_l0"), _joined(own, "bias_ih_l0")) for rows, own in zip(states, nets, strict=True)]
    weight, bias = (torch.stack([getattr(net, name) for net in flat]) for name in ("weight_hh_l0", "bias_hh_l0"))
    place = _place(batch, len(nets), len(nets[0]))
    shape = (batch.longest, len(flat), len(batch))
    rows = (gates[0] if len(gates) == 1 else torch.cat(gates, 1)).view(place.numel(), -1)
    return list(_GRU.apply(rows, weight, bias, place, shape).view(len(gates[0]), len(nets), -1).unbind(1))


def _joined(nets: Sequence[nn.GRU], name: str) -> Tensor:
    return torch.cat([getattr(net, name) for net in nets])


def _place(batch: Batch, streams: int, directions: int) -> Tensor:
    """Return the index of each utterance and GRU in a flattened tensor `(L, nets, D)`: `(N × nets,)`.

    `L` is the number of steps and `nets` the number of GRUs. A backward GRU starts at the last utterance of each dialogue.
    """
    step = batch.turn[:, None]
    if directions == 2:
        step = torch.stack([batch.turn, batch.lengths[batch.dialogue] - 1 - batch.turn], 1).repeat(1, streams)
    nets = torch.arange(streams * directions, device=batch.device)
    return ((step * len(nets) + nets) * len(batch) + batch.dialogue[:, None]).flatten()


def _spread(rows: Tensor, place: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Convert vectors of utterances to padded dialogues: `(N × nets, k)` → `(L, nets, D, k)`. Steps without an utterance are zero."""
    turns, nets, dialogues = shape
    return rows.new_zeros(turns * nets * dialogues, rows.shape[1]).index_copy_(0, place, rows).view(*shape, -1)


def _of_weights(slope: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the gradients of weight `(nets, k, H)` and bias `(nets, k)`.

    Args:
        slope: `(L, nets, D, k)` gradients of the gates.
        before: `(L, nets, D, H)` states of the preceding steps.
    """
    slope = slope.transpose(0, 1).flatten(1, 2)
    return slope.transpose(1, 2) @ before.transpose(0, 1).flatten(1, 2), slope.sum(1)


class _GRU(Function):
    """The loop over steps, with its own backward pass: one vector `W x + b` per utterance and GRU → one state per utterance and GRU."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor, place: Tensor, shape: tuple[int, int, int]) -> Tensor:
        width, product = weight.shape[2], weight.transpose(1, 2)
        gates = _spread(rows, place, shape)
        new = gates[..., 2 * width :].clone()
        gates[..., : 2 * width] += bias[:, None, : 2 * width]
        gates[..., 2 * width :] = bias[:, None, 2 * width :]
        hidden = gates.new_zeros(shape[0] + 1, *shape[1:], width)
        open_, reset, update = gates[..., : 2 * width].unbind(0), gates[..., :width].unbind(0), gates[..., width : 2 * width].unbind(0)
        share, fresh, states = gates[..., 2 * width :].unbind(0), new.unbind(0), hidden.unbind(0)
        for t, gate in enumerate(gates.unbind(0)):
            gate.baddbmm_(states[t], product)
            open_[t].sigmoid_()
            fresh[t].addcmul_(reset[t], share[t]).tanh_()
            torch.lerp(fresh[t], states[t], update[t], out=states[t + 1])
        ctx.save_for_backward(gates, new, hidden, weight, place)
        return hidden[1:].flatten(0, 2).index_select(0, place)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        gates, new, hidden, weight, place = ctx.saved_tensors
        before = hidden[:-1]
        reset, update, share = gates.chunk(3, -1)
        of_new = (1 - update) * (1 - new * new)
        slope = torch.cat([of_new * share * reset * (1 - reset), (before - new) * update * (1 - update), of_new * reset], -1)
        back = _spread(outer, place, new.shape[:3])
        parts, whole, grad, keep = slope.unflatten(-1, (3, -1)).unbind(0), slope.unbind(0), back.unbind(0), update.unbind(0)
        for t in range(len(grad) - 1, -1, -1):
            parts[t].mul_(grad[t].unsqueeze(-2))
            if t:
                grad[t - 1].addcmul_(grad[t], keep[t]).baddbmm_(whole[t], weight)
        of_weight, of_bias = _of_weights(slope, before)
        slope[..., 2 * weight.shape[2] :] = back * of_new
        return slope.flatten(0, 2).index_select(0, place), of_weight, of_bias, None, None
