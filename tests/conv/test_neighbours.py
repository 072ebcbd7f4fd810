from __future__ import annotations

import pytest
import torch
from torch import Tensor

from erc_graph.conv.neighbours import Neighbours
from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.graphs.edges import edges_of
from tests.conv.loops import RECIPES, WIDTH, Node, by_node, edges_by_loop, into, listed, make_batch, make_nodes, same


def loop(conv: Neighbours, nodes: Nodes, batch: Batch) -> Tensor:
    """The equations, node by node."""
    edges = edges_by_loop(conv.recipe, nodes, batch)

    def state(node: Node) -> Tensor:
        heard = into(edges, node)
        total = sum((edge.scale * nodes.states[edge.source] for edge in heard), torch.zeros(WIDTH).double())
        return conv.root(nodes.states[node]) + conv.neighbours(total / max(1, len(heard)) if conv.mean else total)

    return by_node(nodes, state, conv.width)


@pytest.mark.parametrize("mean", [False, True])
@pytest.mark.parametrize("name", RECIPES)
def test_equations(name: str, mean: bool) -> None:
    conv = Neighbours(WIDTH, 4, RECIPES[name], mean=mean).double()
    batch = make_batch()
    nodes = make_nodes(batch)
    same(conv, nodes, batch, loop(conv, nodes, batch))


@pytest.mark.parametrize("mean", [False, True])
def test_pyg(mean: bool) -> None:
    from torch_geometric.nn import GraphConv

    conv = Neighbours(WIDTH, 4, RECIPES["twice"], mean=mean).double()
    theirs = GraphConv(WIDTH, 4, aggr="mean" if mean else "add").double()
    theirs.lin_rel.load_state_dict(conv.neighbours.state_dict())
    theirs.lin_root.load_state_dict(conv.root.state_dict())
    batch = make_batch()
    nodes = make_nodes(batch)
    source, target, _, scale = listed(conv.recipe, nodes, batch)
    expected = theirs(nodes.masked().flatten(0, 1), torch.stack([source, target]), scale).view(*nodes.present.shape, 4)
    assert torch.allclose(conv(nodes, batch).states[nodes.present], expected[nodes.present], atol=1e-10)


def test_weights_of_a_caller() -> None:
    conv = Neighbours(WIDTH, 4, RECIPES["complete"]).double()
    batch = make_batch()
    nodes = make_nodes(batch)
    edges = edges_of(conv.recipe, nodes, batch)
    doubled = conv.pass_on(nodes.masked(), edges, 2 * edges.valid.double()[None])
    expected = conv.root(nodes.masked()) + conv.neighbours(2 * edges.spread(nodes.masked()))
    assert torch.allclose(doubled, expected, atol=1e-10)
