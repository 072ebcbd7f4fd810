r"""Propagation with a signed gate on every edge: the states of neighbours are added or subtracted.

.. math::
    y^0 = x \qquad y^k_i = r_i + \sum_{j \in N(i)} \tanh(g_k^\top [y^{k-1}_i ; y^{k-1}_j] + c_k) \frac{y^{k-1}_j}{\sqrt{d_i d_j}}

`x` are the input states, :math:`y^k` the states after layer `k`, and `N(i)` the sources of the edges into node `i`. The residual is
:math:`r_i = y^{k-1}_i` in the multi-frequency branch of M3NET (Chen et al., CVPR 2023), and :math:`r_i = \varepsilon x_i` in the contagion
graph of MF-EDM (Hwang et al., Interspeech 2026). The inertia graph of MF-EDM has no gate: 1 replaces the tanh. :math:`d_i` is the degree of
node `i`. An edge with multiplicity `n` counts as `n` edges in the sum and in the degree. A node with `d = 0` neither sends nor receives
messages. The layers have no weight matrix and no activation. The equations are those of the public code of M3NET and MF-EDM. The graph of
M3NET is symmetric, so in-degrees equal out-degrees.

| symbol | attribute | shape |
|---|---|---|
| `g_k` | `gate[k - 1]` | `(2, width)`: weights of the target, weights of the source |
| `c_k` | `bias[k - 1]` | `()` |
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from erc_graph.conv.base import Conv
from erc_graph.errors import ConfigError
from erc_graph.graphs.edges import Edges
from erc_graph.graphs.recipe import GraphRecipe


class Gated(Conv):
    """Layers of gated propagation over the graph of a recipe.

    Args:
        inputs: Width of the input states.
        width: Width of the output states; must equal `inputs`.
        recipe: Graph recipe, the rules for the edges.
        layers: `K`, number of layers.
        residual: Source of the residual: the input of the layer (`before`), or the input `x` of the first layer (`start`).
        share: `ε`, the factor by which the residual is multiplied.
        gate: Whether edges have gates.
        degree: Whether `d` is the in-degree (`in`) or the out-degree (`out`). Out-degrees count edges to later utterances, so the operator
            is then not causal.

    Raises:
        ConfigError: `width` differs from `inputs`.
    """

    def __init__(
        self,
        inputs: int,
        width: int,
        recipe: GraphRecipe,
        *,
        layers: int = 1,
        residual: Literal["before", "start"] = "before",
        share: float = 1.0,
        gate: bool = True,
        degree: Literal["in", "out"] = "in",
    ) -> None:
        super().__init__(recipe)
        if inputs != width:
            raise ConfigError(
                f"Gated: width: expected {inputs}, the width of the input states, found {width}; "
                "put a linear layer before this operator to change the width of the input states"
            )
        self.width, self.layers, self.residual, self.share, self.degree = width, layers, residual, share, degree
        self.gate = nn.Parameter(torch.empty(layers, 2, width).uniform_(-1, 1) / (2 * width) ** 0.5) if gate else None
        self.bias = nn.Parameter(torch.zeros(layers)) if gate else None
        self.past = self.back(layers + 1)  # the degree of a source counts the edges into the source
        self.causal = recipe.causal and degree == "in"  # no degree counts edges to later turns

    def pass_on(self, x: Tensor, edges: Edges) -> Tensor:
        """Apply all layers: states `(N, S, width)` → `(N, S, width)` of `N` utterances with `S` nodes each."""
        (degree,) = edges.degree(edges.valid.to(x.dtype)[None], outgoing=self.degree == "out")  # (N, S)
        root = degree.clamp(min=1e-12).rsqrt().where(degree > 0, 0.0)[..., None, None]
        norm = edges.dot(root, root)  # (1, P)
        y = x
        for k in range(self.layers):
            weight = norm
            if self.gate is not None and self.bias is not None:
                of_target, of_source = (y @ self.gate[k].T)[..., None, :].unbind(-1)  # (N, S, 1) each
                weight = edges.add(of_target + self.bias[k], of_source).tanh() * norm
            y = self.share * (y if self.residual == "before" else x) + edges.spread(y, weight)
        return y
