from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from erc_graph.conv.angular.angular import AngularConv, AngularConvConfig
from erc_graph.conv.angular.propagation import METHODS
from erc_graph.data.batch import Batch
from erc_graph.errors import ConfigError
from erc_graph.graphs.recipe import load_recipe

RECIPE = load_recipe("pairwise")


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
        ({"depth": 0}, r"conv\.depth: expected 1 or more, found 0"),
        ({"alpha": 1.5}, r"conv\.alpha: expected a number from 0 to 1, found 1\.5"),
        ({"alpha": float("nan")}, r"conv\.alpha: expected a number from 0 to 1, found nan"),
        ({"lambda_": 0}, r"conv\.lambda_: expected a .*number.*, found 0"),
        ({"method": "dense"}, r"conv\.method: expected one of block, tiled, pyg, dgl, found 'dense'"),
    ],
)
def test_impossible_values_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        AngularConvConfig(**values)


def test_all_impossible_values_at_once() -> None:
    with pytest.raises(ConfigError, match=r"(?s)conv\.depth.*conv\.alpha.*conv\.method"):
        AngularConvConfig(depth=-1, alpha=2, method="dense")  # type: ignore[arg-type]


@pytest.mark.parametrize("residual", [True, False])
def test_width_and_what_stands_where(residual: bool) -> None:
    batch, states, present = make_batch(4, 2), torch.randn(6, 2, 3), torch.ones(6, 2, dtype=torch.bool)
    present[2, 1] = False
    conv = AngularConv(3, AngularConvConfig(residual=residual))
    output = conv(states, present, batch, RECIPE)
    assert conv.output_width == output.shape[-1] == (6 if residual else 3)
    assert (output[~present] == 0).all()
    assert (output[..., -3:] >= 0).all()  # ReLU
    if residual:
        assert torch.equal(output[present][:, :3], states[present])


@pytest.mark.parametrize("depth", [1, 3, 8])
def test_depth_is_the_number_of_layers_that_are_used(depth: int) -> None:
    batch, states, present = make_batch(4, 2), torch.randn(6, 2, 3), torch.ones(6, 2, dtype=torch.bool)
    conv = AngularConv(3, AngularConvConfig(depth=depth))
    assert len(conv.weights) == depth
    conv(states, present, batch, RECIPE).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in conv.parameters())


def test_a_deeper_causal_graph_reaches_further() -> None:
    """A window of one turn back: after l layers a turn hears l turns back, and no more."""
    window = replace(RECIPE, edges=tuple(replace(r, past=1, future=0) if r.scope == "within" else r for r in RECIPE.edges))
    batch, present = make_batch(6), torch.ones(6, 1, dtype=torch.bool)
    for depth in (1, 2, 3):
        states = torch.rand(6, 1, 3).requires_grad_()
        conv = AngularConv(3, AngularConvConfig(depth=depth, residual=False))
        with torch.no_grad():
            for parameter in conv.parameters():
                parameter.abs_()  # so that no ReLU closes the way
        conv(states, present, batch, window)[5].sum().backward()
        assert states.grad is not None
        heard = (states.grad.abs().sum((1, 2)) > 0).nonzero().flatten().tolist()
        # The degree of the furthest sender counts one turn more.
        assert heard == list(range(5 - depth - 1, 6))


def test_everything_from_the_first_state_makes_layers_blind_to_the_graph_but_for_their_matrix() -> None:
    batch, states, present = make_batch(4), torch.randn(4, 1, 3), torch.ones(4, 1, dtype=torch.bool)
    conv = AngularConv(3, AngularConvConfig(depth=1, alpha=1.0, residual=False))
    with torch.no_grad():
        conv.weights[0][:3] = 0  # the part that reads P h
    alone = torch.cat([conv(states[i : i + 1], present[i : i + 1], make_batch(1), RECIPE) for i in range(4)])
    torch.testing.assert_close(conv(states, present, batch, RECIPE), alone)


def test_dropout_only_in_training() -> None:
    batch, states, present = make_batch(4, 2), torch.randn(6, 2, 8), torch.ones(6, 2, dtype=torch.bool)
    conv = AngularConv(8, AngularConvConfig(), dropout=0.5)
    assert not torch.equal(conv(states, present, batch, RECIPE), conv(states, present, batch, RECIPE))
    conv.eval()
    assert torch.equal(conv(states, present, batch, RECIPE), conv(states, present, batch, RECIPE))


