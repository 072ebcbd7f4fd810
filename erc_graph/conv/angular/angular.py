r"""Deep graph convolution with angular similarities as edge weights: GCNII layers (`erc_graph.methods.pairwise`, Eqs. (5), (10)).

.. math::
    h^0 &= \mathrm{ReLU}(x W_0 + b_0) \\
    h^{l} &= \mathrm{ReLU}\big((1 - \theta_l) ((1 - \alpha) P h^{l-1} + \alpha h^0) + \theta_l [P h^{l-1}, h^0] W_l\big),
    \quad \theta_l = \log(\lambda / l + 1)

`P` is the propagation of `erc_graph.conv.angular.propagation`. The edge weights are computed from the input states, once for all layers.
In training, `x` is the input after dropout, and every layer applies dropout to the states that it propagates. These layers are the variant
form of GCNII (Chen et al., "Simple and Deep Graph Convolutional Networks", ICML 2020), which Hu et al., "MMGCN", ACL 2021, use.

The basic form of GCNII is :math:`h^l = \mathrm{ReLU}(((1 - \alpha) P h^{l-1} + \alpha h^0)((1 - \theta_l) I + \theta_l W_l))` with a
square matrix :math:`W_l`. It is computed as the variant form with the matrix :math:`[(1 - \alpha) W_l ; \alpha W_l]`, which is equivalent.

With the option `gate`, the output :math:`g_l` of an LSTM cell is propagated instead of :math:`h^{l-1}`, as in the public code of Hu et al.,
"MM-DFN", ICASSP 2022. The cell processes the layers as a sequence: :math:`g_l, c_l = \mathrm{LSTM}(h^{l-1}; g_{l-1}, c_{l-1})`, with
:math:`g_0 = c_0 = 0`. Each layer then has a residual: :math:`h^l = h^{l-1} + \mathrm{ReLU}(\ldots)`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from erc_graph.conv.angular import compiled
from erc_graph.conv.angular.layout import Rows, in_buckets
from erc_graph.conv.angular.propagation import FORMS, in_blocks
from erc_graph.conv.angular.step import angular_step
from erc_graph.conv.angular.written import WrittenPropagation, accumulators, backward_in_full_precision, inverse_root
from erc_graph.conv.base import Conv
from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.encoders.dropout import Dropout, dropped
from erc_graph.errors import ConfigError, expect
from erc_graph.graphs.edges import Edges
from erc_graph.graphs.recipe import GraphRecipe


def shut(grad: Tensor, out: Tensor, into: Tensor) -> Tensor:
    """Compute the gradient of ReLU: write `grad` to `into` where the output `out` is positive, and zero elsewhere."""
    return torch.ops.aten.threshold_backward.grad_input(grad, out, 0, grad_input=into)


@dataclass(frozen=True, kw_only=True)
class AngularConvConfig:
    """Hyperparameters of the deep angular graph convolution.

    Attributes:
        depth: Number of layers.
        alpha: `α`, weight of the initial residual `h^0` in every layer.
        lambda_: `λ`, from which the weight of the matrix of layer `l` is computed: `θ_l = log(λ / l + 1)`.
        residual: Whether the output is concatenated with the input.
        variant: Whether the propagated states and the initial states `h^0` have separate matrices; if false, their weighted sum has one
            matrix.
        gate: Whether the outputs of an LSTM cell, which processes the layers as a sequence, are propagated instead of the states.
    """

    depth: int = 2
    alpha: float = 0.1
    lambda_: float = 0.5
    residual: bool = True
    variant: bool = True
    gate: bool = False

    @cached_property
    def thetas(self) -> tuple[float, ...]:
        """Return the weight `θ_l` of every layer."""
        return tuple(math.log(self.lambda_ / layer + 1) for layer in range(1, self.depth + 1))

    def __post_init__(self) -> None:
        expect(
            "AngularConvConfig",
            self,
            depth=(self.depth >= 1, "1 or more"),
            alpha=(0 <= self.alpha <= 1, "a number from 0 to 1"),
            lambda_=(self.lambda_ > 0, "a number above 0"),
        )


class AngularConv(Conv):
    """Deep angular graph convolution over the graphs of a batch of dialogues.

    Args:
        width: Width of the node states.
        recipe: Graph recipe, the rules for the edges.
        config: Hyperparameters.
        hidden: Width of the states `h^l` of the layers; default: `width`.
        dropout: Dropout rate before every layer, in training.

    Attributes:
        layout: `auto`, `tiled`, or a layout of `erc_graph.graphs.edges`: `list`, `blocks`, `dgl`. All layouts give the same result. `auto`
            uses compiled C code or batched matrix products of PyTorch. For long dialogues, `auto` uses `tiled`, which computes blocks of
            edge weights when needed and does not store them.

    Raises:
        ConfigError: a rule of the recipe has learned edge weights.
    """

    def __init__(
        self,
        width: int,
        recipe: GraphRecipe,
        config: AngularConvConfig | None = None,
        *,
        hidden: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(recipe)
        self.config = config = config or AngularConvConfig()
        self.inputs = width
        _refuse(recipe)
        # What is more than windows within streams, or joins streams at other turns, has no batched form.
        self.listed = any(not rule.windowed or (rule.scope == "across" and (rule.past, rule.future) != (0, 0)) for rule in recipe.edges)
        self.hidden = hidden = hidden or width
        self.first = nn.Linear(width, hidden)
        bound, rows = 1 / math.sqrt(hidden), hidden * (1 + config.variant)
        self.weights = nn.ParameterList(nn.Parameter(torch.empty(rows, hidden).uniform_(-bound, bound)) for _ in range(config.depth))
        self.gate = nn.LSTMCell(hidden, hidden) if config.gate else None
        self.dropout = Dropout(dropout)
        if config.gate or self.listed:
            self.past = self.back(config.depth + 1)  # the degree of a source counts the edges into the source

    @property
    def width(self) -> int:
        """Return the width of the output states."""
        return self.hidden + (self.inputs if self.config.residual else 0)

    @property
    def matrices(self) -> list[Tensor]:
        """Return the matrix `W_l` of every layer, `(2 hidden, hidden)`."""
        if self.config.variant:
            return list(self.weights)
        alpha = self.config.alpha
        return [torch.cat([(1 - alpha) * weight, alpha * weight]) for weight in self.weights]

    def forward(self, nodes: Nodes, batch: Batch) -> Nodes:
        """Apply all layers: `(N, S, inputs)` → `(N, S, width)` for `N` utterances with `S` nodes each; absent nodes get zeros."""
        if self.watch is not None or self.layout not in FORMS or self.listed:
            return super().forward(nodes, batch)
        return nodes.with_states(self._spread(nodes.masked(), nodes.present, batch))

    def pass_on(self, x: Tensor, edges: Edges) -> Tensor:
        """Compute all layers with the methods of `edges`. For the layouts `auto` and `tiled`, `forward` usually runs faster code."""
        is_angular = [rule.weight == "angular" for rule in self.recipe.edges for _ in rule.relations]
        dropped_out, weight = self.dropout(x), None
        if any(is_angular):
            weight = edges.angular(x)
            if not all(is_angular):
                weight = torch.where(edges.at_relation(torch.tensor(is_angular, device=x.device)), weight, 1.0)
        root = inverse_root(edges.degree(weight))[..., None]
        if root.ndim == 4:  # one head
            root = root[0]
        hidden = self._deep(torch.relu(self.first(dropped_out)), lambda sent: root * edges.spread(root * sent, weight))
        return torch.cat([dropped_out, hidden], -1) if self.config.residual else hidden

    def _deep(self, initial: Tensor, spread: Callable[[Tensor], Tensor]) -> Tensor:
        """Compute the output of the last layer from the states `h^0` (`initial`); the function `spread` multiplies states by `P`."""
        alpha, hidden, state = self.config.alpha, initial, None
        hidden = hidden if self.gate is None else self.dropout(hidden)
        for theta, matrix in zip(self.config.thetas, self.matrices, strict=True):
            if self.gate is None:
                sent = self.dropout(hidden)
            else:
                state = self.gate(hidden.flatten(0, -2), state)
                sent = state[0].view_as(hidden)
            heard = spread(sent)
            mixed = (1 - alpha) * heard + alpha * initial
            above = torch.relu((1 - theta) * mixed + theta * torch.cat([heard, initial], -1) @ matrix)
            hidden = above if self.gate is None else hidden + self.dropout(above)
        return hidden

    def step(self, nodes: Nodes, batch: Batch, memory: Any) -> tuple[Nodes, Any]:
        """Process the next utterance of a growing dialogue. Without the option `gate`, usually only one row of `P` is computed."""
        if self.listed or self.gate is not None:
            return super().step(nodes, batch, memory)
        states, memory = angular_step(self, nodes.masked(), nodes.present, batch, memory)
        return nodes.with_states(states), memory

    def _spread(self, states: Tensor, present: Tensor, batch: Batch) -> Tensor:
        x, recipe = self.dropout(states), self.recipe
        if self._can_be_compiled(states, x, present, batch):
            return self._all_layers(states, x, present, batch)
        propagation = FORMS[self.layout](recipe, batch, states, present)
        if (
            isinstance(propagation, WrittenPropagation)
            and self.gate is None
            and x.dtype == self.first.weight.dtype == propagation.parts[0].dtype
            and not autocast(x)
        ):
            share = self.dropout.p if self.training else 0.0
            first = self.first.weight, self.first.bias
            return _Layers.apply(propagation, self.config, share, x, present, *first, *self.matrices, *propagation.parts)
        hidden = propagation.back(self._deep(torch.relu(self.first(propagation.rows(x))), propagation.spread))
        output = torch.cat([x, hidden], -1) if self.config.residual else hidden
        return output * present[..., None].to(output.dtype)

    def _can_be_compiled(self, states: Tensor, x: Tensor, present: Tensor, batch: Batch) -> bool:
        return (
            self.layout == "auto"
            and self.gate is None
            and compiled.fits(batch, states, x, present, [self.first.weight, self.first.bias, *self.weights])
            and not autocast(x)
            and self.dropout.p < 1
            and in_blocks(self.recipe, batch, x.shape[1])
            and compiled.ready()
        )

    def _all_layers(self, states: Tensor, x: Tensor, present: Tensor, batch: Batch) -> Tensor:
        """Compute the output of `forward` with the compiled C code."""
        config, share = self.config, self.dropout.p if self.training else 0.0
        streams = x.shape[1]
        plan = compiled.Plan(self.recipe, batch, streams, self.inputs, self.hidden, config.thetas, config.residual, share)
        passed = compiled.passing(in_buckets(batch.sizes, streams, x.device), share, config.depth, self.hidden, x) if share else None
        weights = self.matrices
        with torch.no_grad():
            mixed = torch.stack(_mixed(config, weights))
        return compiled.layers(plan, mixed, present, passed, states, x, self.first.weight, self.first.bias, weights)


class _Layers(Function):
    """All layers, computed for one group of dialogues after another, so that intermediate results stay in the processor's cache.

    For the backward pass, the input states of every layer, after dropout, and the mask of the last ReLU are stored. The propagated states
    are computed again. Where an input state is positive, neither ReLU nor dropout has set it to zero.
    """

    @staticmethod
    def forward(
        ctx: Any,
        propagation: WrittenPropagation,
        config: AngularConvConfig,
        dropout: float,
        states: Tensor,
        present: Tensor,
        weight: Tensor,
        bias: Tensor,
        *rest: Tensor,
    ) -> Tensor:
        weights, parts = rest[: config.depth], rest[config.depth :]
        width, inputs = len(weight), states.shape[-1]
        matrices = [matrix.split(width) for matrix in _mixed(config, weights)]
        states = states.contiguous()
        here = present[..., None].to(states.dtype)
        output = states.new_empty(*states.shape[:-1], width + (inputs if config.residual else 0))
        if config.residual:
            torch.mul(states, here, out=output[..., :inputs])
        rows, depth = propagation.layout.rows, config.depth
        # (rows, layers, width), layers side by side in memory where they are spread at once in the backward pass
        kept = states.new_empty(rows, depth, width) if propagation.at_once else states.new_empty(depth, rows, width).transpose(0, 1)
        closed = torch.empty_like(kept[:, 0], dtype=torch.bool)
        for piece in propagation.layout.pieces:
            own = propagation.narrow(piece, parts)
            x = piece.take(states)
            layers = [*kept[piece.rows].unbind(1), x.new_empty(len(x), width)]
            initial = torch.addmm(bias, x, weight.T).relu_() if dropout else torch.addmm(bias, x, weight.T, out=layers[0]).relu_()
            if dropout:
                layers[0].copy_(initial)
            spread = Rows(piece, x if inputs == width else torch.empty_like(layers[-1]))  # what went in is not needed any more
            for (of_spread, of_initial), state, hidden in zip(matrices, layers[:-1], layers[1:], strict=True):
                if dropout:
                    dropped(state, dropout, inplace=True)
                propagation.apply(Rows(piece, state), own, spread)
                torch.mm(spread.rows, of_spread, out=hidden).addmm_(initial, of_initial).relu_()
            closed[piece.rows] = layers[-1] <= 0
            piece.put(layers[-1].mul_(piece.take(here)), output[..., -width:])
        ctx.propagation, ctx.config, ctx.dropout = propagation, config, dropout
        ctx.save_for_backward(states, here, weight, bias, kept, closed, *rest)
        return output

    @staticmethod
    @backward_in_full_precision
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        propagation, config, dropout = ctx.propagation, ctx.config, ctx.dropout
        states, here, weight, bias, kept, closed, *rest = ctx.saved_tensors
        weights, parts = rest[: config.depth], tuple(rest[config.depth :])
        matrices = [matrix.split(len(weight)) for matrix in _mixed(config, weights)]
        into = accumulators(parts, ctx.needs_input_grad[7 + config.depth :])
        to_states = torch.empty_like(states, memory_format=torch.contiguous_format)
        to_weight, to_bias, *to_weights = (torch.zeros_like(tensor) for tensor in (weight, bias, *weights))
        (width, inputs), scale = weight.shape, 1 / (1 - dropout) if dropout < 1 else 0.0
        for piece in propagation.layout.pieces:
            own, to_own = propagation.narrow(piece, parts), propagation.narrow(piece, into)
            above, given = piece.take(grad[..., -width:]).mul_(piece.take(here)).masked_fill_(closed[piece.rows], 0), kept[piece.rows]
            if propagation.at_once:
                spreads = torch.empty_like(given)
                propagation.apply(Rows(piece, given.flatten(1)), own, Rows(piece, spreads.flatten(1)))
            else:
                spread = Rows(piece, torch.empty_like(above))
            initial = torch.addmm(bias, piece.take(states), weight.T).relu_() if dropout else given[:, 0]
            to_initial, to_spread = torch.zeros_like(above), Rows(piece, torch.empty_like(above))
            to_hidden = Rows(piece, above)  # of a layer's input, and above the layer below: one tensor
            for layer in reversed(range(config.depth)):
                theta, (of_spread, of_initial) = config.thetas[layer], matrices[layer]
                state, (to_first, to_second) = Rows(piece, given[:, layer]), to_weights[layer].split(width)
                if propagation.at_once:
                    spread = Rows(piece, spreads[:, layer])
                else:
                    propagation.apply(state, own, spread)
                to_first.addmm_(spread.rows.T, above, alpha=theta)
                to_second.addmm_(initial.T, above, alpha=theta)
                torch.mm(above, of_spread.T, out=to_spread.rows)
                to_initial.addmm_(above, of_initial.T)
                propagation.pull(to_spread, state, spread, own, to_own, to_hidden)
                if propagation.at_once:
                    spread.rows.copy_(to_spread.rows)
                else:
                    propagation.pull_edges(to_spread, state, own, to_own)
                if layer or dropout:
                    shut(above, state.rows, above)
                if dropout:
                    above.mul_(scale)
            if propagation.at_once:
                propagation.pull_edges(Rows(piece, spreads.flatten(1)), Rows(piece, given.flatten(1)), own, to_own)
            shut(to_initial.add_(above), initial, to_initial)
            to_weight.addmm_(to_initial.T, piece.take(states))
            to_bias.add_(to_initial.sum(0))
            piece.put(torch.mm(to_initial, weight, out=above if inputs == width else None), to_states)
        if config.residual:
            to_states.addcmul_(grad[..., :inputs], here)
        return None, None, None, to_states, None, to_weight, to_bias, *to_weights, *into


def _mixed(config: AngularConvConfig, weights: Sequence[Tensor]) -> list[Tensor]:
    """Return, per layer, the matrix by which `[P h, h^0]` is multiplied: `θ W`, with the terms with `1 - θ` on the diagonals."""
    matrices = []
    for theta, weight in zip(config.thetas, weights, strict=True):
        matrix = theta * weight
        of_spread, of_initial = matrix.split(len(weight) // 2)
        of_spread.diagonal().add_((1 - theta) * (1 - config.alpha))
        of_initial.diagonal().add_((1 - theta) * config.alpha)
        matrices.append(matrix)
    return matrices


def _refuse(recipe: GraphRecipe) -> None:
    found = [f"the relation {rule.relation!r}, whose weights are learned" for rule in recipe.edges if rule.weight == "learned"]
    if found:
        raise ConfigError(f"graph recipe {recipe.name}: expected edges without learned weights, found {found[0]}; use another recipe")


def autocast(x: Tensor) -> bool:
    """Return whether autocast is enabled on the device of `x`."""
    return torch.is_autocast_enabled(x.device.type)
