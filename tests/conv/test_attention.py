from __future__ import annotations

import pytest
import torch
from torch import Tensor

from erc_graph.conv.attention import Attention
from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.errors import ConfigError
from erc_graph.graphs.edges import Watch
from tests.conv.loops import RECIPES, WIDTH, Node, by_node, edges_by_loop, into, listed, make_batch, make_nodes, same


def loop(conv: Attention, nodes: Nodes, batch: Batch) -> Tensor:
    """The equations, node by node and head by head."""
    edges, d = edges_by_loop(conv.recipe, nodes, batch), conv.width // conv.heads

    def state(node: Node) -> Tensor:
        x, heard = nodes.states[node], into(edges, node)
        parts = []
        for head in range(conv.heads):
            own = slice(head * d, (head + 1) * d)
            if not heard:
                parts.append(torch.zeros(d).double())
                continue
            sent = [nodes.states[edge.source] for edge in heard]
            share = torch.stack([conv.query(x)[own] @ conv.key(y)[own] / d**0.5 for y in sent]).softmax(0)
            parts.append(sum(a * edge.scale * conv.value(y)[own] for a, y, edge in zip(share, sent, heard, strict=True)))
        return torch.cat(parts) + conv.skip(x)

    return by_node(nodes, state, conv.width)


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("name", RECIPES)
def test_equations(name: str, heads: int) -> None:
    conv = Attention(WIDTH, 4, RECIPES[name], heads=heads).double()
    batch = make_batch()
    nodes = make_nodes(batch)
    same(conv, nodes, batch, loop(conv, nodes, batch))


@pytest.mark.parametrize("name", ["complete", "speaker", "pairs", "own"])
def test_pyg(name: str) -> None:
    from torch_geometric.nn import TransformerConv

    conv = Attention(WIDTH, 4, RECIPES[name], heads=2).double()
    theirs = TransformerConv(WIDTH, 2, heads=2).double()
    for part in ("query", "key", "value", "skip"):
        getattr(theirs, f"lin_{part}").load_state_dict(getattr(conv, part).state_dict())
    batch = make_batch()
    nodes = make_nodes(batch)
    source, target, *_ = listed(conv.recipe, nodes, batch)
    expected = theirs(nodes.masked().flatten(0, 1), torch.stack([source, target])).view(*nodes.present.shape, 4)
    assert torch.allclose(conv(nodes, batch).states[nodes.present], expected[nodes.present], atol=1e-10)


def test_dropped_weights_are_not_shown() -> None:
    conv = Attention(WIDTH, 4, RECIPES["complete"], dropout=0.9).double()
    batch = make_batch()
    nodes = make_nodes(batch, absent=False)
    conv.watch = Watch()
    dropped = conv(nodes, batch).states
    conv.eval()
    assert not torch.allclose(conv(nodes, batch).states, dropped)
    first, second = conv.watch.record
    assert torch.allclose(first.weights, second.weights)
    assert torch.isclose(first.weights.sum(), torch.tensor(float(nodes.present.sum())).double())


def test_heads_divide_the_width() -> None:
    with pytest.raises(ConfigError, match="heads: expected a number that divides the width 4, found 3 attention heads"):
        Attention(WIDTH, 4, RECIPES["complete"], heads=3)
