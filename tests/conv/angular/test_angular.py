from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from erc_graph.conv.angular.angular import AngularConv, AngularConvConfig
from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.encoders.turns import dialogue_of
from erc_graph.errors import ConfigError
from erc_graph.graphs.edges import edges_of
from erc_graph.graphs.recipe import GraphRecipe, HyperedgeRule, list_recipes, load_recipe
from tests.conv.loops import edges_by_loop, of, rule

RECIPE = load_recipe("pairwise")


def windowed(recipe: GraphRecipe) -> bool:
    """Whether all rules are plain windows, so that the recipe has every form."""
    return not recipe.hyperedges and all(rule.windowed for rule in recipe.edges)


WINDOWED = [name for name in list_recipes() if windowed(load_recipe(name))]
LAYOUTS = ("auto", "tiled", "list", "blocks", "dgl")
STREAMS = ("audio", "text", "visual")


def operator(
    width: int,
    recipe: GraphRecipe = RECIPE,
    config: AngularConvConfig | None = None,
    *,
    hidden: int | None = None,
    dropout: float = 0.0,
    layout: str = "auto",
) -> AngularConv:
    """The operator with its edges held in a certain way."""
    if layout == "dgl":
        pytest.importorskip("dgl")
    conv = AngularConv(width, recipe, config, hidden=hidden, dropout=dropout)
    conv.layout = layout  # type: ignore[assignment]
    return conv


def ask(conv: AngularConv, states: Tensor, present: Tensor, batch: Batch) -> Tensor:
    """What the operator says of `(N, S, width)` states."""
    return conv(Nodes(states, present, STREAMS[: states.shape[1]]), batch).states


def make_batch(*lengths: int) -> Batch:
    length = torch.tensor(lengths)
    rows = int(length.sum())
    return Batch(
        ptr=torch.cat([length.new_zeros(1), length.cumsum(0)]),
        speaker=torch.arange(rows) % 2,
        target=torch.zeros(rows, dtype=torch.long),
        judged=torch.ones(rows, dtype=torch.bool),
        row=torch.arange(rows),
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"depth": 0}, r"AngularConvConfig\.depth: expected 1 or more, found 0"),
        ({"alpha": 1.5}, r"AngularConvConfig\.alpha: expected a number from 0 to 1, found 1\.5"),
        ({"alpha": float("nan")}, r"AngularConvConfig\.alpha: expected a number from 0 to 1, found nan"),
        ({"lambda_": 0}, r"AngularConvConfig\.lambda_: expected a .*number.*, found 0"),
    ],
)
def test_impossible_values_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        AngularConvConfig(**values)


def test_all_impossible_values_at_once() -> None:
    with pytest.raises(ConfigError, match=r"(?s)Config\.depth.*Config\.alpha.*Config\.lambda_"):
        AngularConvConfig(depth=-1, alpha=2, lambda_=0)


@pytest.mark.parametrize("residual", [True, False])
def test_width_and_what_stands_where(residual: bool) -> None:
    batch, states, present = make_batch(4, 2), torch.randn(6, 2, 3), torch.ones(6, 2, dtype=torch.bool)
    present[2, 1] = False
    conv = operator(3, config=AngularConvConfig(residual=residual))
    output = ask(conv, states, present, batch)
    assert conv.width == output.shape[-1] == (6 if residual else 3)
    assert (output[~present] == 0).all()
    assert (output[..., -3:] >= 0).all()  # ReLU
    if residual:
        assert torch.equal(output[present][:, :3], states[present])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("hidden", [2, 5])
