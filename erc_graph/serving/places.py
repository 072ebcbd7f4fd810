"""The queue of requests: a few threads process requests, a limited number of requests waits, and further requests are refused."""

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
    """The queue of requests that wait or are processed, and the threads that process them.

    Args:
        limits: Limits on the number and the duration of requests.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.inside = 0
        self._change = threading.Lock()
        self._threads = ThreadPoolExecutor(limits.at_once, thread_name_prefix="erc-graph-serve")

    async def work(self, receive: Awaitable[bytes], job: Callable[[bytes], T]) -> T:
        """Receive the body of a request, and process it in a thread.

        Args:
            receive: Awaitable that returns the body of the request.
            job: Function that computes the answer from the body; it runs in a thread.

        Raises:
            Refusal: status 503: too many requests wait, or processing took too long. Status 408: the body did not arrive in time. Errors of
                `receive` and `job` are raised unchanged.
        """
        end = time.monotonic() + self.limits.timeout
        with self._change:
            if self.inside >= self.limits.at_once + self.limits.queue:
                if hasattr(receive, "close"):
                    receive.close()
                raise Refusal(503, f"{self.inside} requests are waiting, the largest number allowed; try again later")
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
            raise Refusal(503, f"no answer within {self.limits.timeout:g} seconds; send less per request, or try again later") from None
        finally:
            del running  # with what it failed at, and that with this frame, it would be a circle

    def close(self) -> None:
        """End each thread after its current request. Waiting requests are not processed."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _leave(self, _: Future[Any] | None = None) -> None:
        with self._change:
            self.inside -= 1
