from __future__ import annotations

from typing import Any

import pytest

from erc_graph.serving import sessions as module
from erc_graph.serving.limits import Limits
from erc_graph.serving.refusal import Refusal
from erc_graph.serving.sessions import Sessions


class Memory:
    """Stands in for a stream."""

    def __init__(self) -> None:
        self.turns, self.nbytes = 0, 0


def say(sessions: Sessions, name: str, nbytes: int = 10) -> None:
    with sessions.turn(name) as session:
        session.stream.turns += 1
        session.stream.nbytes += nbytes


def refused(call: Any) -> tuple[int, str]:
    with pytest.raises(Refusal) as error:
        call()
    return error.value.status, str(error.value)


def test_the_one_that_is_silent_longest_goes_first() -> None:
    now = [0.0]
    sessions = Sessions(Limits(idle=10), lambda: now[0])
    a, b, c = (sessions.open(Memory) for _ in range(3))  # type: ignore[arg-type]
    now[0] = 5
    say(sessions, a)
    say(sessions, b, 20)
    now[0] = 10
    assert len(sessions) == 2 and refused(lambda: say(sessions, c))[0] == 404
    say(sessions, a)
    now[0] = 15
    assert len(sessions) == 1 and sessions.nbytes == 20
    sessions.close(a)
    assert len(sessions) == 0 and sessions.nbytes == 0
    assert refused(lambda: sessions.close(a)) == (404, "no such live conversation; it was deleted before, or has expired")


def test_one_turn_at_a_time_and_what_fails_leaves_the_conversation_free() -> None:
    sessions = Sessions(Limits(idle=10))
    name = sessions.open(Memory)  # type: ignore[arg-type]
    with sessions.turn(name):
        assert refused(lambda: say(sessions, name)) == (
            409, "another utterance of this conversation is being processed; wait for its answer before you send the next one",
        )  # fmt: skip
    with pytest.raises(ValueError, match="inner"), sessions.turn(name):
        raise ValueError("inner")
    say(sessions, name)


def test_one_that_is_deleted_while_it_is_judged_stays_deleted() -> None:
    sessions = Sessions(Limits())
    name = sessions.open(Memory)  # type: ignore[arg-type]
    with sessions.turn(name) as session:
        sessions.close(name)
        session.stream.nbytes = 50
    assert len(sessions) == 0 and sessions.nbytes == 0


def test_conversations_are_bounded_in_number_length_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PER_SESSION", module.MIB)
    sessions = Sessions(Limits(sessions=2))
    a = sessions.open(Memory)  # type: ignore[arg-type]
    say(sessions, a, 2 * module.MIB)
    held = (503, "live conversations use 2 MiB, the largest amount allowed; delete a conversation, or try again later")
    assert refused(lambda: sessions.open(Memory)) == held == refused(lambda: say(sessions, a))  # type: ignore[arg-type]
    sessions.close(a)
    a = sessions.open(Memory)  # type: ignore[arg-type]
    with sessions.turn(a) as session:
        session.stream.turns = 2000
    assert refused(lambda: say(sessions, a)) == (
        409,
        "this conversation has 2000 utterances, the largest number allowed; begin another conversation",
    )
    assert Refusal(409, "x").headers == {} and Refusal(503, "x").headers == {"Retry-After": "1"}