@pytest.mark.parametrize("variant", [True, False])
def test_layers_of_another_width_and_form_against_the_equations(variant: bool, hidden: int, layout: str) -> None:
    batch, states, present = make_batch(4, 2), torch.randn(6, 2, 3, dtype=torch.float64, requires_grad=True), torch.rand(6, 2) < 0.8
    config = AngularConvConfig(depth=3, alpha=0.3, variant=variant)
    conv = operator(3, config=config, hidden=hidden, layout=layout).double()
    assert [tuple(weight.shape) for weight in conv.weights] == [(2 * hidden if variant else hidden, hidden)] * 3
    nodes = Nodes(torch.where(present[..., None], states, 0.0), present, STREAMS[:2])
    edges = edges_of(RECIPE, nodes, batch, layout="list")
    weight = edges.angular(nodes.states)
    root = edges.degree(weight)[0, ..., None].clamp(min=1e-12).rsqrt() * present[..., None]
    first = h = torch.relu(conv.first(nodes.states))
    for theta, matrix in zip(config.thetas, conv.weights, strict=True):
        k = root * edges.spread(root * h, weight)
        mixed = 0.7 * k + 0.3 * first
        h = torch.relu((1 - theta) * mixed + theta * (torch.cat([k, first], -1) if variant else mixed) @ matrix)
    expected = torch.cat([nodes.states, h], -1) * present[..., None]
    found = ask(conv, states, present, batch)
    assert conv.width == found.shape[-1] == 3 + hidden
    torch.testing.assert_close(found, expected)
    grad = torch.randn_like(found)
    ours, theirs = (torch.autograd.grad(value, [states, *conv.parameters()], grad) for value in (found, expected))
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("depth", [1, 3, 8])
def test_depth_is_the_number_of_layers_that_are_used(depth: int) -> None:
    batch, states, present = make_batch(4, 2), torch.randn(6, 2, 3), torch.ones(6, 2, dtype=torch.bool)
    conv = operator(3, config=AngularConvConfig(depth=depth))
    assert len(conv.weights) == depth
    ask(conv, states, present, batch).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in conv.parameters())


def test_a_deeper_causal_graph_reaches_further() -> None:
    """A window of one turn back: after l layers a turn hears l turns back, and no more."""
    window = replace(RECIPE, edges=tuple(replace(r, past=1, future=0) if r.scope == "within" else r for r in RECIPE.edges))
    batch, present = make_batch(6), torch.ones(6, 1, dtype=torch.bool)
    for depth in (1, 2, 3):
        states = torch.rand(6, 1, 3).requires_grad_()
        conv = operator(3, window, AngularConvConfig(depth=depth, residual=False))
        with torch.no_grad():
            for parameter in conv.parameters():
                parameter.abs_()  # so that no ReLU closes the way
        ask(conv, states, present, batch)[5].sum().backward()
        assert states.grad is not None
        heard = (states.grad.abs().sum((1, 2)) > 0).nonzero().flatten().tolist()
        # The degree of the furthest sender counts one turn more.
        assert heard == list(range(5 - depth - 1, 6))


def test_everything_from_the_first_state_makes_layers_blind_to_the_graph_but_for_their_matrix() -> None:
    batch, states, present = make_batch(4), torch.randn(4, 1, 3), torch.ones(4, 1, dtype=torch.bool)
    conv = operator(3, config=AngularConvConfig(depth=1, alpha=1.0, residual=False))
    with torch.no_grad():
        conv.weights[0][:3] = 0  # the part that reads P h
    alone = torch.cat([ask(conv, states[i : i + 1], present[i : i + 1], make_batch(1)) for i in range(4)])
    torch.testing.assert_close(ask(conv, states, present, batch), alone)


def test_dropout_only_in_training() -> None:
    batch, states, present = make_batch(4, 2), torch.randn(6, 2, 8), torch.ones(6, 2, dtype=torch.bool)
    conv = operator(8, dropout=0.5)
    assert not torch.equal(ask(conv, states, present, batch), ask(conv, states, present, batch))
    conv.eval()
    assert torch.equal(ask(conv, states, present, batch), ask(conv, states, present, batch))


