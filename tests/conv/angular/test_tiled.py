"""Tiles of every size give what whole blocks give; both agree with lists of edges."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from erc_graph.conv.angular import propagation, tiled
from erc_graph.conv.angular.angular import AngularConvConfig
from erc_graph.conv.angular.block import BlockPropagation
from erc_graph.conv.angular.propagation import FORMS
from erc_graph.conv.angular.tiled import TiledPropagation
from erc_graph.data.batch import Batch
from erc_graph.graphs.recipe import GraphRecipe, load_recipe
from tests.conv.angular.test_angular import WINDOWED, ask, operator


def make_batch(*lengths: int) -> Batch:
    length = torch.tensor(lengths)
    rows = int(length.sum())
    return Batch(
        ptr=torch.cat([length.new_zeros(1), length.cumsum(0)]),
        speaker=torch.randint(0, 3, (rows,)),
        target=torch.zeros(rows, dtype=torch.long),
        judged=torch.ones(rows, dtype=torch.bool),
        row=torch.arange(rows),
    )


def asymmetric() -> GraphRecipe:
    recipe = load_recipe("window")
    within, across = recipe.edges
    near = replace(within, past=5, future=1), replace(within, relation="unit", past=0, future=3, weight="unit")
    return replace(recipe, edges=(*near, across), examples=())


CASES = {**{name: load_recipe(name) for name in WINDOWED}, "asymmetric": asymmetric()}


def outcome(layout: str, recipe: GraphRecipe, batch: Batch, states: Tensor, present: Tensor) -> list[Tensor]:
    """Of the whole convolution: output, and gradients of states and of every parameter."""
    torch.manual_seed(1)
    conv = operator(5, recipe, AngularConvConfig(depth=3), layout=layout).double()
    states = states.clone().requires_grad_()
    output = ask(conv, states, present, batch)
    (output * torch.randn_like(output)).sum().backward()
    return [output.detach(), *(part.grad for part in (states, *conv.parameters()) if part.grad is not None)]


@pytest.mark.parametrize("streams", [1, 3])
@pytest.mark.parametrize("recipe", CASES)
def test_small_tiles_and_all_at_once_agree_with_edges(recipe: str, streams: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    batch = make_batch(41, 1, 30, 7, 2)
    states = torch.randn(batch.utterances, streams, 5, dtype=torch.float64)
    present = torch.rand(batch.utterances, streams) < 0.8
    expected = outcome("list", CASES[recipe], batch, states, present)
    assert len(expected) == 2 + 2 + 3
    torch.testing.assert_close(outcome("auto", CASES[recipe], batch, states, present), expected, rtol=1e-6, atol=1e-7)
    for strip, band, rows in ((2**22, 32, 2**12), (1000, 4, 8), (1, 1, 1)):
        monkeypatch.setattr(tiled, "STRIP", strip)
        monkeypatch.setattr(tiled, "BAND", band)
        monkeypatch.setattr(tiled, "ROWS", rows)
        torch.testing.assert_close(outcome("tiled", CASES[recipe], batch, states, present), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("recipe", ["window", "pairwise", "speaker"])
def test_gradients_of_tiles_are_those_of_finite_differences(recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At equal, opposite and zero states too."""
    monkeypatch.setattr(tiled, "STRIP", 1)
    monkeypatch.setattr(tiled, "BAND", 2)
    batch, present = make_batch(10, 1), torch.ones(11, 2, dtype=torch.bool)
    present[3, 1] = False
    states = torch.randn(11, 2, 3, dtype=torch.float64)
    states[1], states[2, 0], states[4] = states[0], -states[0, 0], 0
    x = torch.randn(11, 2, 2, dtype=torch.float64).requires_grad_()
    states = states.requires_grad_()
    for form in FORMS:

        def asked(states: Tensor, x: Tensor, form: str = form) -> Tensor:
            return FORMS[form](CASES[recipe], batch, states, present)(x)

        # A zero state turns within 1e-4 from cosine 0 to any other: the step must be far below that.
        assert torch.autograd.gradcheck(asked, (states, x), eps=1e-8, atol=1e-4, rtol=1e-3)


def test_the_size_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    def kind(recipe: str, *lengths: int) -> type:
        batch = make_batch(*lengths)
        present = torch.ones(batch.utterances, 2, dtype=torch.bool)
        return type(FORMS["auto"](load_recipe(recipe), batch, torch.randn(batch.utterances, 2, 3), present))

    assert kind("pairwise", 30, 90) is kind("window", 30, 90) is BlockPropagation
    assert kind("pairwise", 1000) is BlockPropagation
    assert kind("window", 1000) is TiledPropagation  # most weights would be zero
    monkeypatch.setattr(propagation, "MANY", 2 * 1000**2 - 1)
    assert kind("pairwise", 1000) is TiledPropagation
    assert kind("pairwise", 999) is BlockPropagation


