r"""One propagation over a conversation graph, computed in three ways that agree to rounding.

.. math:: P x = D^{-1/2} W D^{-1/2} x

with `W` the edge weights of a recipe (an edge points from source to target, `W[target, source]`) and `D` the in-degrees. A complete
angular graph has self-loops of weight one (less for states shorter than about 0.01), so that this is the renormalised Laplacian of Kipf
and Welling. With in-degrees on both sides a causal recipe stays causal: the degree of an earlier turn never counts a later one. A node
without incoming edges has degree zero and sends nothing; self-loops avoid that.

| method | how |
|---|---|
| `block` | batched matrix products per dialogue and stream; edges are never listed; across streams a mix of the streams per turn |
| `pyg` | gather and scatter over PyG edges |
| `dgl` | weighted sum over a DGL graph |
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from erc_graph.data.batch import Batch
from erc_graph.errors import ConfigError
from erc_graph.graphs.edges import merged_edges, rule_mask
from erc_graph.graphs.recipe import GraphRecipe
from erc_graph.graphs.weights import angular, directions

Method = Literal["block", "pyg", "dgl"]
Propagate = Callable[[Tensor], Tensor]


def _inverse_root(degree: Tensor) -> Tensor:
    """`degree^-1/2`, zero where a node has no edge."""
    return torch.where(degree > 0, degree.clamp(min=1e-12).rsqrt(), 0.0)


def _similarity(unit: Tensor) -> Tensor:
    """Angular similarity of all pairs: `(..., n, d)` directions → `(..., n, n)`.

    Never in half precision, where products of directions exceed one and arccos is lost: autocast is off here, and what TF32 leaves above
    one is cut.
    """
    with torch.autocast(unit.device.type, enabled=False):
        return angular((unit @ unit.transpose(-1, -2)).clamp_(-1, 1))


def block_propagation(recipe: GraphRecipe, batch: Batch, states: Tensor, present: Tensor) -> Propagate:
    """Propagation as batched matrix products.

    Args:
        recipe: Which edges exist and how they are weighted; edges across streams join the same turn.
        batch: The dialogues.
        states: `(N, S, d)` node states that the angular weights are taken from.
        present: `(N, S)` bool; an absent node has no edges.

    Returns:
        A function `(N, S, k)` → `(N, S, k)`.

    Raises:
        ConfigError: an edge rule across streams reaches other turns.
    """
    within = [rule for rule in recipe.edges if rule.scope == "within"]
    across = [rule for rule in recipe.edges if rule.scope == "across"]
    for rule in across:
        if rule.past != 0 or rule.future != 0:
            raise ConfigError(f"recipe {recipe.name}: relation {rule.relation!r} joins streams at other turns; use method 'pyg' or 'dgl'")
    unit = directions(states)
    here = present.to(unit.dtype)
    streams = states.shape[1]

    padded = batch.pad(unit).transpose(1, 2)  # (dialogues, streams, turns, d)
    similarity = _similarity(padded) if any(rule.weight == "angular" for rule in within) else padded.new_ones(())
    weights = padded.new_zeros(())
    speakers = batch.pad(batch.speaker)
    for rule in within:
        mask = rule_mask(rule, batch.lengths, speakers, batch.longest)[:, None].to(unit.dtype) * rule.scale
        weights = weights + (mask * similarity if rule.weight == "angular" else mask)
    there = batch.pad(here).transpose(1, 2)  # (dialogues, streams, turns)
    weights = weights * there[..., None] * there[..., None, :]  # (dialogues, streams, target turn, source turn)

    mix = unit.new_zeros(len(unit), streams, streams)  # (utterances, target stream, source stream)
    if across and streams > 1:
        others = 1 - torch.eye(streams, device=unit.device, dtype=unit.dtype)
        pairs = others * here[:, :, None] * here[:, None, :]
        cosine = _similarity(unit) if any(rule.weight == "angular" for rule in across) else 1.0
        for rule in across:
            mix = mix + pairs * rule.scale * (cosine if rule.weight == "angular" else 1.0)

    degree = mix.sum(-1) + (batch.unpad(weights.sum(-1).transpose(1, 2)) if within else 0.0)
    root = _inverse_root(degree)[..., None]  # (utterances, streams, 1)

    def propagate(x: Tensor) -> Tensor:
        y = root * x.to(root.dtype)
        spread = mix @ y
        if within:
            spread = spread + batch.unpad((weights @ batch.pad(y).transpose(1, 2)).transpose(1, 2))
        return (root * spread).to(x.dtype)

    return propagate


class _Edges:
    """Edges of one batch with their weights; nodes are numbered `stream * N + row`."""

    def __init__(self, recipe: GraphRecipe, batch: Batch, states: Tensor, present: Tensor) -> None:
        streams = {str(i): present[:, i] for i in range(states.shape[1])}
        (self.source, self.target), scale, is_angular = merged_edges(recipe, batch, streams)
        self.shape = states.shape[:2]
        unit = directions(self.flat(states))
        cosine = (unit[self.source] * unit[self.target]).sum(-1)
        self.weight = scale.to(unit.dtype) * torch.where(is_angular, angular(cosine), 1.0)
        degree = unit.new_zeros(len(unit)).index_add(0, self.target, self.weight)
        root = _inverse_root(degree)
        self.normalised = root[self.target] * self.weight * root[self.source]

    def flat(self, x: Tensor) -> Tensor:
        """`(N, S, k)` → `(S N, k)`."""
        return x.transpose(0, 1).flatten(0, 1)

    def unflat(self, x: Tensor) -> Tensor:
        """`(S N, k)` → `(N, S, k)`."""
        return x.view(self.shape[1], self.shape[0], -1).transpose(0, 1)

    @cached_property
    def index(self) -> Tensor:
        """`(2, E)` source and target."""
        return torch.stack([self.source, self.target])


def pyg_propagation(recipe: GraphRecipe, batch: Batch, states: Tensor, present: Tensor) -> Propagate:
    """Propagation over PyG edges by gather and scatter; same arguments as `block_propagation`."""
    from torch_geometric.nn import SimpleConv

    edges = _Edges(recipe, batch, states, present)
    conv = SimpleConv(aggr="sum")
    return lambda x: edges.unflat(conv(edges.flat(x).to(edges.normalised.dtype), edges.index, edges.normalised)).to(x.dtype)


def dgl_propagation(recipe: GraphRecipe, batch: Batch, states: Tensor, present: Tensor) -> Propagate:
    """Propagation over a DGL graph; same arguments as `block_propagation`."""
    from erc_graph.graphs.convert import import_dgl

    dgl = import_dgl()
    edges = _Edges(recipe, batch, states, present)
    graph = dgl.graph((edges.source, edges.target), num_nodes=edges.shape[0] * edges.shape[1])

    def propagate(x: Tensor) -> Tensor:
        with graph.local_scope():
            spread = dgl.ops.u_mul_e_sum(graph, edges.flat(x).to(edges.normalised.dtype).contiguous(), edges.normalised[:, None])
        return edges.unflat(spread).to(x.dtype)

    return propagate


METHODS: dict[str, Callable[[GraphRecipe, Batch, Tensor, Tensor], Propagate]] = {
    "block": block_propagation,
    "pyg": pyg_propagation,
    "dgl": dgl_propagation,
}
