"""What is special to the operator; that its forms agree with the definition is tested with the operator."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from erc_graph.conv.angular.propagation import FORMS
from erc_graph.errors import ConfigError
from erc_graph.graphs.recipe import GraphRecipe, load_recipe
from tests.conv.angular.test_angular import ask, make_batch, operator

WIDER = (
    "'cross': expected past = 0 and future = 0 for edges across streams, found a wider window; "
    "set layout = 'list', which supports wider windows"
)


def changed(relation: str, **values: Any) -> GraphRecipe:
    recipe = load_recipe("pairwise")
    return replace(
        recipe, examples=(), edges=tuple(replace(rule, **values) if rule.relation == relation else rule for rule in recipe.edges)
    )


@pytest.mark.parametrize("reach", [{"past": 1}, {"future": 2}, {"past": None, "future": None}])
def test_streams_joined_at_other_turns_are_for_lists_of_edges(reach: dict[str, int | None]) -> None:
    batch, states, present = make_batch(4, 2), torch.randn(6, 2, 3), torch.ones(6, 2, dtype=torch.bool)
    recipe = changed("cross", **reach)
    with pytest.raises(ConfigError, match=WIDER):
        FORMS["auto"](recipe, batch, states, present)
    with pytest.raises(ConfigError, match=WIDER):
        FORMS["tiled"](recipe, batch, states, present)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "words", [{"past": "own:1"}, {"speaker": "pair"}, {"times": 2}, {"source": ("audio",)}, {"count": "own", "speaker": "same"}]
)
def test_rules_that_are_more_than_windows_are_for_lists_of_edges(words: dict[str, Any], form: str) -> None:
    batch, states, present = make_batch(4, 2), torch.randn(6, 2, 3), torch.ones(6, 2, dtype=torch.bool)
    with pytest.raises(
        ConfigError,
        match="relation 'context': expected a rule with past and future counted in utterances, with speaker any, same or other, "
        "with weight angular or unit, for all streams, and with times = 1; set layout = 'list', which supports every edge rule",
    ):
        FORMS[form](changed("context", **words), batch, states, present)


@pytest.mark.parametrize("form", FORMS)
def test_one_stream_has_no_edges_across(form: str) -> None:
    batch, states, present = make_batch(4, 2), torch.randn(6, 1, 3), torch.ones(6, 1, dtype=torch.bool)
    one, other = (FORMS[form](changed("cross", scale=scale), batch, states, present)(states) for scale in (0.0, 5.0))
    assert torch.equal(one, other)
    assert one.abs().sum() > 0


@pytest.mark.parametrize("form", FORMS)
def test_absent_nodes_neither_send_nor_receive(form: str) -> None:
    batch, states, present = make_batch(5, 2), torch.randn(7, 2, 3), torch.ones(7, 2, dtype=torch.bool)
    present[1, 0] = present[3, 1] = False
    other = states.clone()
    other[~present] = 1e6
    before, after = (FORMS[form](load_recipe("pairwise"), batch, value, present)(value) for value in (states, other))
    assert torch.equal(before, after)
    assert (before[~present] == 0).all()
    assert (before[present].abs().sum(-1) > 0).all()


@pytest.mark.parametrize("form", FORMS)
def test_gamma_scales_what_comes_from_the_other_stream(form: str) -> None:
    """One utterance, two equal states: weights 1 and γ, degrees 1 + γ."""
    batch, present = make_batch(1), torch.ones(1, 2, dtype=torch.bool)
    states = torch.tensor([[[1.0, 2.0], [2.0, 4.0]]])
    x = torch.tensor([[[1.0], [0.0]]])
    for gamma in (0.0, 0.7, 3.0):
        spread = FORMS[form](changed("cross", scale=gamma), batch, states, present)(x).flatten().tolist()
        assert spread == pytest.approx([1 / (1 + gamma), gamma / (1 + gamma)], abs=1e-3)


@pytest.mark.parametrize("form", FORMS)
def test_values_of_another_width_and_type_than_the_states(form: str) -> None:
    batch, present = make_batch(3, 2), torch.ones(5, 2, dtype=torch.bool)
    propagate = FORMS[form](load_recipe("pairwise"), batch, torch.randn(5, 2, 3), present)
    x = torch.randn(5, 2, 9)
    assert propagate(x).shape == x.shape
    assert propagate(x.half()).dtype is torch.float16
    torch.testing.assert_close(propagate(x.half()).float(), propagate(x), atol=3e-3, rtol=3e-3)


@pytest.mark.parametrize("recipe", ["pairwise", "window"])
@pytest.mark.parametrize("form", FORMS)
def test_rows_and_gradients_may_lie_in_memory_as_they_like(form: str, recipe: str) -> None:
    batch, states, present = make_batch(7, 3), torch.randn(10, 2, 3).double(), torch.ones(10, 2, dtype=torch.bool)
    spread = FORMS[form](load_recipe(recipe), batch, states, present)
    rows = spread.rows(states).requires_grad_()
    columns = rows.detach().T.contiguous().T.requires_grad_()
    assert not columns.is_contiguous()
    torch.testing.assert_close(spread.spread(columns), spread.spread(rows))
    for grad in (torch.ones(1, 1).double().expand_as(rows), torch.randn(3, len(rows)).double().T):
        (own,), (other,) = (torch.autograd.grad(spread.spread(leaf), leaf, g) for leaf, g in ((columns, grad), (rows, grad.contiguous())))
        torch.testing.assert_close(own, other)


@pytest.mark.parametrize("recipe", ["pairwise", "window"])
@pytest.mark.parametrize("form", FORMS)
def test_a_backward_pass_inside_autocast_is_in_full_precision(form: str, recipe: str) -> None:
    batch, states, present = make_batch(7, 3), torch.randn(10, 2, 8), torch.ones(10, 2, dtype=torch.bool)
    conv = operator(8, load_recipe(recipe), layout=form)
    found = []
    for enabled in (False, True):
        leaf = states.clone().requires_grad_()
        output = ask(conv, leaf, present, batch)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            output.square().sum().backward()
        found.append(leaf.grad)
    # what the tiles leave to autograd itself (the mix of a turn's streams) is lowered, as everywhere in PyTorch
    tolerance = {"auto": 0.0, "tiled": 2e-2}[form]
    torch.testing.assert_close(found[1], found[0], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("form", FORMS)
def test_a_dialogue_of_no_turns_is_nobody(form: str) -> None:
    states, present = torch.randn(5, 2, 3), torch.ones(5, 2, dtype=torch.bool)
    one, other = (FORMS[form](load_recipe("pairwise"), make_batch(*sizes), states, present)(states) for sizes in ((0, 3, 0, 2), (3, 2)))
    assert torch.equal(one, other)
