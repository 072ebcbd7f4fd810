r"""Deep angular graph convolution: GCNII layers over a conversation graph with angular weights (MMGCN; pairwise fusion, Eqs. (5), (10)).

.. math::
    h^0 &= \mathrm{ReLU}(x W_0) \\
    h^{l} &= \mathrm{ReLU}\big((1 - \theta_l) ((1 - \alpha) P h^{l-1} + \alpha h^0) + \theta_l [P h^{l-1}, h^0] W_l\big),
    \quad \theta_l = \log(\lambda / l + 1)

`P` is the propagation of `erc_graph.conv.propagation`; its weights come from the states `x` and are the same in every layer.
Source: Chen et al., "Simple and Deep Graph Convolutional Networks", ICML 2020 (variant form), as used by Hu et al., "MMGCN", ACL 2021.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from erc_graph.conv.operator import WrittenPropagation, accumulators
from erc_graph.conv.propagation import METHODS, Method
from erc_graph.data.batch import Batch
from erc_graph.encoders.dropout import Dropout, dropped
from erc_graph.errors import expect
from erc_graph.graphs.recipe import GraphRecipe


def shut(grad: Tensor, out: Tensor, into: Tensor) -> Tensor:
    """`grad` where ReLU's output is positive, else zero, written to `into`."""
    return torch.ops.aten.threshold_backward.grad_input(grad, out, 0, grad_input=into)


@dataclass(frozen=True, kw_only=True)
class AngularConvConfig:
    """Deep angular graph convolution.

    Attributes:
        depth: Number of layers.
        alpha: Share of the first state in every layer (initial residual).
        lambda_: Strength of the layer's own matrix; it fades with depth.
        residual: Put the states that went in beside the ones that come out.
        method: `block` (batched products; tile by tile where dialogues are long), `tiled`, `pyg` or `dgl` (edges); all agree.
    """

    depth: int = 2
    alpha: float = 0.1
    lambda_: float = 0.5
    residual: bool = True
    method: Method = "block"

    def __post_init__(self) -> None:
        expect(
            "pipeline.conv",
            self,
            depth=(self.depth >= 1, "1 or more"),
            alpha=(0 <= self.alpha <= 1, "a number from 0 to 1"),
            lambda_=(self.lambda_ > 0, "a number above 0"),
            method=(self.method in METHODS, f"one of {', '.join(METHODS)}"),
        )


