from __future__ import annotations

from typing import Literal

import pytest
import torch

from erc_graph.data.nodes import Nodes
from erc_graph.encoders.own_turns import OwnTurns
from erc_graph.encoders.recurrent import Recurrent
from erc_graph.encoders.turns import dialogue_of
from tests.conv.loops import make_batch, make_nodes


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_every_speaker_is_read_alone(cell: Literal["gru", "lstm"], both: bool) -> None:
    part = OwnTurns(Recurrent(cell, 4, 6, bidirectional=both, layers=2)).double()
    batch = make_batch()
    nodes = make_nodes(batch, width=4)
    found, seen = part(nodes, batch).states, 0
    for d in range(len(batch)):
        for who in set(batch.speaker[batch.dialogue == d].tolist()):
            rows = ((batch.dialogue == d) & (batch.speaker == who)).nonzero()[:, 0]
            for s in range(len(nodes.streams)):
                wanted = part.net.read(nodes.masked()[rows, s], dialogue_of(batch.speaker[rows]))
                torch.testing.assert_close(found[rows, s], wanted)
                seen += len(rows)
    assert seen == batch.utterances * len(nodes.streams) and part.causal != both and part.width == 6


@torch.no_grad()
@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_one_turn_at_a_time_as_all_at_once(cell: Literal["gru", "lstm"]) -> None:
    part, memory = OwnTurns(Recurrent(cell, 4, 6, layers=2)), None
    speaker = torch.tensor([0, 1, 1, 0, 2, 0, 1])
    whole = Nodes(torch.randn(7, 2, 4), torch.rand(7, 2) < 0.8, ("text", "audio"))
    expected = part(whole, dialogue_of(speaker)).states
    for i in range(7):
        one, before = Nodes(whole.states[i : i + 1], whole.present[i : i + 1], whole.streams), memory
        for _ in range(2):  # a turn can be taken back
            found, memory = part.step(one, dialogue_of(speaker[i : i + 1]), before)
            torch.testing.assert_close(found.states[0], expected[i])
