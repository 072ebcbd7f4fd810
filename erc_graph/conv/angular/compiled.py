"""The layers of `erc_graph.conv.angular.angular` in C (`compiled.c`): each thread computes all layers of some dialogues.

PyTorch divides every matrix product among its threads, which then wait for each other hundreds of times per training step. In the C code,
each thread computes all layers of a few dialogues at a time. The threads wait for each other only once per forward pass and once per
backward pass. The C code calls the BLAS of PyTorch for matrix products. The code in PyTorch (`erc_graph.conv.angular.block`) gives the same
values and gradients up to rounding errors, and is the reference in the tests. It is used instead of the C code if there is no compiler, on
a GPU, in data types other than float32, and under autocast.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.profiler import record_function

from erc_graph.conv.angular.layout import Layout
from erc_graph.conv.angular.written import LEAST, STEEP, rules_by_scope, scales
from erc_graph.conv.compiler import library, sgemm
from erc_graph.data.batch import Batch
from erc_graph.encoders.dropout import passes
from erc_graph.graphs.recipe import EdgeRule, GraphRecipe
from erc_graph.graphs.weights import SQUEEZE, TINY

SOURCE = Path(__file__).with_suffix(".c")
EVENT = "erc_graph::"  # what compiled passes are called in a profile starts with this
ALL = -1  # of the turns
FEW = 512  # rows that one worker has done before PyTorch has started its products
UNEVEN = 1.5  # times its share that a worker may have to do, measured
SPEAKERS = ("any", "same", "other")


def _fields(kind: type, *names: str) -> tuple[tuple[str, type], ...]:
    return tuple((name, kind) for name in names)


class _Rule(ctypes.Structure):
    """The C struct `Rule` of `compiled.c`: the options of an edge rule."""

    _fields_ = (*_fields(ctypes.c_int64, "past", "future", "loops", "speaker"), *_fields(ctypes.c_double, "angular", "unit"))


class _Task(ctypes.Structure):
    """The C struct `Task` of `compiled.c`: all sizes, settings and tensors of a call."""

    _fields_ = (
        *_fields(ctypes.c_void_p, "gemm"),
        *_fields(ctypes.c_int64, "threads", "dialogues", "streams", "inputs", "width", "depth", "residual", "rules"),
        *_fields(ctypes.c_double, "squeeze", "steep", "tiny", "least", "across_angular", "across_unit", "scale"),
        *_fields(ctypes.c_void_p, "theta", "ptr", "speaker", "within", "present", "seen", "states", "first", "bias", "matrices", "passed"),
        *_fields(ctypes.c_void_p, "kept", "inside", "mix", "root", "degree", "open", "output", "grad"),
        *_fields(ctypes.c_int64, "by_turn", "by_stream", "by_column"),
        *_fields(ctypes.c_void_p, "to_seen", "to_states", "to_weights", "others"),
    )


def _rule(rule: EdgeRule) -> _Rule:
    past, future = (ALL if turns is None else turns for turns in (rule.behind, rule.ahead))
    return _Rule(past, future, rule.self_loops, SPEAKERS.index(rule.speaker), *scales([rule]))


_allowed = True


def ready() -> bool:
    """Return whether the compiled code works on this machine; compile the C code first if necessary."""
    return _allowed and sgemm() is not None and library(SOURCE, "layers") is not None


@contextmanager
def without() -> Iterator[None]:
    """Switch the compiled C code off within a `with` block."""
    global _allowed
    before, _allowed = _allowed, False
    try:
        yield
    finally:
        _allowed = before


def fits(batch: Batch, seen: Tensor, states: Tensor, present: Tensor, weights: Sequence[Tensor]) -> bool:
    """Return whether the compiled code can process the batch and is faster than PyTorch.

    A batch with one long dialogue is faster in PyTorch, because all threads share each of its matrix products.

    Args:
        batch: The dialogues.
        seen: States from which the angular weights are computed.
        states: Input states.
        present: Presence of the nodes.
        weights: Weight `(w, v)` and bias of the first linear layer, from width `v` to `w`; then the matrix of every graph layer.
    """
    rows, turns, threads = states.shape[:-1], sum(batch.sizes), torch.get_num_threads()
    every = (seen, states, *weights)
    return (
        all(tensor.device.type == "cpu" for tensor in (*every, present, batch.ptr, batch.speaker))
        and all(tensor.dtype == torch.float32 for tensor in every)
        and present.dtype == torch.bool
        and seen.shape == states.shape == (*present.shape, weights[0].shape[1])
        and turns == len(batch.speaker) == rows[0] > 0
        and min(batch.sizes) >= 0
        and (rows.numel() <= FEW or max(batch.sizes) * threads <= UNEVEN * turns)
    )


@dataclass(frozen=True, eq=False)
class Plan:
    """Settings of the compiled layers, for the forward pass and the backward pass.

    Attributes:
        recipe: Graph recipe, the rules for the edges.
        batch: The dialogues.
        streams: `S`, number of streams.
        inputs: `v`, width of the input states.
        width: `w`, width of the layers.
        thetas: Weight `θ_l` of every layer.
        residual: Whether the output is concatenated with the input.
        dropout: Dropout rate before every layer, below 1.
    """

    recipe: GraphRecipe
    batch: Batch
    streams: int
    inputs: int
    width: int
    thetas: tuple[float, ...]
    residual: bool
    dropout: float

    def run(self, threads: int, tensors: Mapping[str, Tensor | None], grad: Tensor | None = None) -> None:
        """Run the forward pass over all dialogues or, if `grad` is given, the backward pass.

        Args:
            threads: Number of threads.
            tensors: Name of a field of the C struct `Task` → contiguous float32 tensor on the CPU; the tensors `present`, `passed` and
                `open` are bool.
            grad: `(N, S, ...)` gradient of the output, with any strides.

        Raises:
            MemoryError: a thread cannot allocate memory.
        """
        within, across = rules_by_scope(self.recipe)
        rules = (_Rule * len(within))(*map(_rule, within))
        theta = (ctypes.c_double * len(self.thetas))(*self.thetas)
        ptr = (ctypes.c_int64 * (len(self.batch.sizes) + 1))(*accumulate(self.batch.sizes, initial=0))
        across_angular, across_unit = scales(across)
        task = _Task(
            gemm=sgemm(),
            threads=threads,
            dialogues=len(self.batch.sizes),
            streams=self.streams,
            inputs=self.inputs,
            width=self.width,
            depth=len(self.thetas),
            residual=self.residual,
            rules=len(rules),
            squeeze=SQUEEZE,
            steep=STEEP,
            tiny=TINY,
            least=LEAST,
            across_angular=across_angular,
            across_unit=across_unit,
            scale=1 / (1 - self.dropout),
            theta=ctypes.addressof(theta),
            ptr=ctypes.addressof(ptr),
            within=ctypes.addressof(rules),
        )
        given = {**tensors, "speaker": self.batch.speaker.long().contiguous()}
        for name, tensor in given.items():
            setattr(task, name, None if tensor is None else tensor.data_ptr())
        if grad is not None:
            task.grad, (task.by_turn, task.by_stream, task.by_column) = grad.data_ptr(), grad.stride()
        compiled = library(SOURCE, "layers")
        assert compiled is not None  # `ready` was asked
        with record_function(f"{EVENT}{'layers' if grad is None else 'layers_backward'}"):
            failed = compiled.run(ctypes.byref(task), int(grad is not None))
        if failed:
            raise MemoryError("the graph convolution could not allocate memory for its layers; use smaller batches")


def _workers(dialogues: int) -> int:
    """Return the number of threads: one per dialogue, but at least 2, and at most the number of threads of PyTorch.

    If two or more OpenMP threads call the BLAS, the BLAS computes each product in one thread. If only one thread calls it, the BLAS starts
    threads of its own.
    """
    return min(torch.get_num_threads(), max(dialogues, 2))


def passing(layout: Layout, share: float, depth: int, width: int, like: Tensor) -> Tensor:
    """Draw the dropout masks of all layers, `(depth, N, S, w)` bool, with the same random numbers as the code in PyTorch."""
    passed = like.new_empty(depth, *like.shape[:-1], width, dtype=torch.bool)
    for piece in layout.pieces:
        for layer in passed:
            piece.put(passes((len(piece.node), width), share), layer)
    return passed


def layers(
    plan: Plan,
    matrices: Tensor,
    present: Tensor,
    passed: Tensor | None,
    seen: Tensor,
    states: Tensor,
    first: Tensor,
    bias: Tensor,
    weights: Sequence[Tensor],
) -> Tensor:
    """Compute all layers of `AngularConv` in C, for `N` utterances with `S` nodes each (one per stream).

    Args:
        plan: Graph, dialogues and settings.
        matrices: `(depth, 2 w, w)` matrices by which `[P h, h^0]` is multiplied: `θ_l W_l`, plus the factors that contain `1 - θ_l` on the
            diagonals of both halves.
        present: `(N, S)` bool, presence of the nodes.
        passed: `(depth, N, S, w)` bool, dropout masks; `None` without dropout.
        seen: `(N, S, v)` states from which the angular weights are computed.
        states: `(N, S, v)` input states, of width `v`.
        first: `(w, v)` weight of the first linear layer, of output width `w`.
        bias: `(w,)` bias of the first linear layer.
        weights: `(2 w, w)` matrix `W_l` of every layer, which receives the gradient.

    Returns:
        Output states `(N, S, w)`, or `(N, S, v + w)` if `plan.residual`.
    """
    return _CompiledLayers.apply(plan, matrices, present, passed, seen, states, first, bias, *weights)


class _CompiledLayers(Function):
    """The autograd function of `layers`."""

    @staticmethod
    def forward(
        ctx: Any,
        plan: Plan,
        matrices: Tensor,
        present: Tensor,
        passed: Tensor | None,
        seen: Tensor,
        states: Tensor,
        first: Tensor,
        bias: Tensor,
        *weights: Tensor,
    ) -> Tensor:
        """Compute the output states of `layers` in C."""
        ctx.alike = seen is states
        states = states.contiguous()
        (turns, streams, inputs), rows, width = states.shape, states.shape[:-1].numel(), len(first)
        tensors = {
            "matrices": matrices,
            "present": present.contiguous(),
            "passed": passed,
            "seen": states if ctx.alike else seen.contiguous(),
            "states": states,
            "first": first.contiguous(),
            "bias": bias.contiguous(),
            "kept": states.new_empty(len(weights), rows, width),
            "inside": states.new_empty(streams * sum(size * size for size in plan.batch.sizes)),
            "mix": states.new_empty(rows, streams),
            "root": states.new_empty(rows),
            "degree": states.new_empty(rows),
            "open": states.new_empty(rows, width, dtype=torch.bool),
        }
        output = states.new_empty(turns, streams, width + (inputs if plan.residual else 0))
        ctx.plan, ctx.names, ctx.threads = plan, tuple(tensors), _workers(len(plan.batch.sizes))
        plan.run(ctx.threads, {**tensors, "output": output})
        ctx.save_for_backward(*tensors.values())
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of `seen`, `states`, `first`, `bias` and `weights`, the last three as views of one tensor."""
        tensors = dict(zip(ctx.names, ctx.saved_tensors, strict=True))
        states, first, bias, matrices = (tensors[name] for name in ("states", "first", "bias", "matrices"))
        to_states = torch.empty_like(states)
        to_seen = None if not ctx.needs_input_grad[4] else to_states if ctx.alike else torch.zeros_like(states)
        parts = [first.numel(), bias.numel(), matrices.numel()]
        to_weights, others = states.new_zeros(sum(parts)), states.new_zeros(ctx.threads - 1, sum(parts))
        into = {"to_seen": to_seen, "to_states": to_states, "to_weights": to_weights, "others": others}
        ctx.plan.run(ctx.threads, {**tensors, **into}, grad)
        for other in others:
            to_weights.add_(other)
        to_first, to_bias, to_matrices = to_weights.split(parts)
        to_seen = None if ctx.alike else to_seen
        return None, None, None, None, to_seen, to_states, to_first.view_as(first), to_bias, *to_matrices.view_as(matrices)
