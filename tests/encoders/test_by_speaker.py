"""A net over the turns of each speaker: as that net over a dialogue of these turns, at once and turn by turn."""

from __future__ import annotations

import pytest
import torch

from erc_graph.encoders.by_speaker import BySpeaker
from erc_graph.encoders.recurrent import Recurrent
from erc_graph.encoders.turns import over_turns
from tests.methods.reference.conftest import batch_of

SPEAKERS = [torch.tensor(turns) for turns in ([0, 1, 0, 2, 1, 1], [0], [0, 1, 0])]


@pytest.mark.parametrize(("cell", "bidirectional"), [("gru", True), ("lstm", False)])
def test_each_speaker_is_read_alone(cell: str, bidirectional: bool) -> None:
    net = Recurrent(cell, 3, 4, bidirectional=bidirectional, layers=2)  # type: ignore[arg-type]
    part, batch, rows = BySpeaker(net), batch_of(SPEAKERS, SPEAKERS), torch.randn(10, 3)
    found = over_turns(part, rows, batch)
    for d in range(len(batch)):
        for speaker in range(3):
            own = ((batch.dialogue == d) & (batch.speaker == speaker)).nonzero()[:, 0]
            if len(own):
                torch.testing.assert_close(found[own], over_turns(net, rows[own], batch_of([own], [own])))
    assert part.width == 4 and part.causal != bidirectional


def test_turn_by_turn() -> None:
    part, rows, memory = BySpeaker(Recurrent("gru", 3, 4)), torch.randn(6, 3), None
    whole = over_turns(part, rows, batch_of(SPEAKERS[:1], SPEAKERS[:1]))
    for t, row in enumerate(rows):
        now = SPEAKERS[0][t : t + 1]
        before = None if memory is None else list(memory)
        state, after = part.read_next(row[None], batch_of([now], [now]), memory)
        torch.testing.assert_close(state[0], whole[t])
        assert before is None or all(one is other for one, other in zip(before, memory, strict=True))  # a turn can be taken back
        memory = after
