from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from erc_graph.conv.hypergraph import Hypergraph
from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.errors import ConfigError
from tests.conv.loops import HYPER, RECIPES, WIDTH, Node, by_node, make_batch, make_nodes, same

Set = tuple[int, tuple[Node, ...]]


def sets(conv: Hypergraph, nodes: Nodes, batch: Batch) -> list[Set]:
    """Kind and members of every hyperedge."""
    found: list[Set] = []
    streams, first = range(len(nodes.streams)), 0
    for rule in conv.recipe.hyperedges:
        for d in range(len(batch)):
            rows = range(int(batch.ptr[d]), int(batch.ptr[d + 1]))
            if rule.over == "stream":
                groups = [(first + s, [(i, s) for i in rows]) for s in streams]
            elif rule.over == "turn":
                groups = [(first, [(i, s) for s in streams]) for i in rows]
            else:
                who = {int(batch.speaker[i]) for i in rows}
                groups = [(first, [(i, s) for i in rows if batch.speaker[i] == speaker for s in streams]) for speaker in who]
            found += [(kind, tuple(node for node in group if nodes.present[node])) for kind, group in groups]
        first += len(streams) if rule.over == "stream" else 1
    return [one for one in found if one[1]]


def loop(conv: Hypergraph, nodes: Nodes, batch: Batch) -> Tensor:
    """The equations, hyperedge by hyperedge."""
    z = {(i, s): nodes.states[i, s] for i in range(batch.utterances) for s in range(len(nodes.streams)) if nodes.present[i, s]}
    one = torch.ones((), dtype=torch.float64)
    for layer, bias in enumerate(conv.bias):
        up: dict[Node, Tensor] = {node: torch.zeros(WIDTH).double() for node in z}
        down = dict.fromkeys(z, 0 * one)
        for kind, members in sets(conv, nodes, batch):
            weights = [one if conv.node_weight is None else conv.node_weight[layer, node[1]].exp() for node in members]
            mean = sum(weight * z[node] for weight, node in zip(weights, members, strict=True)) / sum(weights)
            omega = one if conv.edge_weight is None else conv.edge_weight[layer, kind].exp()
            for node in members:
                up[node], down[node] = up[node] + omega * mean, down[node] + omega
        z = {node: F.leaky_relu(up[node] / down[node] + bias) for node in z}
    return by_node(nodes, lambda node: z[node], WIDTH)


@pytest.mark.parametrize("streams", [None, 3])
@pytest.mark.parametrize("name", HYPER)
def test_equations(name: str, streams: int | None) -> None:
    conv = Hypergraph(WIDTH, WIDTH, HYPER[name], layers=2, streams=streams).double()
    for parameter in conv.parameters():
        torch.nn.init.normal_(parameter)
    batch = make_batch()
    nodes = make_nodes(batch)
    same(conv, nodes, batch, loop(conv, nodes, batch))


def test_pyg() -> None:
    from torch_geometric.nn import HypergraphConv

    conv = Hypergraph(WIDTH, WIDTH, HYPER["streams and turns"]).double()
    theirs = HypergraphConv(WIDTH, WIDTH).double()
    with torch.no_grad():
        theirs.lin.weight.copy_(torch.eye(WIDTH))
        theirs.bias.copy_(conv.bias.normal_()[0])
    batch = make_batch()
    nodes = make_nodes(batch)
    pairs = [(i * 3 + s, e) for e, (_, members) in enumerate(sets(conv, nodes, batch)) for i, s in members]
    expected = F.leaky_relu(theirs(nodes.masked().flatten(0, 1), torch.tensor(pairs).T)).view(*nodes.present.shape, WIDTH)
    assert torch.allclose(conv(nodes, batch).states[nodes.present], expected[nodes.present], atol=1e-10)


def test_impossible_ones_are_refused() -> None:
    with pytest.raises(ConfigError, match="width: expected 6, the width of the input states, found 4; put a linear layer before"):
        Hypergraph(WIDTH, 4, HYPER["speakers"])
    with pytest.raises(ConfigError, match=r"expected a table \[\[hyperedge\]\], found none; use a recipe with"):
        Hypergraph(WIDTH, WIDTH, RECIPES["complete"])
