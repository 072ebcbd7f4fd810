"""Live conversations of the service. A conversation is deleted after a period without utterances."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from erc_graph.inference.stream import Stream
from erc_graph.serving.limits import MIB, PER_SESSION, Limits
from erc_graph.serving.refusal import Refusal

REMEMBERED = 64  # turns whose words are kept, for text encoders that read what was said before


@dataclass(eq=False)
class Session:
    """A live conversation.

    Attributes:
        stream: State of the model for this conversation.
        said: Speaker and text of the latest utterances that have text.
        used: Time of the latest utterance in seconds; before the first utterance, the time at which the conversation began.
        nbytes: Memory of the stream after the latest utterance, in bytes.
        one: Lock that a thread holds while it labels an utterance of the conversation.
    """

    stream: Stream
    used: float
    said: deque[tuple[str, str]] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    nbytes: int = 0
    one: threading.Lock = field(default_factory=threading.Lock)


class Sessions:
    """All live conversations of a service.

    Args:
        limits: Limits on the number, the length and the idle time of conversations.
        clock: Function that returns a monotonic time in seconds.
    """

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits, self.clock = limits, clock
        self._kept: OrderedDict[str, Session] = OrderedDict()  # the one that was used longest ago in front
        self._change = threading.Lock()
        self._nbytes = 0

    def __len__(self) -> int:
        self.expire()
        return len(self._kept)

    @property
    def nbytes(self) -> int:
        """Return the memory of all streams, in bytes."""
        return self._nbytes

    def open(self, begin: Callable[[], Stream]) -> str:
        """Begin a conversation, and return its id, which is random and cannot be guessed.

        Args:
            begin: Function that creates the stream of the conversation.

        Raises:
            Refusal: status 503: there are too many conversations, or all conversations together use too much memory.
            ConfigError: the model cannot label live conversations.
        """
        self.expire()
        stream = begin()
        with self._change:
            if len(self._kept) >= self.limits.sessions:
                raise Refusal(
                    503,
                    f"there are {len(self._kept)} live conversations, the largest number allowed; delete one of them, or try again later",
                )
            self._check_memory()
            name = secrets.token_urlsafe(16)
            self._kept[name] = Session(stream, self.clock())
        return name

    @contextmanager
    def turn(self, name: str) -> Iterator[Session]:
        """Lock a live conversation for one utterance. After the utterance, the idle time of the conversation starts again at zero.

        Raises:
            Refusal: status 404: the id is unknown or expired. Status 409: another utterance is being processed, or the conversation is too
                long. Status 503: all conversations together use too much memory.
        """
        self.expire()
        with self._change:
            session = self._kept.get(name)
            if session is None:
                raise Refusal(
                    404, f"no such live conversation; it was deleted, or {self.limits.idle:g} seconds passed without an utterance"
                )
            self._check_memory()
        if not session.one.acquire(blocking=False):
            raise Refusal(
                409, "another utterance of this conversation is being processed; wait for its answer before you send the next one"
            )
        try:
            self._spoken(name, session)
            if session.stream.turns >= self.limits.turns:
                raise Refusal(
                    409, f"this conversation has {session.stream.turns} utterances, the largest number allowed; begin another conversation"
                )
            yield session
        finally:
            self._spoken(name, session)
            session.one.release()

    def close(self, name: str) -> None:
        """Delete a conversation.

        Raises:
            Refusal: status 404: the id is unknown or expired.
        """
        self.expire()
        with self._change:
            session = self._kept.pop(name, None)
            if session is None:
                raise Refusal(404, "no such live conversation; it was deleted before, or has expired")
            self._nbytes -= session.nbytes

    def expire(self) -> None:
        """Delete all conversations that have had no utterance for the largest allowed idle time."""
        with self._change:
            while self._kept:
                name, session = next(iter(self._kept.items()))
                if self.clock() - session.used < self.limits.idle:
                    break
                del self._kept[name]
                self._nbytes -= session.nbytes

    def _spoken(self, name: str, session: Session) -> None:
        with self._change:
            if self._kept.get(name) is session:  # neither deleted nor expired meanwhile
                held = session.stream.nbytes
                self._nbytes += held - session.nbytes
                session.nbytes, session.used = held, self.clock()
                self._kept.move_to_end(name)

    def _check_memory(self) -> None:
        most = self.limits.sessions * PER_SESSION
        if self._nbytes >= most:
            raise Refusal(
                503, f"live conversations use {most // MIB} MiB, the largest amount allowed; delete a conversation, or try again later"
            )
