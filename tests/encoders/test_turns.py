"""Parts that look at other turns: what a running dialogue is told turn by turn is what it is told whole."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.encoders.turns import OverRows, OverTurns, dialogue_of, over_turns


class Back(OverTurns):
    """Sum over the present nodes of the turns in reach, of the same speaker twice; written as a loop."""

    def __init__(self, reach: int | None) -> None:
        super().__init__()
        self.reach = reach
        self.read: list[int] = []

    @property
    def causal(self) -> bool:
        return True

    @property
    def past(self) -> int | None:
        return self.reach

    def forward(self, nodes: Nodes, batch: Batch) -> Nodes:
        self.read.append(len(nodes.states))
        rows = []
        for start, end in zip(batch.ptr[:-1].tolist(), batch.ptr[1:].tolist(), strict=True):
            for i in range(start, end):
                near = range(start if self.reach is None else max(start, i - self.reach), i + 1)
                rows.append(sum(nodes.masked()[j] * (1 + (batch.speaker[j] == batch.speaker[i])) for j in near))
        return nodes.with_states(torch.stack(rows))  # type: ignore[arg-type]


class Sums(OverRows):
    """Running sums of each stream."""

    @property
    def causal(self) -> bool:
        return True

    def read(self, rows: Tensor, batch: Batch) -> Tensor:
        return torch.cat([part.cumsum(0) for part in rows.split(batch.sizes)])

    def read_next(self, row: Tensor, batch: Batch, memory: Any) -> tuple[Tensor, Any]:
        total = row if memory is None else memory + row
        return total, total


def conversation(turns: int = 9) -> tuple[Nodes, Batch]:
    batch = dialogue_of(torch.randint(0, 2, (turns,)))
    present = torch.rand(turns, 2) < 0.7
    return Nodes(torch.randn(turns, 2, 3, dtype=torch.float64), present, ("a", "b")), batch


def stepped(part: OverTurns, nodes: Nodes, batch: Batch) -> Tensor:
    found, memory = [], None
    for i in range(len(nodes.states)):
        turn = Nodes(nodes.states[[i]], nodes.present[[i]], nodes.streams)
        answer, memory = part.step(turn, dialogue_of(batch.speaker[[i]]), memory)
        assert answer.states.shape[0] == 1 and torch.equal(answer.present, turn.present) and answer.streams == nodes.streams
        found.append(answer.states[0])
    return torch.stack(found)


@pytest.mark.parametrize("past", [0, 2, None])
def test_one_turn_at_a_time_reads_the_turns_in_reach_again(past: int | None) -> None:
    part = Back(past)
    nodes, batch = conversation()
    whole = part(nodes, batch).states
    part.read.clear()
    torch.testing.assert_close(stepped(part, nodes, batch), whole)
    assert part.read == [min(i + 1, 9 if past is None else past + 1) for i in range(9)]


def test_a_memory_is_not_changed() -> None:
    """So that a turn can be taken back, and asked again."""
    part = Back(2)
    nodes, batch = conversation(4)
    _, memory = part.step(Nodes(nodes.states[[0]], nodes.present[[0]], nodes.streams), dialogue_of(batch.speaker[[0]]), None)
    before = [value.clone() for value in memory]
    turn = Nodes(nodes.states[[1]], nodes.present[[1]], nodes.streams), dialogue_of(batch.speaker[[1]])
    one, two = part.step(*turn, memory)[0].states, part.step(*turn, memory)[0].states
    assert torch.equal(one, two) and all(torch.equal(a, b) for a, b in zip(memory, before, strict=True))


def test_rows_are_read_stream_by_stream_with_zeros_where_a_node_is_absent() -> None:
    part = Sums()
    nodes, batch = conversation()
    whole = part(nodes, batch).states
    expected = torch.where(nodes.present[..., None], nodes.states, 0.0).cumsum(0)
    torch.testing.assert_close(whole, expected)
    torch.testing.assert_close(stepped(part, nodes, batch), whole)
    absent = torch.where(nodes.present[..., None], nodes.states, torch.nan)
    assert torch.equal(part(nodes.with_states(absent), batch).states, whole)


def test_one_stream_of_rows() -> None:
    batch = dialogue_of(torch.zeros(5, dtype=torch.long))
    rows = torch.randn(5, 3)
    assert torch.equal(over_turns(Sums(), rows, batch), rows.cumsum(0))


def test_without_a_limit_everything_is_in_reach() -> None:
    assert Sums().past is None


def test_a_dialogue_of_speakers_alone() -> None:
    batch = dialogue_of(torch.tensor([0, 1, 0]))
    assert batch.sizes == (3,) and batch.speaker.tolist() == [0, 1, 0] and batch.target.tolist() == [-1] * 3
    assert not batch.judged.any() and batch.utterances == 3 and not batch.features