CASES = {
    "random": lambda random: random,
    "same": lambda random: random[:1, :1].expand_as(random),
    "opposite": lambda random: random[:1, :1] * torch.tensor([[1.0, -1.0], [-1.0, 1.0], [1.0, 1.0]])[..., None],
    "zero": lambda random: torch.cat([0 * random[:1], random[1:]]),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("method", ["block", "tiled", "pyg"])
def test_gradients_are_those_of_finite_differences(method: str, case: str) -> None:
    """In float64, at cosines of ±1 and with zero vectors too. ReLUs are kept away from their corner by a bias."""
    batch, present = make_batch(2, 1), torch.ones(3, 2, dtype=torch.bool)
    present[1, 1] = False
    conv = AngularConv(3, AngularConvConfig(method=method)).double()  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in conv.parameters():
            parameter.abs_()
        conv.first.bias += 4.0
    states = CASES[case](torch.randn(3, 2, 3, dtype=torch.float64)).clone().requires_grad_()

    def ask(states: Tensor, *parameters: Tensor) -> Tensor:
        return conv(states, present, batch, RECIPE)

    # A zero state turns within 1e-4 (the root of `TINY`) from cosine 0 to any other: the step must be far below that.
    assert torch.autograd.gradcheck(ask, (states, *conv.parameters()), eps=1e-8, atol=1e-4, rtol=1e-3)


def test_the_method_is_a_matter_of_configuration() -> None:
    batch, states, present = make_batch(4, 2), torch.randn(6, 2, 3), torch.ones(6, 2, dtype=torch.bool)
    first = AngularConv(3, AngularConvConfig())
    for method in METHODS:
        other = AngularConv(3, AngularConvConfig(method=method))  # type: ignore[arg-type]
        other.load_state_dict(first.state_dict())
        torch.testing.assert_close(other(states, present, batch, RECIPE), first(states, present, batch, RECIPE))


@pytest.mark.parametrize("method", ["block", "tiled"])
def test_states_and_gradients_that_do_not_lie_in_one_block(method: str) -> None:
    """Strided states, and the gradient of a sum, which is one number seen many times."""
    batch, present = make_batch(4, 2), torch.ones(6, 2, dtype=torch.bool)
    conv = AngularConv(3, AngularConvConfig(method=method)).double()  # type: ignore[arg-type]
    wide = torch.randn(2, 6, 7, dtype=torch.float64)
    gradients = []
    for states in (wide.transpose(0, 1)[..., 1:4], wide.transpose(0, 1)[..., 1:4].contiguous()):
        for weight in (None, torch.ones(6, 2, 6, dtype=torch.float64)):
            leaf = states.detach().requires_grad_()
            assert leaf.is_contiguous() is states.is_contiguous()
            output = conv(leaf, present, batch, RECIPE)
            (output.sum() if weight is None else (output * weight).sum()).backward()
            gradients.append(leaf.grad)
    for gradient in gradients[1:]:
        torch.testing.assert_close(gradient, gradients[0])


@pytest.mark.parametrize("method", METHODS)
def test_nobody_is_there(method: str) -> None:
    batch, states = make_batch(4, 1), torch.randn(5, 2, 3, requires_grad=True)
    conv = AngularConv(3, AngularConvConfig(method=method))  # type: ignore[arg-type]
    output = conv(states, torch.zeros(5, 2, dtype=torch.bool), batch, RECIPE)
    output.sum().backward()
    assert not output.any() and states.grad is not None and not states.grad.any()


@pytest.mark.parametrize("method", ["block", "tiled"])
def test_no_dialogue_has_gradients_of_zero(method: str) -> None:
    batch, states = make_batch(3).select(torch.empty(0, dtype=torch.long)), torch.zeros(0, 2, 3, requires_grad=True)
    conv = AngularConv(3, AngularConvConfig(method=method))  # type: ignore[arg-type]
    conv(states, torch.ones(0, 2, dtype=torch.bool), batch, RECIPE).sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in conv.parameters())


@pytest.mark.parametrize("method", ["block", "tiled"])
def test_a_gradient_of_a_gradient_is_refused(method: str) -> None:
    """The backward pass is written out and has none of its own: an error, not a silent zero."""
    batch, present = make_batch(4), torch.ones(4, 2, dtype=torch.bool)
    states = torch.randn(4, 2, 3, requires_grad=True)
    output = AngularConv(3, AngularConvConfig(method=method))(states, present, batch, RECIPE)  # type: ignore[arg-type]
    (grad,) = torch.autograd.grad(output.square().sum(), states, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


@pytest.mark.parametrize("method", ["block", "tiled"])
def test_a_backward_pass_can_be_run_again(method: str) -> None:
    """Nothing that was kept is written to."""
    batch, present = make_batch(5, 3), torch.rand(8, 2) < 0.8
    states = torch.randn(8, 2, 3, requires_grad=True)
    conv = AngularConv(3, AngularConvConfig(depth=3, method=method), dropout=0.3)  # type: ignore[arg-type]
    output = conv(states, present, batch, RECIPE).square().sum()
    first = torch.autograd.grad(output, (states, *conv.parameters()), retain_graph=True)
    for before, after in zip(first, torch.autograd.grad(output, (states, *conv.parameters())), strict=True):
        assert torch.equal(before, after)


@pytest.mark.parametrize("method", ["block", "tiled"])
def test_pieces_of_any_size_give_the_same(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    batch, present = make_batch(9, 4, 8, 1, 2), torch.rand(24, 3) < 0.8
    states = torch.randn(24, 3, 5, dtype=torch.float64)
    conv = AngularConv(5, AngularConvConfig(depth=3, method=method)).double()  # type: ignore[arg-type]
    found = []
    for most in (1, 20, 60, 10**6):
        monkeypatch.setattr("erc_graph.graphs.layout.PIECE", most)
        leaf = states.clone().requires_grad_()
        output = conv(leaf, present, batch, load_recipe("speaker"))
        found.append([output.detach(), *torch.autograd.grad(output.square().sum(), (leaf, *conv.parameters()))])
    for other in found[1:]:
        torch.testing.assert_close(other, found[0])
