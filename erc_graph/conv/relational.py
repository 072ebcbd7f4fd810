r"""Relational graph convolution: every relation has its own matrix.

.. math::
    y_i = W_0 x_i + b + \sum_r \frac{1}{c_{i,r}} \sum_{j \in N_r(i)} a_{ij} W_r x_j
    \qquad c_{i,r} = |N_r(i)| \text{ or } 1

:math:`x_i` is the input state and :math:`y_i` the output state of node `i`. The operator is from Schlichtkrull et al., "Modeling Relational
Data with Graph Convolutional Networks", ESWC 2018, Eq. (2); in PyG, it is called `RGCNConv`. :math:`N_r(i)` are the sources of the edges of
relation `r` into node `i`. The edge weights `a` are from Eq. (2) of DialogueGCN (Ghosal et al., EMNLP 2019); without weights, `a` is 1. If
the option `bases` is set, :math:`W_r = \sum_b c_{rb} B_b`, Eq. (3) of Schlichtkrull et al. With `attention`, the weights are
:math:`a_{ij} = \mathrm{softmax}_j(x_i^\top W_e x_j)`, Eq. (1) of DialogueGCN. If `attention` is `target`, the softmax is over all edges
into a target. If `attention` is `source`, the softmax is over all edges out of a source, as in the public code of DialogueGCN.

| symbol | attribute | shape |
|---|---|---|
| `W_r` | `weight` | `(relations, inputs, width)` |
| `B_b`, `c_rb` | `weight`, `coefficients` | `(bases, inputs, width)`, `(relations, bases)` |
| `W_0`, `b` | `root`; without `root`, only `b` in `bias` | `(width, inputs)`, `(width,)` |
| `W_e` | `attention` | `(inputs, inputs)`, stored as its transpose |
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from erc_graph.conv.base import Conv
from erc_graph.graphs.edges import Edges
from erc_graph.graphs.recipe import GraphRecipe


class Relational(Conv):
    """R-GCN, the relational graph convolution, along the edges of a graph.

    Args:
        inputs: Width of the input states.
        width: Width of the output states.
        recipe: The graph, with its relations.
        bases: Number of basis matrices that the relations share; `None`: one matrix per relation.
        norm: `mean`: divide by the number of edges of the relation into the target; `none`: do not divide.
        root: Whether the term `W_0 x_i + b` is added.
        bias: Without `root`, whether a bias is added.
        attention: `target`: softmax over the edges into a target; `source`: softmax over the edges out of a source, which is not causal;
            `none`: no softmax.
    """

    def __init__(
        self,
        inputs: int,
        width: int,
        recipe: GraphRecipe,
        *,
        bases: int | None = None,
        norm: Literal["mean", "none"] = "mean",
        root: bool = True,
        bias: bool = False,
        attention: Literal["none", "target", "source"] = "none",
    ) -> None:
        super().__init__(recipe)
        self.width, self.norm, self.over, relations = width, norm, attention, len(recipe.relations)
        self.causal = recipe.causal and attention != "source"  # no weight depends on edges to later turns
        self.weight = nn.Parameter(torch.empty(bases or relations, inputs, width))
        self.coefficients = nn.Parameter(torch.empty(relations, bases)) if bases else None
        self.root = nn.Linear(inputs, width) if root else None
        self.bias = nn.Parameter(torch.zeros(width)) if bias and not root else None
        self.attention = None if attention == "none" else nn.Linear(inputs, inputs, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the matrices from Glorot's uniform distribution, and set the bias to zero."""
        for matrix in (self.weight, self.coefficients, self.root.weight if self.root else None):
            if matrix is not None:
                bound = (6 / (matrix.shape[-1] + matrix.shape[-2])) ** 0.5
                nn.init.uniform_(matrix, -bound, bound)
        if self.root:
            nn.init.zeros_(self.root.bias)

    def score(self, x: Tensor, edges: Edges) -> Tensor:
        """Compute the attention scores before the softmax: `(1, P)` for `P` edges, including padding edges."""
        assert self.attention is not None
        return edges.dot(self.attention(x)[:, :, None], x[:, :, None])

    def attended(self, score: Tensor, edges: Edges) -> Tensor:
        """Compute the softmax of scores over the edges into a target or out of a source: `(1, P)` for `P` edges, with padding."""
        if self.over == "target":
            return edges.softmax(score)
        score = score.masked_fill(~edges.valid, -torch.inf)
        most = score.detach().max().clamp(min=torch.finfo(score.dtype).min) if score.numel() else 0.0
        power = (score - most).exp()
        total = edges.degree(power, outgoing=True).movedim(0, -1)  # (N, S, 1)
        return power * edges.add(torch.zeros_like(total), total.where(total > 0, 1.0).reciprocal())

    def pass_on(self, x: Tensor, edges: Edges, weight: Tensor | None = None) -> Tensor:
        """Compute `y` from states: `(N, S, inputs)` → `(N, S, width)`. Edge weights `weight`: `(1, P)`, with padding; `None`: all are 1."""
        weight = weight if self.attention is None else self.attended(self.score(x, edges), edges)
        matrices = self.weight if self.coefficients is None else torch.einsum("rb,bio->rio", self.coefficients, self.weight)
        if weight is None and self.norm == "mean" and edges.group is not None:
            heard = self._of_group(x, edges, edges.group, matrices[0])
            own = self.bias if self.root is None else self.root(x)
            return heard if own is None else own + heard
        sent = edges.spread(x, weight, by_relation=True, mean=self.norm == "mean")  # (N, S, relations, inputs)
        flat, matrix = sent.flatten(2), matrices.flatten(0, 1).T
        if self.root is None:
            return F.linear(flat, matrix, self.bias)
        # One product for a node's own state and all relations.
        return F.linear(torch.cat([x, flat], -1), torch.cat([self.root.weight, matrix], 1), self.root.bias)

    def _of_group(self, x: Tensor, edges: Edges, group: Tensor, matrix: Tensor) -> Tensor:
        """Compute the mean of the neighbours once for all nodes with the same neighbours: `(N, S, inputs)` → `(N, S, width)`."""
        flat, number = group.flatten(), edges.present.shape[1] * len(edges.batch)
        full = torch.promote_types(x.dtype, torch.float32)
        total = x.new_zeros(number, x.shape[-1], dtype=full).index_add(0, flat, x.flatten(0, 1).to(full))
        count = total.new_zeros(number).index_add(0, flat, edges.present.flatten().to(full)).clamp(min=1)
        mean = edges.recipe.edges[0].scale * total / count[:, None]
        return (mean.to(x.dtype) @ matrix)[flat].view(*x.shape[:-1], matrix.shape[-1])