CASES = {
    "random": lambda random: random,
    "same": lambda random: random[:1, :1].expand_as(random),
    "opposite": lambda random: random[:1, :1] * torch.tensor([[1.0, -1.0], [-1.0, 1.0], [1.0, 1.0]])[..., None],
    "zero": lambda random: torch.cat([0 * random[:1], random[1:]]),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("layout", ["auto", "tiled", "list"])
def test_gradients_are_those_of_finite_differences(layout: str, case: str) -> None:
    """In float64, at cosines of ±1 and with zero vectors too. ReLUs are kept away from their corner by a bias."""
    batch, present = make_batch(2, 1), torch.ones(3, 2, dtype=torch.bool)
    present[1, 1] = False
    conv = operator(3, layout=layout).double()
    with torch.no_grad():
        for parameter in conv.parameters():
            parameter.abs_()
        conv.first.bias += 4.0
    states = CASES[case](torch.randn(3, 2, 3, dtype=torch.float64)).clone().requires_grad_()

    def asked(states: Tensor, *parameters: Tensor) -> Tensor:
        return ask(conv, states, present, batch)

    # A zero state turns within 1e-4 (the root of `TINY`) from cosine 0 to any other: the step must be far below that.
    assert torch.autograd.gradcheck(asked, (states, *conv.parameters()), eps=1e-8, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_agree(layout: str) -> None:
    batch, states, present = make_batch(4, 2), torch.randn(6, 2, 3), torch.ones(6, 2, dtype=torch.bool)
    first, other = operator(3), operator(3, layout=layout)
    other.load_state_dict(first.state_dict())
    torch.testing.assert_close(ask(other, states, present, batch), ask(first, states, present, batch))


@pytest.mark.parametrize("layout", ["auto", "tiled"])
def test_states_and_gradients_that_do_not_lie_in_one_block(layout: str) -> None:
    """Strided states, and the gradient of a sum, which is one number seen many times."""
    batch, present = make_batch(4, 2), torch.ones(6, 2, dtype=torch.bool)
    conv = operator(3, layout=layout).double()
    wide = torch.randn(2, 6, 7, dtype=torch.float64)
    gradients = []
    for states in (wide.transpose(0, 1)[..., 1:4], wide.transpose(0, 1)[..., 1:4].contiguous()):
        for weight in (None, torch.ones(6, 2, 6, dtype=torch.float64)):
            leaf = states.detach().requires_grad_()
            assert leaf.is_contiguous() is states.is_contiguous()
            output = ask(conv, leaf, present, batch)
            (output.sum() if weight is None else (output * weight).sum()).backward()
            gradients.append(leaf.grad)
    for gradient in gradients[1:]:
        torch.testing.assert_close(gradient, gradients[0])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_nobody_is_there(layout: str) -> None:
    batch, states = make_batch(4, 1), torch.randn(5, 2, 3, requires_grad=True)
    conv = operator(3, layout=layout)
    output = ask(conv, states, torch.zeros(5, 2, dtype=torch.bool), batch)
    output.sum().backward()
    assert not output.any() and states.grad is not None and not states.grad.any()


@pytest.mark.parametrize("layout", ["auto", "tiled"])
def test_no_dialogue_has_gradients_of_zero(layout: str) -> None:
    batch, states = make_batch(3).select(torch.empty(0, dtype=torch.long)), torch.zeros(0, 2, 3, requires_grad=True)
    conv = operator(3, layout=layout)
    ask(conv, states, torch.ones(0, 2, dtype=torch.bool), batch).sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in conv.parameters())


@pytest.mark.parametrize("layout", ["auto", "tiled"])
def test_a_gradient_of_a_gradient_is_refused(layout: str) -> None:
    """The backward pass is written out and has none of its own: an error, not a silent zero."""
    batch, present = make_batch(4), torch.ones(4, 2, dtype=torch.bool)
    states = torch.randn(4, 2, 3, requires_grad=True)
    output = ask(operator(3, layout=layout), states, present, batch)
    (grad,) = torch.autograd.grad(output.square().sum(), states, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


@pytest.mark.parametrize("layout", ["auto", "tiled"])
def test_a_backward_pass_can_be_run_again(layout: str) -> None:
    """Nothing that was kept is written to."""
    batch, present = make_batch(5, 3), torch.rand(8, 2) < 0.8
    states = torch.randn(8, 2, 3, requires_grad=True)
    conv = operator(3, config=AngularConvConfig(depth=3), dropout=0.3, layout=layout)
    output = ask(conv, states, present, batch).square().sum()
    first = torch.autograd.grad(output, (states, *conv.parameters()), retain_graph=True)
    for before, after in zip(first, torch.autograd.grad(output, (states, *conv.parameters())), strict=True):
        assert torch.equal(before, after)


@pytest.mark.parametrize("layout", ["auto", "tiled"])
def test_pieces_of_any_size_give_the_same(layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    batch, present = make_batch(9, 4, 8, 1, 2), torch.rand(24, 3) < 0.8
    states = torch.randn(24, 3, 5, dtype=torch.float64)
    conv = operator(5, load_recipe("speaker"), AngularConvConfig(depth=3), layout=layout).double()
    found = []
    for most in (1, 20, 60, 10**6):
        monkeypatch.setattr("erc_graph.conv.angular.layout.PIECE", most)
        leaf = states.clone().requires_grad_()
        output = ask(conv, leaf, present, batch)
        found.append([output.detach(), *torch.autograd.grad(output.square().sum(), (leaf, *conv.parameters()))])
    for other in found[1:]:
        torch.testing.assert_close(other, found[0])


LISTED = {
    "other turns of other streams": of(
        rule("context", 2, 1, weight="angular"), rule("cross", 1, 2, scope="across", self_loops=False, scale=0.7, weight="angular")
    ),
    "speaker pairs": of(
        rule("context", 3, 1, speaker="pair", weight="angular", scale=0.4), rule("cross", 0, 0, scope="across", weight="unit")
    ),
    "own turns": of(rule("own", 2, 1, speaker="same", count="own", weight="angular"), rule("near", "own:1", 0, weight="unit", scale=0.3)),
    "twice": of(rule("context", None, None, weight="angular", times=2), rule("near", 1, 0, weight="unit")),
}


@pytest.mark.parametrize("name", LISTED)
def test_other_recipes_go_by_lists_of_edges_and_give_a_loop(name: str) -> None:
    """`P` of the first state, in one layer whose own matrix hardly counts; auto takes what any layout takes."""
    recipe, batch = LISTED[name], make_batch(5, 1, 4)
    states, present = torch.randn(10, 2, 6, dtype=torch.float64), torch.rand(10, 2) < 0.8
    conv = operator(6, recipe, AngularConvConfig(depth=1, alpha=0.0, lambda_=1e-12, residual=False)).double()
    with torch.no_grad():
        conv.first.weight.copy_(torch.eye(6))
        conv.first.bias.fill_(20)  # nothing is below zero
        found = ask(conv, states, present, batch)
    names = {rule.relation: rule.weight for rule in recipe.edges}
    weight: dict[Any, float] = {}
    for edge in edges_by_loop(recipe, Nodes(states, present, STREAMS[:2]), batch):
        cosine = torch.cosine_similarity(states[edge.source], states[edge.target], 0).clamp(-1, 1)
        angular = names[recipe.relations[edge.relation].split("_")[0]] == "angular"
        value = edge.scale * edge.times * (1 - cosine.acos().item() / torch.pi if angular else 1.0)
        weight[edge.target, edge.source] = weight.get((edge.target, edge.source), 0.0) + value
    degree: dict[Any, float] = {}
    for (target, _), value in weight.items():
        degree[target] = degree.get(target, 0.0) + value
    expected = torch.zeros_like(states)
    for (target, source), value in weight.items():
        if source in degree:
            expected[target] += value / (degree[target] * degree[source]) ** 0.5 * (states[source] + 20)
    torch.testing.assert_close(found, expected, rtol=5e-3, atol=5e-3)  # the printed arccos differs by up to 0.0015


def test_recipes_that_have_no_angular_weights_are_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"recipe test: expected edges without learned weights, found the relation 'near', whose weights are learned; use"
    ):
        AngularConv(3, of(rule("near", 1, 1)))
    both = replace(of(rule("near", 1, 1, weight="angular")), hyperedges=(HyperedgeRule(relation="all", over="stream"),))
    with pytest.raises(ConfigError, match=r"AngularConv: graph recipe \'test\': expected only edges, found a table \[\[hyper"):
        AngularConv(3, both)


def test_what_is_kept_for_inference_can_be_trained_through() -> None:
    """Layouts are kept by size in the process: of a conversation that was streamed first, too."""
    part = operator(3, load_recipe("mmgcn_paper"), AngularConvConfig(depth=2, gate=True), hidden=3)
    part.layout = "tiled"

    def ask() -> Tensor:
        batch = dialogue_of(torch.zeros(37, dtype=torch.long))
        nodes = Nodes(torch.randn(37, 2, 3), torch.ones(37, 2, dtype=torch.bool), ("audio", "text"))
        return part(nodes, batch).states.sum()

    with torch.inference_mode():
        ask()
    ask().backward()
    assert all(parameter.grad is not None for parameter in part.parameters())
