"""Limits on the requests and live conversations of the service."""

from __future__ import annotations

import os
from dataclasses import dataclass

from erc_graph.errors import expect
from erc_graph.inference.prepare import LONGEST

MIB = 1 << 20
PER_SESSION = 4 * MIB  # bytes that live conversations may hold, on average of `sessions`


def cores() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits on the requests and live conversations of a service.

    Attributes:
        workers: Number of requests that are processed at the same time. 0: one request per processor, at most four.
        queue: Largest number of waiting requests; further requests get HTTP status 503.
        body: Largest size of the body of a request in MiB.
        timeout: Largest number of seconds from the first byte of a request to its answer.
        sessions: Largest number of live conversations. All live conversations together may use at most 4 MiB of memory times this number.
        idle: Seconds without an utterance after which a live conversation is deleted.

    Raises:
        ConfigError: at least one value is out of range. The message names all such values.
    """

    workers: int = 0
    queue: int = 256
    body: int = 8
    timeout: float = 30.0
    sessions: int = 256
    idle: float = 900.0

    turns = LONGEST  # of a request, and of a live conversation
    characters = 1_000_000  # of all that is said in a request

    def __post_init__(self) -> None:
        expect(
            "serve",
            self,
            workers=(0 <= self.workers <= 256, "0 to 256"),
            queue=(0 <= self.queue <= 100_000, "0 to 100000"),
            body=(1 <= self.body <= 1024, "1 to 1024 MiB"),
            timeout=(0 < self.timeout <= 3600, "more than 0 and at most 3600 seconds"),
            sessions=(0 <= self.sessions <= 1_000_000, "0 to 1000000"),
            idle=(0 < self.idle <= 7 * 86_400, "more than 0 and at most 604800 seconds"),
        )

    @property
    def at_once(self) -> int:
        """Return the number of threads that run the model."""
        return self.workers or min(4, cores())
