"""Counters of a service, in the format of Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from erc_graph.serving.places import Places
from erc_graph.serving.sessions import Sessions

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Counters:
    """The counters of a service. If one process has several services, each service has its own counters.

    Args:
        places: Queue of the service, whose requests are counted.
        sessions: Live conversations of the service, which are counted.
    """

    def __init__(self, places: Places, sessions: Sessions) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter("erc_graph_requests", "Answers, by endpoint and status.", ["endpoint", "status"], registry=registry)
        self.seconds = Histogram(
            "erc_graph_request_seconds",
            "Time from the first byte of a request to its answer.",
            ["endpoint"],
            buckets=SECONDS,
            registry=registry,
        )
        self.turns = Counter("erc_graph_turns", "Utterances that were labelled.", registry=registry)
        Gauge("erc_graph_requests_inside", "Requests that wait or that are being processed.", registry=registry).set_function(
            lambda: places.inside
        )
        Gauge("erc_graph_sessions", "Live conversations.", registry=registry).set_function(lambda: len(sessions))
        Gauge("erc_graph_session_bytes", "Memory of live conversations.", registry=registry).set_function(lambda: sessions.nbytes)

    def page(self) -> bytes:
        """Return all counters in the text format of Prometheus."""
        return generate_latest(self._registry)
