"""The HTTP endpoints of the service. The body of an error answer is `{"error": "one sentence"}`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import HTMLResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from erc_graph import __version__
from erc_graph.data.printable import refusal
from erc_graph.errors import ConfigError, ErcGraphError
from erc_graph.serving.api_page import api_page
from erc_graph.serving.counters import Counters
from erc_graph.serving.heap import give_back
from erc_graph.serving.limits import MIB, Limits
from erc_graph.serving.places import Places
from erc_graph.serving.refusal import Refusal
from erc_graph.serving.replies import TURN, Conversation, Health, Heard, Model, Opened, Problem, body
from erc_graph.serving.service import Service
from erc_graph.serving.sessions import Sessions

DESCRIPTION = (
    "The service predicts the emotion of every utterance, for whole conversations or for live conversations. "
    "It has no authentication and no TLS: if other people can reach the service, put a proxy in front of it."
)
TALK = [{"speaker": "Ann", "text": "We won!"}, {"speaker": "Bob", "text": "Really?"}]
SESSION = {"name": "session", "in": "path", "required": True, "schema": {"type": "string"}, "description": "Id from `POST /sessions`"}
DRAIN = 4  # times the largest body that is read and thrown away, so that a client that sends too much can hear why
Answers = dict[int | str, dict[str, Any]]
BUSY: Answers = {
    503: {"model": Problem, "description": "Too many requests, or a timeout; the header `Retry-After` has the number of seconds to wait"}
}
REFUSED: Answers = {
    408: {"model": Problem, "description": "The request did not arrive in time"},
    413: {"model": Problem, "description": "The request has more bytes or more characters of text than allowed"},
    422: {"model": Problem, "description": "The request cannot be read, or lacks an input of the model"},
    **BUSY,
}
UNKNOWN: Answers = {404: {"model": Problem, "description": "The live conversation does not exist, or has expired"}}
CONFLICT: Answers = {
    409: {"model": Problem, "description": "The model is not causal, another utterance is being processed, or the conversation is too long"}
}


def make_app(service: Service, limits: Limits, clock: Callable[[], float] = time.monotonic) -> FastAPI:
    """Return the web application of the service.

    Args:
        service: The service that runs the model.
        limits: Limits on requests and live conversations.
        clock: Function that returns a monotonic time in seconds, for live conversations.
    """
    places, sessions = Places(limits), Sessions(limits, clock)
    counters = Counters(places, sessions)
    app = FastAPI(title="erc_graph", version=__version__, description=DESCRIPTION, docs_url=None, redoc_url=None)
    app.state.close = places.close
    app.add_middleware(_Counted, counters=counters)
    for kind in (ErcGraphError, HTTPException, Exception):
        app.add_exception_handler(kind, _refused)

    async def ask(request: Request, job: Callable[[bytes], dict[str, Any]]) -> dict[str, Any]:
        return await places.work(_body(request, limits), _light(job))

    @app.get("/", include_in_schema=False)
    async def page() -> HTMLResponse:
        return HTMLResponse(api_page(app.openapi()))

    @app.get("/health", response_model=Health, summary="Check that the service answers", response_description="The service answers")
    async def health() -> Response:
        sessions.expire()
        return _json({"status": "ok"})

    @app.get(
        "/model",
        response_model=Model,
        summary="Describe the inputs and outputs of the model",
        response_description="The description of the model",
    )
    async def model() -> Response:
        return _json(service.about())

    @app.get(
        "/metrics",
        summary="Return counters for Prometheus",
        response_description="The counters in the text format of Prometheus",
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}}},
    )
    async def metrics() -> Response:
        return Response(counters.page(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.post(
        "/predict",
        summary="Label whole conversations",
        response_description="All utterances with their emotions",
        response_model=Conversation,
        responses=REFUSED,
        openapi_extra=body({"type": "array", "items": TURN}, TALK, "Ann: We won!\nBob: Really?"),
    )
    async def predict(request: Request) -> Response:
        """The body is a transcript, JSON, JSON lines or CSV, in the format of a file for `erc-graph predict`."""
        answer = await ask(request, service.predict)
        counters.turns.inc(len(answer["turns"]))
        return _json(answer)

    @app.post(
        "/sessions",
        summary="Begin a live conversation",
        response_description="The conversation has begun",
        status_code=201,
        response_model=Opened,
        responses={**CONFLICT, **BUSY},
    )
    async def begin() -> Response:
        """The body of the request is ignored."""
        try:
            name = sessions.open(service.stream)
        except ConfigError as error:
            raise Refusal(409, str(error)) from None
        return _json({"session": name, "idle_seconds": limits.idle}, 201)

    @app.post(
        "/sessions/{session}/turns",
        summary="Label the next utterance of a live conversation",
        response_model=Heard,
        response_description="The utterance with its emotion",
        responses={**UNKNOWN, **CONFLICT, **REFUSED},
        openapi_extra={"parameters": [SESSION], **body(TURN, TALK[0], "Ann: We won!")},
    )
    async def turn(request: Request) -> Response:
        """The body is one utterance, in any format of `/predict`. If an utterance is refused, the conversation does not change."""
        session = request.path_params["session"]

        def job(content: bytes) -> dict[str, Any]:
            with sessions.turn(session) as live:
                return service.turn(live, content)

        answer = await ask(request, job)
        counters.turns.inc()
        return _json(answer)

    @app.delete(
        "/sessions/{session}",
        summary="End a live conversation",
        response_description="The conversation is deleted",
        status_code=204,
        response_class=Response,
        responses=UNKNOWN,
        openapi_extra={"parameters": [SESSION]},
    )
    async def end(request: Request) -> Response:
        sessions.close(request.path_params["session"])
        return Response(status_code=204)

    return app


def _json(content: Any, status: int = 200, headers: Any = None) -> Response:
    return Response(json.dumps(content, allow_nan=False), status, headers, "application/json")  # ASCII: half a surrogate pair passes


async def _refused(request: Request, error: Exception) -> Response:
    """Return the answer for any error, with a message of one sentence. Unexpected errors are also logged."""
    status, words = 500, "the service failed on this request; the log of the service has details"
    headers: Mapping[str, str] | None = None
    if isinstance(error, Refusal):
        status, words, headers = error.status, str(error), error.headers
    elif isinstance(error, HTTPException):  # no such path, or another method
        status, words, headers = (
            error.status_code,
            f"{request.method} {request.url.path}: {error.detail.lower()}; / lists the endpoints",
            error.headers,
        )
    elif isinstance(error, ErcGraphError):
        status, words = 422, str(error)
    return _json({"error": refusal(words)}, status, headers)


async def _body(request: Request, limits: Limits) -> bytes:
    """Return the body of a request.

    Raises:
        Refusal: status 413: the body is too large. Status 415: the body is compressed. Status 400: the client has disconnected.
    """
    most, content, size = limits.body * MIB, bytearray(), 0
    coding = request.headers.get("content-encoding", "identity")
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size <= most and coding == "identity":
                content += chunk
            elif size > DRAIN * most:
                break
    except ClientDisconnect:
        raise Refusal(400, "the connection was closed before the request was complete") from None
    if coding != "identity":
        raise Refusal(415, f"expected an uncompressed body, found Content-Encoding {coding[:40]!r}")
    if size > most:
        raise Refusal(413, f"the request has more than {limits.body} MiB; send fewer conversations per request")
    return bytes(content)


def _light(job: Callable[[bytes], dict[str, Any]]) -> Callable[[bytes], dict[str, Any]]:
    """Return a function that calls `job`; its errors have no references to the request data, so that memory can be freed.

    If there is not enough memory, the answer has status 503, and the client can try again.
    """

    def work(content: bytes) -> dict[str, Any]:
        try:
            return job(content)
        except ErcGraphError as error:  # its traceback holds the frames of the readers, and they all that they have read
            error.__cause__ = error.__context__ = None
            raise error.with_traceback(None) from None
        except (MemoryError, RuntimeError) as error:
            if isinstance(error, MemoryError) or "allocate memory" in str(error):
                raise Refusal(503, "not enough memory for this request at the moment; send less per request, or try again later") from None
            raise
        finally:
            if len(content) > MIB:
                give_back()

    return work


class _Counted:
    """Middleware that counts answers by endpoint and status.

    All unknown URL paths count as one endpoint, so clients cannot create many counters.
    """

    def __init__(self, app: ASGIApp, counters: Counters) -> None:
        self.app, self.counters = app, counters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        start, status = time.perf_counter(), 500

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, counted)
        finally:
            route = scope.get("route")
            endpoint = str(getattr(route, "path", "none"))
            self.counters.requests.labels(endpoint, str(status)).inc()
            self.counters.seconds.labels(endpoint).observe(time.perf_counter() - start)
