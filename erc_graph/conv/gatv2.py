r"""Graph attention with the scores of GATv2 and learned vectors for the relations of the edges.

.. math::
    e_{ij} = a^\top \mathrm{LeakyReLU}_{0.2}(W_t x_i + W_s x_j + W_r r_{ij}) \qquad
    y_i = \frac1H \sum_{\text{heads}} \sum_j \mathrm{softmax}_{j \in N(i)}(e_{ij})\, W_s x_j + b

:math:`x_i` is the input state and :math:`y_i` the output state of node `i`; `N(i)` are the sources of the edges into node `i`. The operator
is from Brody et al., "How Attentive are Graph Attention Networks?", ICLR 2022. In PyG, it is called `GATv2Conv`; here, the output is the
mean of the heads. The vector :math:`r_{ii}` of a self-loop is the mean of the vectors of all other edges into node `i`. GraphCFC (Li et
al., IEEE TMM 2024) uses this operator.

| symbol | attribute | shape |
|---|---|---|
| `W_t`, `W_s` | `target`, `source` | `(heads × width, width)`, with biases |
| `W_r`, `r` | `relation`, `vectors` | `(heads × width, width)`, `(kinds, width)` for the `kinds` indices from the function `kinds_of` |
| `a` | `score` | `(heads, width)` |
| `b` | `bias` | `(width,)` |

The scores need one value per edge, head and channel. These values are not stored for the backward pass. On a CPU with a C compiler, the
file `gatv2.c` computes the scores in single precision. Otherwise, PyTorch computes the scores of one group of edges after another.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from erc_graph.conv.base import Conv
from erc_graph.conv.compiler import library
from erc_graph.graphs.edges import Edges
from erc_graph.graphs.recipe import GraphRecipe

SLOPE = 0.2
AT_ONCE = 2**17  # values of an edge, head and channel


def kinds_of(recipe: GraphRecipe) -> list[int]:
    """Return, for every relation, the index of its vector. Two relations of the same pair of speakers, in either order, share a vector.

    >>> from erc_graph.graphs.recipe import load_recipe
    >>> kinds_of(load_recipe("graphcfc"))
    [0, 1, 1, 2, 3]
    """
    found: dict[tuple[Any, ...], int] = {}
    pairs = [
        (rule.relation, *sorted(divmod(i, rule.pairs))) if rule.speaker == "pair" else (rule.relation,)
        for rule in recipe.edges
        for i in range(len(rule.relations))
    ]
    return [found.setdefault(pair, len(found)) for pair in pairs]


class GATv2(Conv):
    """GATv2 attention along the edges of a graph.

    Args:
        width: Width of the input states, of the output states, and of each head.
        recipe: Graph recipe, the rules for the edges.
        vectors: Embedding with one vector per index from `kinds_of`. The caller creates the embedding; several operators may share it.
        heads: Number of attention heads.
    """

    def __init__(self, width: int, recipe: GraphRecipe, vectors: nn.Embedding, *, heads: int = 1) -> None:
        super().__init__(recipe)
        self.width, self.heads, self.kinds = width, heads, kinds_of(recipe)
        self.shared = (vectors,)  # in a tuple it is no submodule
        self.target, self.source = (nn.Linear(width, heads * width) for _ in range(2))
        self.relation = nn.Linear(width, heads * width, bias=False)
        self.score, self.bias = nn.Parameter(torch.empty(heads, width)), nn.Parameter(torch.zeros(width))
        nn.init.xavier_uniform_(self.score)

    def pass_on(self, x: Tensor, edges: Edges) -> Tensor:
        """Apply attention along the edges: states `(N, S, width)` → `(N, S, width)` of `N` utterances with `S` nodes each."""
        into, out_of, kind, place = self._ends(edges)
        vectors = self.relation(self.shared[0].weight)  # (kinds, heads × width)
        itself = into == out_of
        count = vectors.new_zeros(edges.present.numel() * len(vectors))
        count = count.index_add(0, into * len(vectors) + kind, (~itself).to(count.dtype)).view(-1, len(vectors))
        mean = (count / count.sum(1, keepdim=True).clamp(min=1)) @ vectors  # of a node's other edges
        of_edges = torch.cat([vectors, mean])
        sent = self.source(x)
        target, source = (part.to(of_edges.dtype).flatten(0, 1) for part in (self.target(x), sent))
        score = edge_scores(target, source, of_edges, self.score, into, out_of, torch.where(itself, len(vectors) + into, kind))
        score = score.new_zeros(self.heads, len(edges.valid)).index_copy(1, place, score)
        return edges.spread(sent.unflatten(-1, (self.heads, -1)), edges.softmax(score)).mean(-2) + self.bias

    def _ends(self, edges: Edges) -> tuple[Tensor, ...]:
        """Return, for every edge, its target, its source, the index of its relation's vector, and its index in the mask `edges.valid`.

        The result is stored in the batch, and the next layer uses it again.
        """
        kept, key = edges.batch.kept, ("gatv2", self.recipe.edges)
        if key not in kept or kept[key][0] is not edges:
            place = edges.valid.nonzero()[:, 0]
            number = torch.arange(edges.present.numel(), device=place.device, dtype=torch.float64).view(*edges.present.shape, 1)
            none = torch.zeros_like(number)
            ends = [edges.add(*two)[0].round().long()[place] for two in ((number, none), (none, number))]
            kept[key] = edges, (*ends, torch.tensor(self.kinds, device=place.device)[edges.relation[place]], place)
        found: tuple[Tensor, ...] = kept[key][1]
        return found


def edge_scores(target: Tensor, source: Tensor, vectors: Tensor, score: Tensor, into: Tensor, out_of: Tensor, place: Tensor) -> Tensor:
    """Compute the attention score `a · LeakyReLU(target_i + source_j + vector_e)` of every edge and head: `(H, E)`.

    Args:
        target: `(nodes, heads × width)` term of the target, `W_t x_i`.
        source: `(nodes, heads × width)` term of the source, `W_s x_j`.
        vectors: `(kinds, heads × width)` terms of the relations, `W_r r`.
        score: `(heads, width)` weights `a`.
        into: `(E,)` index of the target node of every edge, a row of `target`.
        out_of: `(E,)` index of the source node of every edge, a row of `source`.
        place: `(E,)` index of the term of the relation of every edge, a row of `vectors`.
    """
    found: Tensor = _Score.apply(target, source, vectors, score, into, out_of, place)
    return found


class _Score(Function):
    """The autograd function of `edge_scores`."""

    @staticmethod
    def forward(
        ctx: Any, target: Tensor, source: Tensor, vectors: Tensor, score: Tensor, into: Tensor, out_of: Tensor, place: Tensor
    ) -> Tensor:
        saved = [part.contiguous() for part in (into, out_of, place, target, source, vectors, score)]
        ctx.save_for_backward(*saved)
        if (run := _compiled("forward", *saved)) is not None:
            return run(target.new_empty(len(score), len(into)))
        found = target.new_empty(len(into), len(score))
        for some in _parts(len(into), target.shape[1]):
            z = F.leaky_relu_(_sum(target, source, vectors, into[some], out_of[some], place[some]), SLOPE)
            torch.sum(z.view(-1, *score.shape).mul_(score), -1, out=found[some])
        return found.T

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        into, out_of, place, target, source, vectors, score = ctx.saved_tensors
        *slopes, to_score = (torch.zeros_like(value) for value in (target, source, vectors, score))
        if (run := _compiled("backward", *ctx.saved_tensors)) is not None:
            run(grad.contiguous(), *slopes, to_score)
            return *slopes, to_score, None, None, None
        given = grad.T[..., None]  # (E, H, 1)
        for some in _parts(len(into), target.shape[1]):
            z = _sum(target, source, vectors, into[some], out_of[some], place[some]).view(-1, *score.shape)
            above = given[some]
            to_score += (F.leaky_relu(z, SLOPE) * above).sum(0)
            back = torch.ops.aten.leaky_relu_backward(above * score, z, SLOPE, False).flatten(1)
            for slope, rows in zip(slopes, (into, out_of, place), strict=True):
                slope.index_add_(0, rows[some], back)
        return *slopes, to_score, None, None, None


def _compiled(name: str, *given: Tensor) -> Callable[..., Tensor] | None:
    """Return the function `name` of the compiled C library, with the inputs `given`; `None` if the library cannot be used.

    The returned function has as arguments the remaining inputs, then the output tensors. It returns the last output tensor.
    """
    (heads, width), edges = given[-1].shape, len(given[0])
    fits = all(part.device.type == "cpu" and part.dtype in (torch.float32, torch.int64) for part in given)
    if not fits or (found := library(Path(__file__).with_suffix(".c"), "scores")) is None:
        return None

    def run(*others: Tensor) -> Tensor:
        sizes = map(ctypes.c_int64, (torch.get_num_threads(), edges, heads, width))
        getattr(found, name)(*sizes, ctypes.c_float(SLOPE), *(ctypes.c_void_p(part.data_ptr()) for part in (*given, *others)))
        return others[-1]

    return run


def _parts(edges: int, width: int) -> list[slice]:
    step = max(AT_ONCE // width, 1)
    return [slice(first, first + step) for first in range(0, edges, step)]


def _sum(target: Tensor, source: Tensor, vectors: Tensor, into: Tensor, out_of: Tensor, place: Tensor) -> Tensor:
    return target.index_select(0, into).add_(source.index_select(0, out_of)).add_(vectors.index_select(0, place))
