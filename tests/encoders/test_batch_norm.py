from __future__ import annotations

import torch

from erc_graph.data.nodes import Nodes
from erc_graph.encoders.batch_norm import BatchNorm
from erc_graph.encoders.turns import dialogue_of


def given(rows: int, streams: int = 2, width: int = 3) -> Nodes:
    states = torch.randn(rows, streams, width, dtype=torch.float64, requires_grad=True)
    return Nodes(states, torch.arange(rows * streams).view(rows, streams) % 3 != 1, tuple("abc"[:streams]))


def test_present_nodes_are_scaled_as_by_torch_and_absent_ones_count_nowhere() -> None:
    ours, theirs, batch = BatchNorm(3).double(), torch.nn.BatchNorm1d(3).double(), dialogue_of(torch.zeros(7, dtype=torch.long))
    with torch.no_grad():
        for name, value in ours.named_parameters():
            value.copy_(torch.randn(3))
            theirs.get_parameter(name).copy_(value)
    for training in (True, True, False):
        nodes = given(7)
        ours.train(training)
        theirs.train(training)
        found, wanted = ours(nodes, batch).states[nodes.present], theirs(nodes.states[nodes.present])
        torch.testing.assert_close(found, wanted)
        weight = torch.randn_like(wanted)
        (mine,), (gradient,) = (torch.autograd.grad(value, nodes.states, weight) for value in (found, wanted))
        torch.testing.assert_close(mine, gradient)
        torch.testing.assert_close(ours.running_mean, theirs.running_mean)
        torch.testing.assert_close(ours.running_var, theirs.running_var)
        broken = nodes.with_states(torch.where(nodes.present[..., None], nodes.states, torch.nan))
        before = {name: value.clone() for name, value in ours.named_buffers()}
        torch.testing.assert_close(ours(broken, batch).states[nodes.present], wanted)
        ours.load_state_dict(before, strict=False)


def test_a_single_node_in_training_is_scaled_by_the_running_means() -> None:
    norm, batch = BatchNorm(3).double(), dialogue_of(torch.zeros(1, dtype=torch.long))
    norm.running_mean.fill_(0.5)
    nodes = given(1, streams=1)
    alone = norm(nodes, batch).states
    assert torch.equal(alone, norm.eval()(nodes, batch).states)
    assert norm.running_mean.tolist() == [0.5] * 3
