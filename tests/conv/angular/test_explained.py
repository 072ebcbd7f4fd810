from __future__ import annotations

import pytest
import torch
from torch import Tensor

from erc_graph.conv.angular.angular import AngularConv, AngularConvConfig
from erc_graph.conv.angular.explained import MultipliedEdges, propagated_by
from erc_graph.conv.angular.propagation import METHODS
from erc_graph.data.batch import Batch
from erc_graph.graphs.edges import merged_edges
from erc_graph.graphs.recipe import GraphRecipe, list_recipes, load_recipe

COPIES, TURNS, STREAMS, WIDTH = 3, 5, 2, 4


def one_dialogue() -> tuple[Batch, Tensor]:
    batch = Batch(
        ptr=torch.tensor([0, TURNS]),
        speaker=torch.tensor([0, 1, 0, 2, 1]),
        target=torch.zeros(TURNS, dtype=torch.long),
        judged=torch.ones(TURNS, dtype=torch.bool),
        row=torch.arange(TURNS),
    )
    present = torch.ones(TURNS, STREAMS, dtype=torch.bool)
    present[2, 1] = False
    return batch, present


def edges(recipe: GraphRecipe, batch: Batch, present: Tensor) -> Tensor:
    return merged_edges(recipe, batch, {str(i): present[:, i] for i in range(STREAMS)})[0]


@pytest.mark.parametrize("name", list_recipes())
def test_without_multipliers_it_is_the_usual_propagation(name: str) -> None:
    recipe, (one, present) = load_recipe(name), one_dialogue()
    batch, present = one.select(torch.zeros(COPIES, dtype=torch.long)), present.repeat(COPIES, 1)
    states, x = torch.randn(COPIES * TURNS, STREAMS, WIDTH), torch.randn(COPIES * TURNS, STREAMS, 7)  # copies need not have equal states
    expected = METHODS["block"](recipe, batch, states, present)(x)
    count = edges(recipe, *one_dialogue()).shape[1]
    for multiplier in (None, torch.ones(COPIES, count)):
        torch.testing.assert_close(MultipliedEdges(multiplier)(recipe, batch, states, present)(x), expected)
    assert not MultipliedEdges(torch.zeros(COPIES, count))(recipe, batch, states, present)(x).any()


@pytest.mark.parametrize("name", list_recipes())
def test_every_message_is_multiplied_and_nothing_else(name: str) -> None:
    """Message by message, with the normalised weights read off the usual propagation, one unit vector at a time."""
    recipe, (batch, present) = load_recipe(name), one_dialogue()
    states, x = torch.randn(TURNS, STREAMS, WIDTH), torch.randn(TURNS, STREAMS, 1)
    usual = METHODS["pyg"](recipe, batch, states, present)
    source, target = edges(recipe, batch, present).tolist()
    multiplier = torch.rand(2, len(source))
    expected = torch.zeros(2, TURNS, STREAMS, 1)
    for edge, (i, j) in enumerate(zip(source, target, strict=True)):
        unit = torch.zeros(TURNS, STREAMS, 1)
        unit[i % TURNS, i // TURNS] = 1.0
        message = usual(unit)[j % TURNS, j // TURNS] * x[i % TURNS, i // TURNS]
        expected[:, j % TURNS, j // TURNS] += multiplier[:, edge, None] * message
    assert len(set(zip(source, target, strict=True))) == len(source)  # no two edges share a message in these recipes
    twice = batch.select(torch.tensor([0, 0]))
    found = MultipliedEdges(multiplier)(recipe, twice, states.repeat(2, 1, 1), present.repeat(2, 1))(x.repeat(2, 1, 1))
    torch.testing.assert_close(found.view(2, TURNS, STREAMS, 1), expected)


def test_a_convolution_is_lent_another_propagation_and_gets_its_own_back() -> None:
    conv, (batch, present) = AngularConv(WIDTH, AngularConvConfig()).eval(), one_dialogue()
    states, recipe = torch.randn(TURNS, STREAMS, WIDTH), load_recipe("pairwise")
    usual = conv(states, present, batch, recipe)
    multiplier = torch.full((1, edges(recipe, batch, present).shape[1]), 0.5, requires_grad=True)
    with propagated_by(conv, MultipliedEdges(multiplier)):
        half = conv(states, present, batch, recipe)
    assert not torch.allclose(half, usual)
    half.sum().backward()
    assert multiplier.grad is not None and multiplier.grad.isfinite().all() and multiplier.grad.any()
    with pytest.raises(KeyError), propagated_by(conv, MultipliedEdges(multiplier)):
        raise KeyError
    assert torch.equal(conv(states, present, batch, recipe), usual)
