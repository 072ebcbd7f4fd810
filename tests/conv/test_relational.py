from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from erc_graph.conv.relational import Relational
from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.graphs.edges import edges_of
from tests.conv.loops import RECIPES, WIDTH, Node, by_node, edges_by_loop, into, listed, make_batch, make_nodes, of, rule, same

ATTENTION = {"root": False, "bias": True, "attention": "target"}


def loop(conv: Relational, nodes: Nodes, batch: Batch, weight: dict[tuple[Node, Node], Any] | None = None) -> Tensor:
    """The equations, node by node."""
    edges = edges_by_loop(conv.recipe, nodes, batch)
    if conv.attention is not None:
        power = [(conv.attention(nodes.states[edge.target]) @ nodes.states[edge.source]).exp() for edge in edges]
        number = [edge.times * (1 if conv.over == "target" else edge.scale) for edge in edges]
        total = {getattr(edge, conv.over): torch.zeros(()).double() for edge in edges}
        for edge, value, times in zip(edges, power, number, strict=True):
            total[getattr(edge, conv.over)] = total[getattr(edge, conv.over)] + times * value
        weight = {(e.source, e.target): value / total[getattr(e, conv.over)] for e, value in zip(edges, power, strict=True)}

    def state(node: Node) -> Tensor:
        total = torch.zeros(conv.width).double() if conv.bias is None else conv.bias
        if conv.root is not None:
            total = total + conv.root(nodes.states[node])
        for r in range(len(conv.recipe.relations)):
            if conv.coefficients is None:
                matrix = conv.weight[r]
            else:
                matrix = torch.stack([c * base for c, base in zip(conv.coefficients[r], conv.weight, strict=True)]).sum(0)
            heard = [edge for edge in into(edges, node) if edge.relation == r]
            for edge in heard:
                factor = edge.scale / (len(heard) if conv.norm == "mean" else 1)
                total = total + factor * (1 if weight is None else weight[edge.source, edge.target]) * (nodes.states[edge.source] @ matrix)
        return total

    return by_node(nodes, state, conv.width)


@pytest.mark.parametrize(
    "words", [{}, {"norm": "none"}, {"bases": 2}, {"root": False}, ATTENTION, {"norm": "none", "attention": "source"}], ids=str
)
@pytest.mark.parametrize("name", RECIPES)
def test_equations(name: str, words: dict[str, object]) -> None:
    conv = Relational(WIDTH, 4, RECIPES[name], **words).double()  # type: ignore[arg-type]
    batch = make_batch()
    nodes = make_nodes(batch)
    same(conv, nodes, batch, loop(conv, nodes, batch))


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_where_all_hear_all_a_dialogue_is_heard_once(scale: float) -> None:
    """Blocks average what all turns hear alike before the map; lists do not."""
    recipe = of(rule("context", None, None, scale=scale, times=2))
    conv, batch = Relational(WIDTH, 4, recipe).double(), make_batch()
    nodes = make_nodes(batch)
    assert edges_of(recipe, nodes, batch, layout="blocks").group is not None
    found = []
    for layout in ("blocks", "list"):
        conv.layout, states = layout, nodes.states.detach().clone().requires_grad_()  # type: ignore[assignment]
        out = conv(nodes.with_states(states), batch).states
        (out * torch.arange(out.numel()).view_as(out)).sum().backward()
        found.append((out, states.grad, conv.weight.grad))
        conv.weight.grad = None
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
    for other in (RECIPES["pairs"], of(rule("context", None, None, self_loops=False)), of(rule("context", 3, None))):
        assert edges_of(other, nodes, batch, layout="blocks").group is None


def test_weights_of_a_caller() -> None:
    conv = Relational(WIDTH, 4, RECIPES["speaker"]).double()
    batch = make_batch()
    nodes = make_nodes(batch)
    edges = edges_of(conv.recipe, nodes, batch)
    given = torch.randn(2, *nodes.present.shape, 1, 3, dtype=torch.float64)
    pairs = {
        (edge.source, edge.target): float((given[0][edge.target] * given[1][edge.source]).sum())
        for edge in edges_by_loop(conv.recipe, nodes, batch)
    }
    found = conv.pass_on(nodes.masked(), edges, edges.dot(*given))
    assert torch.allclose(found[nodes.present], loop(conv, nodes, batch, pairs)[nodes.present], atol=1e-10)


@pytest.mark.parametrize("bases", [None, 3])
def test_pyg(bases: int | None) -> None:
    from torch_geometric.nn import RGCNConv

    recipe = RECIPES["pairs"]
    conv = Relational(WIDTH, 4, recipe, bases=bases).double()
    theirs = RGCNConv(WIDTH, 4, len(recipe.relations), num_bases=bases).double()
    assert conv.root is not None
    with torch.no_grad():
        theirs.weight.copy_(conv.weight)
        theirs.root.copy_(conv.root.weight.T)
        theirs.bias.copy_(conv.root.bias.normal_())
        if conv.coefficients is not None:
            theirs.comp.copy_(conv.coefficients)
    batch = make_batch()
    nodes = make_nodes(batch)
    source, target, relation, _ = listed(recipe, nodes, batch)
    expected = theirs(nodes.masked().flatten(0, 1), torch.stack([source, target]), relation).view(*nodes.present.shape, 4)
    found = conv(nodes, batch).states
    assert torch.allclose(found[nodes.present], expected[nodes.present], atol=1e-10)


def test_what_goes_out_of_a_turn_is_known_later() -> None:
    past = of(rule("past", 3, 0))
    assert Relational(WIDTH, 4, past, attention="target").causal and not Relational(WIDTH, 4, past, attention="source").causal
