"""What passes between the parts of a method."""

from __future__ import annotations

import torch

from erc_graph.data.nodes import Nodes


def test_absent_states_are_zero_whatever_stands_there() -> None:
    states, present = torch.randn(4, 2, 3), torch.tensor([[True, False], [True, True], [False, False], [False, True]])
    states[~present] = torch.nan
    nodes = Nodes(states, present, ("a", "b"))
    found = nodes.masked()
    assert torch.equal(found[present], states[present]) and not found[~present].any() and nodes.width == 3
    states.requires_grad_()
    nodes.with_states(states).masked().sum().backward()
    assert states.grad is not None and torch.equal(states.grad, present[..., None].expand(4, 2, 3).float())


def test_other_states_of_any_width_and_the_same_nodes() -> None:
    nodes = Nodes(torch.randn(4, 2, 3), torch.rand(4, 2) < 0.5, ("a", "b"))
    other = nodes.with_states(torch.zeros(4, 2, 7))
    assert other.width == 7 and other.present is nodes.present and other.streams == nodes.streams


def test_nodes_of_turns_are_whole_unless_some_are_absent() -> None:
    states = torch.randn(3, 4)
    whole = Nodes.of_turns(states)
    assert whole.whole and whole.present.all() and whole.masked() is whole.states and torch.equal(whole.states[:, 0], states)
    here = torch.tensor([True, False, True])
    some = Nodes.of_turns(states, here)
    assert not some.whole and torch.equal(some.present[:, 0], here) and not some.masked()[1].any()
