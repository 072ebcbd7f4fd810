from __future__ import annotations

import pytest
import torch
from torch import Tensor

from erc_graph.conv.gated import Gated
from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.errors import ConfigError
from tests.conv.loops import RECIPES, WIDTH, by_node, edges_by_loop, listed, make_batch, make_nodes, same


def loop(conv: Gated, nodes: Nodes, batch: Batch) -> Tensor:
    """The equations, layer by layer and edge by edge."""
    edges = edges_by_loop(conv.recipe, nodes, batch)
    here = [(i, s) for i in range(batch.utterances) for s in range(len(nodes.streams)) if nodes.present[i, s]]
    degree = dict.fromkeys(here, 0.0)
    for edge in edges:
        degree[edge.target if conv.degree == "in" else edge.source] += edge.scale * edge.times
    start = {node: nodes.states[node] for node in here}
    y = start
    for k in range(conv.layers):
        new = {node: conv.share * (y if conv.residual == "before" else start)[node] for node in here}
        for edge in edges:
            both = degree[edge.source] * degree[edge.target]
            if not both:
                continue
            factor = torch.tensor(edge.scale * edge.times / both**0.5, dtype=torch.float64)
            if conv.gate is not None and conv.bias is not None:
                gates = torch.cat([*conv.gate[k]])
                factor = factor * torch.tanh(gates @ torch.cat([y[edge.target], y[edge.source]]) + conv.bias[k])
            new[edge.target] = new[edge.target] + factor * y[edge.source]
        y = new
    return by_node(nodes, lambda node: y[node], WIDTH)


@pytest.mark.parametrize(
    "words",
    [{}, {"layers": 3, "residual": "start", "share": 0.7, "degree": "out"}, {"layers": 2, "gate": False, "residual": "start"}],
    ids=str,
)
@pytest.mark.parametrize("name", RECIPES)
def test_equations(name: str, words: dict[str, object]) -> None:
    conv = Gated(WIDTH, WIDTH, RECIPES[name], **words).double()  # type: ignore[arg-type]
    if conv.bias is not None:
        torch.nn.init.normal_(conv.bias)
    batch = make_batch()
    nodes = make_nodes(batch)
    expected = loop(conv, nodes, batch)
    if words.get("gate", True):
        same(conv, nodes, batch, expected)
    else:
        assert not list(conv.parameters())
        assert torch.allclose(conv(nodes, batch).states, expected, atol=1e-10)


def test_pyg() -> None:
    """FAConv has this gate without a bias, over edges that count once."""
    from torch_geometric.nn import FAConv

    conv = Gated(WIDTH, WIDTH, RECIPES["speaker"], residual="start", share=0.3).double()
    theirs = FAConv(WIDTH, eps=0.3, add_self_loops=False).double()
    assert conv.gate is not None
    with torch.no_grad():
        theirs.att_r.weight.copy_(conv.gate[0, :1])
        theirs.att_l.weight.copy_(conv.gate[0, 1:])
    batch = make_batch()
    nodes = make_nodes(batch)
    source, target, *_ = listed(conv.recipe, nodes, batch)
    x = nodes.masked().flatten(0, 1)
    expected = theirs(x, x, torch.stack([source, target])).view_as(nodes.states)
    assert torch.allclose(conv(nodes, batch).states[nodes.present], expected[nodes.present], atol=1e-10)


def test_degrees_of_what_goes_out_are_known_later() -> None:
    past = RECIPES["speaker"].past_only()
    assert Gated(WIDTH, WIDTH, past).causal and not Gated(WIDTH, WIDTH, past, degree="out").causal


def test_another_width_is_refused() -> None:
    with pytest.raises(ConfigError, match="width: expected 6, the width of the input states, found 4; put a linear layer before"):
        Gated(WIDTH, 4, RECIPES["complete"])
