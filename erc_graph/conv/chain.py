r"""A chain of linear graph convolutions; the output is the input plus one nonlinear layer per convolution.

.. math::
    F^0 = x \qquad F^k_i = \sum_{j \in N(i)} \frac{W_k F^{k-1}_j}{\sqrt{d_i d_j}} + b_k \qquad
    y = F^0 + \sum_{k=1}^K \mathrm{LeakyReLU}_{0.01}(U_k F^k + c_k)

`x` are the input states, `y` the output states, and `N(i)` the sources of the edges into node `i`. The operator is from the public code of
GraphSmile (Li et al., IEEE TPAMI 2025). The public code also learns an edge weight for every position of an edge in the batch. This
operator has no learned edge weights. :math:`d_i` is the in-degree of node `i`. There is no activation between the convolutions.

| symbol | attribute | shape |
|---|---|---|
| `W_k`, `b_k` | `maps[k - 1]`, `bias[k - 1]` | `(width, width)`, `(width,)` |
| `U_k`, `c_k` | `read[k - 1]` | `(width, width)`, `(width,)` |
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from erc_graph.conv.base import Conv
from erc_graph.encoders.dropout import Dropout
from erc_graph.graphs.edges import Edges
from erc_graph.graphs.recipe import GraphRecipe


class Chain(Conv):
    """A chain of linear convolutions over the graph of a recipe.

    Args:
        width: Width of the input and output states.
        recipe: Graph recipe, the rules for the edges.
        layers: Number of convolutions, `K`.
        dropout: Dropout rate of the output of every layer `U_k`, in training.
    """

    def __init__(self, width: int, recipe: GraphRecipe, *, layers: int = 1, dropout: float = 0.0) -> None:
        super().__init__(recipe)
        self.width, self.past = width, self.back(layers + 1)  # the degree of a source counts the edges into the source
        self.maps = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(layers))
        self.bias = nn.Parameter(torch.zeros(layers, width))
        self.read = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.dropout = Dropout(dropout)

    def weights(self, edges: Edges, dtype: torch.dtype) -> Tensor:
        """Return the edge weights `1 / sqrt(d_i d_j)` from the degrees of target and source: `(1, P)` for `P` edges, with padding."""
        (degree,) = edges.degree(edges.valid.to(dtype)[None])  # (N, S)
        root = degree.clamp(min=1e-12).rsqrt().where(degree > 0, 0.0)[..., None, None]
        return edges.dot(root, root)

    def pass_on(self, x: Tensor, edges: Edges) -> Tensor:
        """Apply all convolutions: states `(N, S, width)` → `(N, S, width)` of `N` utterances with `S` nodes each."""
        weight, y = self.weights(edges, x.dtype), x
        for matrix, bias, read in zip(self.maps, self.bias, self.read, strict=True):
            x = edges.spread(matrix(x), weight) + bias
            y = y + self.dropout(F.leaky_relu(read(x)))
        return y
