r"""Graph convolution with one matrix for all neighbours and one matrix for the node itself.

.. math::
    y_i = W_0 x_i + W \sum_{j \in N(i)} a_{ij} x_j + b \qquad \text{or the mean instead of the sum}

:math:`x_i` is the input state and :math:`y_i` the output state of node `i`; `N(i)` are the sources of the edges into node `i`. The operator
is from Morris et al., "Weisfeiler and Leman Go Neural", AAAI 2019; in PyG, it is called `GraphConv`. The second layer of DialogueGCN
(Ghosal et al., EMNLP 2019, Eq. (3)) is this operator without the edge weights :math:`a_{ij}`.

| symbol | attribute | shape |
|---|---|---|
| `W`, `b` | `neighbours` | `(width, inputs)`, `(width,)` |
| `W_0` | `root` | `(width, inputs)` |
"""

from __future__ import annotations

from torch import Tensor, nn

from erc_graph.conv.base import Conv
from erc_graph.graphs.edges import Edges
from erc_graph.graphs.recipe import GraphRecipe


class Neighbours(Conv):
    """Convolution with the sum or mean of all neighbours; relations are not distinguished.

    Args:
        inputs: Width of the input states.
        width: Width of the output states.
        recipe: Graph recipe, the rules for the edges.
        mean: Whether the sum is divided by the number of neighbours.
    """

    def __init__(self, inputs: int, width: int, recipe: GraphRecipe, *, mean: bool = False) -> None:
        super().__init__(recipe)
        self.width, self.mean = width, mean
        self.neighbours, self.root = nn.Linear(inputs, width), nn.Linear(inputs, width, bias=False)

    def pass_on(self, x: Tensor, edges: Edges, weight: Tensor | None = None) -> Tensor:
        """Compute `y` from states: `(N, S, inputs)` → `(N, S, width)`. Edge weights `weight`: `(1, P)`, with padding; `None`: all are 1."""
        return self.neighbours(edges.spread(x, weight, mean=self.mean)) + self.root(x)
