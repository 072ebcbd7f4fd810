"""Bounded work: a few threads compute, some requests wait, one more is turned away."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from erc_graph.serving.limits import Limits
from erc_graph.serving.refusal import Refusal

T = TypeVar("T")


class Places:
    """The places of requests that wait or are computed.

    Args:
        limits: How many of either, and how long one may take.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.inside = 0
        self._change = threading.Lock()
        self._threads = ThreadPoolExecutor(limits.at_once, thread_name_prefix="erc-graph-serve")

    async def work(self, receive: Awaitable[bytes], job: Callable[[bytes], T]) -> T:
        """Receive a request, wait for a thread, and do the work there.

        Args:
            receive: Gives the body.
            job: Makes the answer of the body; runs in a thread.

        Raises:
            Refusal: 503, too many wait already, or it took too long; 408, the body did not arrive in time; what `receive` and `job` refuse.
        """
        end = time.monotonic() + self.limits.timeout
        with self._change:
            if self.inside >= self.limits.at_once + self.limits.queue:
                if hasattr(receive, "close"):
                    receive.close()
                raise Refusal(503, f"{self.inside} requests wait already, the most allowed; ask again later")
            self.inside += 1
        try:
            try:
                body = await asyncio.wait_for(receive, self.limits.timeout)
            except asyncio.TimeoutError:
                raise Refusal(408, f"the request did not arrive within {self.limits.timeout:g} seconds") from None
            running = self._threads.submit(job, body)
        except BaseException:
            self._leave()
            raise
        running.add_done_callback(self._leave)  # not when the client has its answer: a thread that is late still works
        try:
            return await asyncio.wait_for(asyncio.wrap_future(running), max(0.0, end - time.monotonic()))
        except asyncio.TimeoutError:
            raise Refusal(503, f"no answer within {self.limits.timeout:g} seconds; send less at once, or ask again later") from None
        finally:
            del running  # with what it failed at, and that with this frame, it would be a circle

    def close(self) -> None:
        """Let the threads end; what waits is not begun."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _leave(self, _: Future[Any] | None = None) -> None:
        with self._change:
            self.inside -= 1