class AngularConv(nn.Module):
    """Deep angular graph convolution over the streams of a batch.

    Args:
        width: Width of the node states.
        config: Depth and mixing.
        dropout: Before every layer, in training.
    """

    def __init__(self, width: int, config: AngularConvConfig, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.config = config
        self.width = width
        self.propagation = METHODS[config.method]  # erc_graph.conv.explained puts another in its place
        self.first = nn.Linear(width, width)
        bound = 1 / math.sqrt(width)
        self.weights = nn.ParameterList(nn.Parameter(torch.empty(2 * width, width).uniform_(-bound, bound)) for _ in range(config.depth))
        self.dropout = Dropout(dropout)

    @property
    def output_width(self) -> int:
        """Width of the states that come out."""
        return self.width * (2 if self.config.residual else 1)

    def forward(self, states: Tensor, present: Tensor, batch: Batch, recipe: GraphRecipe) -> Tensor:
        """Spread the states over the graph.

        Args:
            states: `(N, S, width)` one node per utterance and stream.
            present: `(N, S)` bool.
            batch: The dialogues.
            recipe: The graph.

        Returns:
            `(N, S, output_width)`, zero for absent nodes.
        """
        propagation = self.propagation(recipe, batch, states, present)
        share = self.dropout.p if self.training else 0.0
        dropped = self.dropout(states) if share else states
        x = propagation.rows(dropped) if share else propagation.states
        matrices = self._matrices()
        if (
            isinstance(propagation, WrittenPropagation)
            and x.dtype == self.first.weight.dtype == propagation.parts[0].dtype
            and not autocast(x)
        ):
            hidden = _Layers.apply(propagation, share, len(matrices), x, self.first.weight, self.first.bias, *matrices, *propagation.parts)
        else:
            initial = hidden = torch.relu(self.first(x))
            for of_spread, of_initial in zip(matrices[::2], matrices[1::2], strict=True):
                spread = propagation.spread(self.dropout(hidden))
                hidden = torch.addmm(initial @ of_initial, spread, of_spread).relu_()
        hidden = propagation.back(hidden)
        output = torch.cat([dropped, hidden], -1) if self.config.residual else hidden
        return output.mul_(present[..., None].to(output.dtype))

    def _matrices(self) -> list[Tensor]:
        """Per layer what `P h` and what `h^0` are multiplied by; what is mixed in with `1 - θ` is in there and costs no pass of its own."""
        alpha, matrices = self.config.alpha, []
        same = torch.eye(self.width, device=self.first.weight.device, dtype=self.first.weight.dtype)
        for layer, weight in enumerate(self.weights, start=1):
            theta = math.log(self.config.lambda_ / layer + 1)
            for part, share in zip(weight.split(self.width), (1 - alpha, alpha), strict=True):
                matrices.append(torch.add(same * ((1 - theta) * share), part, alpha=theta))
        return matrices


class _Layers(Function):
    """All layers at once, with a backward pass of its own: fewer passes over the states, and less of them kept, than autograd needs.

    A state that is kept has been through dropout: where it is positive, ReLU was open and dropout let it pass.
    """

    @staticmethod
    def forward(
        ctx: Any, propagation: WrittenPropagation, dropout: float, count: int, x: Tensor, weight: Tensor, bias: Tensor, *rest: Tensor
    ) -> Tensor:
        matrices, parts = rest[:count], rest[count:]
        initial = torch.addmm(bias, x, weight.T).relu_()
        kept = [dropped(initial, dropout) if dropout else initial]
        spreads = []
        for of_spread, of_initial in zip(matrices[::2], matrices[1::2], strict=True):
            spread = propagation.apply(kept[-1], parts)
            hidden = torch.mm(spread, of_spread).addmm_(initial, of_initial).relu_()
            if dropout and len(kept) < count // 2:
                dropped(hidden, dropout, inplace=True)
            if propagation.keeps:
                spreads.append(spread)
            kept.append(hidden)
        ctx.propagation, ctx.dropout, ctx.count, ctx.keeps = propagation, dropout, count, len(spreads)
        ctx.save_for_backward(x, weight, initial, *kept, *spreads, *rest)
        return kept[-1]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        propagation, count, depth = ctx.propagation, ctx.count, ctx.count // 2
        x, weight, initial, *saved = ctx.saved_tensors
        kept, spreads, rest = saved[: depth + 1], saved[depth + 1 : depth + 1 + ctx.keeps], saved[depth + 1 + ctx.keeps :]
        matrices, parts = rest[:count], tuple(rest[count:])
        into = accumulators(parts, ctx.needs_input_grad[6 + count :])
        passed = 1 / (1 - ctx.dropout) if ctx.dropout < 1 else 0.0
        to_matrices: list[Tensor] = []
        to_initial = torch.zeros_like(initial)
        for layer in reversed(range(depth)):
            last = layer == depth - 1  # the gradient that came in is not ours to overwrite
            grad = shut(grad, kept[layer + 1], torch.empty_like(grad, memory_format=torch.contiguous_format) if last else grad)
            if ctx.dropout and not last:
                grad.mul_(passed)
            of_spread, of_initial = matrices[2 * layer : 2 * layer + 2]
            spread = spreads[layer] if spreads else propagation.apply(kept[layer], parts)
            to_matrices[:0] = [spread.T @ grad, initial.T @ grad]
            to_initial.addmm_(grad, of_initial.T)
            grad = propagation.pull(grad @ of_spread.T, kept[layer], spread, parts, into)
        if ctx.dropout:
            grad = shut(grad, kept[0], grad).mul_(passed)
        to_initial = shut(to_initial.add_(grad), initial, to_initial)
        return None, None, None, to_initial @ weight, to_initial.T @ x, to_initial.sum(0), *to_matrices, *into


def autocast(x: Tensor) -> bool:
    """Whether products on the device of `x` are to be taken in lower precision."""
    return torch.is_autocast_enabled(x.device.type)
