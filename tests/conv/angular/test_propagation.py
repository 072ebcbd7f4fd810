"""What is special to the operator; that its three ways agree with the definition is a law (tests/test_laws.py)."""

from __future__ import annotations

import builtins
import sys
from dataclasses import replace
from typing import Any

import pytest
import torch

from erc_graph.conv.angular.angular import AngularConv, AngularConvConfig
from erc_graph.conv.angular.propagation import METHODS
from erc_graph.data.batch import Batch
from erc_graph.errors import ConfigError
from erc_graph.graphs.recipe import GraphRecipe, load_recipe


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


def changed(relation: str, **values: Any) -> GraphRecipe:
    recipe = load_recipe("pairwise")
    return replace(recipe, edges=tuple(replace(rule, **values) if rule.relation == relation else rule for rule in recipe.edges))


@pytest.mark.parametrize("reach", [{"past": 1}, {"future": 2}, {"past": None, "future": None}])
def test_streams_joined_at_other_turns_are_for_lists_of_edges(reach: dict[str, int | None]) -> None:
    batch, states, present = make_batch(4, 2), torch.randn(6, 2, 3), torch.ones(6, 2, dtype=torch.bool)
    recipe = changed("cross", **reach)
    with pytest.raises(ConfigError, match=r"recipe pairwise: relation 'cross' joins streams at other turns; use method 'pyg' or 'dgl'"):
        METHODS["block"](recipe, batch, states, present)
    pyg, dgl = (METHODS[name](recipe, batch, states, present)(states) for name in ("pyg", "dgl"))
    torch.testing.assert_close(pyg, dgl)
    assert not torch.allclose(pyg, METHODS["pyg"](load_recipe("pairwise"), batch, states, present)(states))


@pytest.mark.parametrize("method", METHODS)
def test_one_stream_has_no_edges_across(method: str) -> None:
    batch, states, present = make_batch(4, 2), torch.randn(6, 1, 3), torch.ones(6, 1, dtype=torch.bool)
    one, other = (METHODS[method](changed("cross", scale=scale), batch, states, present)(states) for scale in (0.0, 5.0))
    assert torch.equal(one, other)
    assert one.abs().sum() > 0


@pytest.mark.parametrize("method", METHODS)
def test_absent_nodes_neither_send_nor_receive(method: str) -> None:
    batch, states, present = make_batch(5, 2), torch.randn(7, 2, 3), torch.ones(7, 2, dtype=torch.bool)
    present[1, 0] = present[3, 1] = False
    other = states.clone()
    other[~present] = 1e6
    before, after = (METHODS[method](load_recipe("pairwise"), batch, value, present)(value) for value in (states, other))
    assert torch.equal(before, after)
    assert (before[~present] == 0).all()
    assert (before[present].abs().sum(-1) > 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_gamma_scales_what_comes_from_the_other_stream(method: str) -> None:
    """One utterance, two equal states: weights 1 and γ, degrees 1 + γ."""
    batch, present = make_batch(1), torch.ones(1, 2, dtype=torch.bool)
    states = torch.tensor([[[1.0, 2.0], [2.0, 4.0]]])
    x = torch.tensor([[[1.0], [0.0]]])
    for gamma in (0.0, 0.7, 3.0):
        spread = METHODS[method](changed("cross", scale=gamma), batch, states, present)(x).flatten().tolist()
        assert spread == pytest.approx([1 / (1 + gamma), gamma / (1 + gamma)], abs=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_values_of_another_width_and_type_than_the_states(method: str) -> None:
    batch, present = make_batch(3, 2), torch.ones(5, 2, dtype=torch.bool)
    propagate = METHODS[method](load_recipe("pairwise"), batch, torch.randn(5, 2, 3), present)
    x = torch.randn(5, 2, 9)
    assert propagate(x).shape == x.shape
    assert propagate(x.half()).dtype is torch.float16
    torch.testing.assert_close(propagate(x.half()).float(), propagate(x), atol=3e-3, rtol=3e-3)


def test_without_dgl_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    batch, states, present = make_batch(2), torch.randn(2, 1, 3), torch.ones(2, 1, dtype=torch.bool)
    real = builtins.__import__

    def refuse(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "dgl":
            raise ImportError("no dgl here")
        return real(name, *arguments, **options)

    monkeypatch.delitem(sys.modules, "dgl", raising=False)
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ConfigError, match=r'DGL cannot be imported \(no dgl here\); pip install "erc_graph\[dgl\]"'):
        METHODS["dgl"](load_recipe("pairwise"), batch, states, present)


@pytest.mark.parametrize("recipe", ["pairwise", "window"])
@pytest.mark.parametrize("method", ["block", "tiled"])
def test_rows_and_gradients_may_lie_in_memory_as_they_like(method: str, recipe: str) -> None:
    batch, states, present = make_batch(7, 3), torch.randn(10, 2, 3).double(), torch.ones(10, 2, dtype=torch.bool)
    spread = METHODS[method](load_recipe(recipe), batch, states, present)
    rows = spread.rows(states).requires_grad_()
    columns = rows.detach().T.contiguous().T.requires_grad_()
    assert not columns.is_contiguous()
    torch.testing.assert_close(spread.spread(columns), spread.spread(rows))
    for grad in (torch.ones(1, 1).double().expand_as(rows), torch.randn(3, len(rows)).double().T):
        (own,), (other,) = (torch.autograd.grad(spread.spread(leaf), leaf, g) for leaf, g in ((columns, grad), (rows, grad.contiguous())))
        torch.testing.assert_close(own, other)


@pytest.mark.parametrize("recipe", ["pairwise", "window"])
@pytest.mark.parametrize("method", ["block", "tiled"])
def test_a_backward_pass_inside_autocast_is_in_full_precision(method: str, recipe: str) -> None:
    batch, states, present = make_batch(7, 3), torch.randn(10, 2, 8), torch.ones(10, 2, dtype=torch.bool)
    conv = AngularConv(8, AngularConvConfig(method=method))  # type: ignore[arg-type]
    found = []
    for enabled in (False, True):
        leaf = states.clone().requires_grad_()
        output = conv(leaf, present, batch, load_recipe(recipe))
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            output.square().sum().backward()
        found.append(leaf.grad)
    # what the tiles leave to autograd itself (the mix of a turn's streams) is lowered, as everywhere in PyTorch
    tolerance = {"block": 0.0, "tiled": 2e-2}[method]
    torch.testing.assert_close(found[1], found[0], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("method", METHODS)
def test_a_dialogue_of_no_turns_is_nobody(method: str) -> None:
    states, present = torch.randn(5, 2, 3), torch.ones(5, 2, dtype=torch.bool)
    one, other = (METHODS[method](load_recipe("pairwise"), make_batch(*sizes), states, present)(states) for sizes in ((0, 3, 0, 2), (3, 2)))
    assert torch.equal(one, other)