def test_time_and_memory_of_a_window_do_not_know_its_conversation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights are made for so many turns, in pieces of bounded size: twice the turns, twice the pieces."""
    sizes: list[int] = []
    bend = tiled.bend

    def count(cosine: Tensor) -> Tensor:
        sizes.append(cosine.numel())
        return bend(cosine)

    monkeypatch.setattr(tiled, "bend", count)
    totals = []
    for turns in (20_000, 40_000):
        sizes.clear()
        TiledPropagation(load_recipe("window"), make_batch(turns), torch.randn(turns, 1, 2), torch.ones(turns, 1, dtype=torch.bool))
        assert max(sizes) <= tiled.ROWS * 60
        totals.append(sum(sizes))
    assert totals[1] == pytest.approx(2 * totals[0], rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("most", [1, 10**6])
@pytest.mark.parametrize("layout", FORMS)
def test_dropout_is_the_same_derivative(layout: str, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the random numbers held, gradients through dropout are those of finite differences, in one piece or in several."""
    monkeypatch.setattr("erc_graph.conv.angular.layout.PIECE", most)
    batch, present = make_batch(5, 2), torch.ones(7, 2, dtype=torch.bool)
    conv = operator(3, config=AngularConvConfig(depth=3), dropout=0.4, layout=layout).double()
    with torch.no_grad():
        conv.first.bias += 3.0

    def asked(states: Tensor, *parameters: Tensor) -> Tensor:
        torch.manual_seed(5)
        return ask(conv, states, present, batch)

    states = torch.randn(7, 2, 3, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(asked, (states, *conv.parameters()), eps=1e-7, atol=1e-5, rtol=1e-4)
    torch.manual_seed(5)
    share = float((ask(conv, states, present, batch)[..., :3] == 0).double().mean())
    assert 0.1 < share < 0.7


@pytest.mark.parametrize("most", [1, 10**6])
@pytest.mark.parametrize("recipe", WINDOWED)
@pytest.mark.parametrize("layout", FORMS)
def test_written_layers_are_the_layers_that_autograd_sees(layout: str, recipe: str, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("erc_graph.conv.angular.layout.PIECE", most)
    batch = make_batch(9, 4, 1)
    states, present = torch.randn(14, 3, 5, dtype=torch.float64), torch.rand(14, 3) < 0.8
    written = outcome(layout, load_recipe(recipe), batch, states, present)
    monkeypatch.setattr("erc_graph.conv.angular.angular.autocast", lambda x: True)  # the other way, without lower precision
    torch.testing.assert_close(written, outcome(layout, load_recipe(recipe), batch, states, present), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("recipe", WINDOWED)
def test_tiles_in_bfloat16_are_float32_rounded_once(recipe: str) -> None:
    batch = make_batch(9, 4, 1)
    half, present = torch.randn(14, 3, 4).bfloat16(), torch.rand(14, 3) < 0.8
    x = torch.randn(14, 3, 5).bfloat16()
    low = FORMS["tiled"](load_recipe(recipe), batch, half, present)(x)
    high = FORMS["tiled"](load_recipe(recipe), batch, half.float(), present)(x.float())
    assert low.dtype is torch.bfloat16
    torch.testing.assert_close(low.float(), high, rtol=2**-8, atol=1e-6)


@pytest.mark.parametrize("layout", FORMS)
def test_gradients_under_bfloat16_autocast_are_near_float32(layout: str) -> None:
    """Within 5 % of the largest: two layers of products in eight significant bits."""
    batch, present = make_batch(12, 5), torch.ones(17, 3, dtype=torch.bool)
    conv = operator(16, layout=layout)
    states = torch.randn(17, 3, 16)
    grads = []
    for lower in (False, True):
        leaf = states.clone().requires_grad_()
        conv.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=lower):
            output = ask(conv, leaf, present, batch)
        output.float().square().sum().backward()
        assert leaf.grad is not None
        grads.append([leaf.grad, *(p.grad.clone() for p in conv.parameters() if p.grad is not None)])
    for low, high in zip(grads[1], grads[0], strict=True):
        torch.testing.assert_close(low, high, rtol=0, atol=0.05 * float(high.abs().max()))


@pytest.mark.parametrize("layout", FORMS)
@pytest.mark.parametrize("recipe", ["pairwise", "window"])
def test_nothing_at_all(layout: str, recipe: str) -> None:
    batch = make_batch(3).select(torch.empty(0, dtype=torch.long))
    states, present = torch.randn(0, 2, 3), torch.ones(0, 2, dtype=torch.bool)
    assert ask(operator(3, load_recipe(recipe), layout=layout), states, present, batch).shape == (0, 2, 6)
