"""A small model that can listen, and a service of it on a port that is free."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from erc_graph.data.corpus import Corpus
from erc_graph.data.sample.vectors import sample_corpus
from erc_graph.inference.pipeline import Pipeline
from erc_graph.methods.bigru import BiGRU, BiGRUConfig
from erc_graph.methods.schema import Schema
from erc_graph.serving.limits import Limits
from erc_graph.serving.server import listen, make_server
from erc_graph.serving.service import Service
from erc_graph.serving.web import make_app

Answer = tuple[int, Any, dict[str, str]]


class Client:
    """Asks one service."""

    def __init__(self, port: int) -> None:
        self.port = port

    def __call__(self, verb: str, path: str, body: object = None, headers: dict[str, str] | None = None) -> Answer:
        """Status, answer (JSON where it is), headers."""
        content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(verb, path, content, headers or {})
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, json.loads(text) if found.get("content-type") == "application/json" else text.decode(), found


@contextmanager
def running(service: Any, limits: Limits, **options: Any) -> Iterator[Client]:
    """A service in a thread of this process."""
    app, sock = make_app(service, limits, **options), listen("127.0.0.1", 0)
    server = make_server(app, limits.timeout)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
    port = sock.getsockname()[1]
    thread.start()
    try:
        yield Client(port)
    finally:
        server.should_exit = True
        thread.join()
        app.state.close()
        sock.close()


@pytest.fixture(scope="session")
def serve() -> Callable[..., Any]:
    return running


@pytest.fixture(scope="session")
def corpus() -> Corpus:
    return sample_corpus(dialogues=6, seed=1)


@pytest.fixture(scope="session")
def pipeline(corpus: Corpus) -> Pipeline:
    torch.manual_seed(0)
    method = BiGRU(Schema.of(corpus), BiGRUConfig(width=8, causal=True))
    method.fit_inputs(corpus.batch())
    return Pipeline(method)


@pytest.fixture(scope="session")
def client(pipeline: Pipeline) -> Iterator[Client]:
    with running(Service(pipeline, Limits(workers=2)), Limits(workers=2)) as ask:
        yield ask


@pytest.fixture(scope="session")
def turns() -> Callable[[Corpus], list[dict[str, Any]]]:
    """A conversation as a request has it."""

    def of(dialogue: Corpus) -> list[dict[str, Any]]:
        return [
            {
                "speaker": dialogue.speakers[row],
                "text": dialogue.texts[row] if dialogue.texts else "",
                "features": {name: values[row].tolist() for name, values in dialogue.features.items() if dialogue.present[name][row]},
            }
            for row in range(dialogue.utterances)
        ]

    return of
