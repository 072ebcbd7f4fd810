"""What stands in the place of something absent is never read, and nothing is sent from there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.encoders.turns import OverTurns
from erc_graph.inference.graphs import look, operators
from erc_graph.inference.saved import Network
from tests.laws.cases import Case, conversations, leaves, over, scores, stirred, whole


def nothing(batch: Batch) -> Batch:
    """NaN in the place of every missing vector."""
    features = {name: torch.where(batch.present[name][:, None], value, torch.nan) for name, value in batch.features.items()}
    return replace(batch, features=features)


def outcome(network: Network, batch: Batch) -> tuple[Tensor, list[Tensor]]:
    """Scores, and their gradients with respect to parameters and features."""
    batch, given = leaves(batch)
    found = scores(network, batch)
    ends = [*(parameter for parameter in network.parameters() if parameter.requires_grad), *given.values()]
    weight = torch.randn(found.shape, generator=torch.Generator().manual_seed(2), dtype=found.dtype)
    parts = torch.autograd.grad((found * weight).sum(), ends, allow_unused=True)
    return found.detach(), [torch.zeros_like(end) if part is None else part for end, part in zip(ends, parts, strict=True)]


@over(whole)
def test_an_absent_vector_is_never_read(case: Case) -> None:
    network, batch = stirred(case), conversations(case, [5, 3, 1], missing=0.4)
    torch.testing.assert_close(outcome(network, nothing(batch)), outcome(network, batch), rtol=0, atol=0)


@over(whole)
def test_an_absent_state_is_never_read_by_a_part_that_looks_at_other_turns(case: Case) -> None:
    network, batch = stirred(case), conversations(case, [5, 3, 1], missing=0.4)
    expected = scores(network, batch)
    ends: list[Callable[[], None]] = []
    seen: list[bool] = []

    def before(part: Any, given: tuple[Any, ...]) -> tuple[Any, ...]:
        nodes, *rest = given
        assert isinstance(nodes, Nodes)
        seen.append(not nodes.present.all())
        return nodes.with_states(torch.where(nodes.present[..., None], nodes.states, torch.nan)), *rest

    try:
        for part in network.modules():
            if isinstance(part, OverTurns):
                ends.append(part.register_forward_pre_hook(before).remove)
        found = scores(network, batch)
    finally:
        for end in ends:
            end()
    assert torch.equal(found, expected)
    if operators(network):
        assert any(seen)


@over(whole, lambda case: bool(operators(stirred(case))))
def test_an_absent_turn_sends_and_gets_nothing(case: Case) -> None:
    """Every message that is recorded joins two present nodes; what an operator says of an absent one is zero."""
    network, batch = stirred(case), conversations(case, [6], missing=0.4)
    outputs: dict[str, Nodes] = {}
    ends = [
        part.register_forward_hook(lambda _, __, nodes, name=name: outputs.update({name: nodes})).remove  # type: ignore[misc]
        for name, part in operators(network).items()
    ]
    try:
        seen, _ = look(network, batch)
    finally:
        for end in ends:
            end()
    from erc_graph.inference.graphs import graph_of

    assert set(outputs) == set(seen)
    for name, one in seen.items():
        nodes = outputs[name]
        assert not nodes.present.all(1).all() and not nodes.states[~nodes.present].any()
        graph = graph_of(one, batch)
        for source, _, target in graph.edge_types:
            for row, end in ((0, source), (1, target)):
                if end in nodes.streams:
                    here = nodes.present[:, nodes.streams.index(end)]
                    assert here[graph[source, _, target].edge_index[row]].all()


@over(whole)
def test_dialogues_of_which_nothing_is_there(case: Case) -> None:
    """Whatever is missing, numbers come out, and the others learn."""
    network, batch = stirred(case), conversations(case, [4, 2], missing=1.1)
    found, gradients = outcome(network, batch)
    assert found.isfinite().all() and all(part.isfinite().all() for part in gradients)
