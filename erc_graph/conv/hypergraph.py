r"""Hypergraph convolution: weighted means from nodes to hyperedges, and from hyperedges to nodes.

.. math::
    m_e = \frac{\sum_{v \in e} \gamma_v z_v}{\sum_{v \in e} \gamma_v} \qquad
    z_v \leftarrow \mathrm{LeakyReLU}_{0.01}\Big(\frac{\sum_{e \ni v} \omega_e m_e}{\sum_{e \ni v} \omega_e} + b_l\Big)

:math:`z_v` is the state of node `v` with weight :math:`\gamma_v`, :math:`m_e` is the message of hyperedge `e` with weight
:math:`\omega_e`, and `l` is the layer. With :math:`\omega = \gamma = 1`, this is the operator :math:`D^{-1} H B^{-1} H^\top z + b` of Bai
et al., "Hypergraph convolution and hypergraph attention", Pattern Recognition 2021. In PyG, it is called `HypergraphConv`, and has an
additional weight matrix. The hypergraph branch of M3NET (Chen et al., CVPR 2023) uses this operator. In the public code of M3NET, every
position of a hyperedge or node in the batch has its own learned ω or γ. Positions that do not occur in training keep the value 1. Here,
learned weights are positive. Every stream has its own γ. Every rule for hyperedges has its own ω; for rules with `over = "stream"`, every
stream has its own ω.

| symbol | attribute | shape |
|---|---|---|
| `b_l` | `bias[l]` | `(width,)` |
| `log ω` | `edge_weight[l]` | `(kinds,)` for the `kinds` values of ω |
| `log γ` | `node_weight[l]` | `(S,)` |
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from erc_graph.conv.base import Conv
from erc_graph.errors import ConfigError
from erc_graph.graphs.edges import Edges
from erc_graph.graphs.recipe import GraphRecipe


class Hypergraph(Conv):
    """Layers of hypergraph convolution over the hyperedges of a recipe.

    Args:
        inputs: Width of the input states.
        width: Width of the output states; must equal `inputs`.
        recipe: Graph recipe, of which only the hyperedges are used.
        layers: Number of layers.
        streams: Number of streams, needed for learned weights. If it is `None`, all weights are one.

    Raises:
        ConfigError: `width` differs from `inputs`, or the recipe has no hyperedges.
    """

    reads_hyperedges = True

    def __init__(self, inputs: int, width: int, recipe: GraphRecipe, *, layers: int = 1, streams: int | None = None) -> None:
        super().__init__(recipe)
        if inputs != width:
            raise ConfigError(
                f"Hypergraph: width: expected {inputs}, the width of the input states, found {width}; "
                "put a linear layer before this operator to change the width of the input states"
            )
        if not recipe.hyperedges:
            raise ConfigError(
                f"Hypergraph: graph recipe {recipe.name!r}: expected a table [[hyperedge]], found none; use a recipe with hyperedges"
            )
        self.width, self.past = width, self.back(layers)
        self.bias = nn.Parameter(torch.zeros(layers, width))
        kinds = [streams or 1 if rule.over == "stream" else 1 for rule in recipe.hyperedges]
        self.first_kind = list(accumulate(kinds, initial=0))
        self.edge_weight = nn.Parameter(torch.zeros(layers, self.first_kind.pop())) if streams is not None else None
        self.node_weight = nn.Parameter(torch.zeros(layers, streams)) if streams is not None else None

    def pass_on(self, x: Tensor, edges: Edges) -> Tensor:
        """Apply all layers: states `(N, S, width)` → `(N, S, width)` of `N` utterances with `S` nodes each."""
        z, hyper = x, edges.hyper
        none: Sequence[None] = [None] * len(self.bias)
        kind = torch.tensor(self.first_kind, device=x.device)[hyper.kind] + hyper.stream.clamp(min=0)  # (M,)
        of_edges = none if self.edge_weight is None else self.edge_weight.exp()[:, kind]  # (layers, M)
        of_nodes = none if self.node_weight is None else self.node_weight.exp()[:, None].expand(-1, *x.shape[:2])  # (layers, N, S)
        for bias, of_edge, of_node in zip(self.bias, of_edges, of_nodes, strict=True):
            z = F.leaky_relu(hyper.scatter(hyper.gather(z, of_node), of_edge) + bias)
        return z
