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

import torch
from torch import Tensor, nn

from erc_graph.conv.propagation import METHODS, Method
from erc_graph.data.batch import Batch
from erc_graph.errors import expect
from erc_graph.graphs.recipe import GraphRecipe


@dataclass(frozen=True, kw_only=True)
class AngularConvConfig:
    """Deep angular graph convolution.

    Attributes:
        depth: Number of layers.
        alpha: Share of the first state in every layer (initial residual).
        lambda_: Strength of the layer's own matrix; it fades with depth.
        residual: Put the states that went in beside the ones that come out.
        method: `block` (batched products), `pyg` or `dgl` (edges); all agree.
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
        self.dropout = nn.Dropout(dropout)

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
        propagate = self.propagation(recipe, batch, states, present)
        x = self.dropout(states)
        initial = hidden = torch.relu(self.first(x))
        for layer, weight in enumerate(self.weights, start=1):
            theta = math.log(self.config.lambda_ / layer + 1)
            spread = propagate(self.dropout(hidden))
            mixed = (1 - self.config.alpha) * spread + self.config.alpha * initial
            hidden = torch.relu(theta * torch.cat([spread, initial], -1) @ weight + (1 - theta) * mixed)
        output = torch.cat([x, hidden], -1) if self.config.residual else hidden
        return output * present[..., None].to(output.dtype)
