"""Live conversations: each has a stream of its own, and is forgotten when nobody speaks for a while."""

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
        stream: What the model remembers of it.
        said: Speaker and words of the latest turns that have words.
        used: When it was begun or last spoken in, seconds of the clock.
        nbytes: Memory of the stream after the latest turn.
        one: Held while a turn is labelled.
    """

    stream: Stream
    used: float
    said: deque[tuple[str, str]] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    nbytes: int = 0
    one: threading.Lock = field(default_factory=threading.Lock)


class Sessions:
    """All live conversations of a service.

    Args:
        limits: How many, how long.
        clock: Seconds that only grow.
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
        """Begin a conversation; returns its id, which nobody can guess.

        Args:
            begin: Makes the stream.

        Raises:
            Refusal: 503, there are too many already.
            ConfigError: the model cannot listen.
        """
        self.expire()
        stream = begin()
        with self._change:
            if len(self._kept) >= self.limits.sessions:
                raise Refusal(
                    503, f"there are {len(self._kept)} live conversations already, the most allowed; delete one, or ask again later"
                )
            self._check_memory()
            name = secrets.token_urlsafe(16)
            self._kept[name] = Session(stream, self.clock())
        return name

    @contextmanager
    def turn(self, name: str) -> Iterator[Session]:
        """Lock a live conversation for one turn; its time to expire starts again at the end of the turn.

        Raises:
            Refusal: 404, unknown or expired; 409, another turn of it is being labelled, or it is as long as allowed; 503, no memory left.
        """
        self.expire()
        with self._change:
            session = self._kept.get(name)
            if session is None:
                raise Refusal(404, f"no such live conversation; it was deleted, or {self.limits.idle:g} seconds passed without a turn")
            self._check_memory()
        if not session.one.acquire(blocking=False):
            raise Refusal(409, "another turn of this conversation is being processed; send each turn after the answer to the one before")
        try:
            self._spoken(name, session)
            if session.stream.turns >= self.limits.turns:
                raise Refusal(409, f"this conversation has {session.stream.turns} turns, the most allowed; begin another")
            yield session
        finally:
            self._spoken(name, session)
            session.one.release()

    def close(self, name: str) -> None:
        """Forget a conversation.

        Raises:
            Refusal: 404, unknown or expired.
        """
        self.expire()
        with self._change:
            session = self._kept.pop(name, None)
            if session is None:
                raise Refusal(404, "no such live conversation; it was deleted before, or has expired")
            self._nbytes -= session.nbytes

    def expire(self) -> None:
        """Forget all in which nobody spoke for too long."""
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
            raise Refusal(503, f"live conversations hold {most // MIB} MiB, the most allowed; delete one, or ask again later")
