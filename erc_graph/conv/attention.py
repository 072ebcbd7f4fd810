r"""Multi-head graph attention with scaled dot products: the convolution of a graph Transformer.

.. math::
    a_{ij} = \mathrm{softmax}_{j \in N(i)} \frac{(W_q x_i + b_q) \cdot (W_k x_j + b_k)}{\sqrt d} \qquad
    y_i = \Big[\sum_j a_{ij} (W_v x_j + b_v)\Big]_{\text{heads}} + W_s x_i + b_s

:math:`x_i` is the input state and :math:`y_i` the output state of node `i`; `N(i)` are the sources of the edges into node `i`. The operator
is from Shi et al., "Masked Label Prediction", IJCAI 2021, Eqs. (3) and (4). In PyTorch Geometric (PyG), it is called `TransformerConv`;
here, the heads are concatenated and there are no edge features. COGMEN (Joshi et al., NAACL 2022) uses this operator. `d` is the dimension
of a head, and `P` is the number of edges, including padding edges.

| symbol | attribute | shape |
|---|---|---|
| `W_q`, `W_k`, `W_v`, `W_s` | `query`, `key`, `value`, `skip` | `(width, inputs)`, with biases `(width,)` |
| `a` | | `(heads, P)` |
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from erc_graph.conv.base import Conv
from erc_graph.encoders.dropout import dropped
from erc_graph.errors import ConfigError
from erc_graph.graphs.edges import Edges
from erc_graph.graphs.recipe import GraphRecipe


class Attention(Conv):
    """Dot-product attention along the edges of a graph.

    Args:
        inputs: Width of the input states.
        width: Width of the output: all heads, concatenated.
        recipe: Graph recipe, the rules for the edges.
        heads: Number of attention heads; a divisor of `width`.
        dropout: Dropout rate of the attention weights in training.

    Raises:
        ConfigError: the number of heads does not divide the width.
    """

    def __init__(self, inputs: int, width: int, recipe: GraphRecipe, *, heads: int = 1, dropout: float = 0.0) -> None:
        super().__init__(recipe)
        if width % heads:
            raise ConfigError(f"Attention: heads: expected a number that divides the width {width}, found {heads} attention heads")
        self.width, self.heads, self.dropout = width, heads, dropout
        self.query, self.key, self.value, self.skip = (nn.Linear(inputs, width) for _ in range(4))

    def pass_on(self, x: Tensor, edges: Edges) -> Tensor:
        """Apply attention along the edges: states `(N, S, inputs)` → `(N, S, width)` of `N` utterances with `S` nodes each."""
        shrink = (self.heads / self.width) ** 0.5  # 1 / √d
        weight = torch.cat([shrink * self.query.weight, self.key.weight, self.value.weight])
        bias = torch.cat([shrink * self.query.bias, self.key.bias, self.value.bias])
        parts = F.linear(x, weight, bias).unflatten(-1, (3, self.heads, -1))  # (N, S, 3, heads, d)
        drop = partial(dropped, share=self.dropout) if self.training and self.dropout else None
        return edges.attend(parts, drop).flatten(-2) + self.skip(x)
