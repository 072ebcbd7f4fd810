"""The socket and the signals of the server. When the server ends, it finishes running requests, but accepts no new requests."""

from __future__ import annotations

import os
import signal
import socket
from typing import TYPE_CHECKING

from erc_graph.errors import ConfigError

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

CONNECTIONS = 2048  # that wait to be accepted
IDLE = 5  # seconds that a connection is kept open for a client's next request


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Args:
        host: Name or address of a network interface.
        port: Port; 0: any free port.

    Raises:
        ConfigError: the address or port does not exist, or the port is in use or not allowed.
    """
    if not 0 <= port <= 65535:  # the resolver would take another
        raise ConfigError(f"serve: expected a port of 0 to 65535, found {port}")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        found = socket.socket(family, kind, protocol)
        try:
            if os.name == "posix":
                found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind(address)
            found.listen(CONNECTIONS)
        except OSError:
            found.close()
            raise
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"serve: cannot listen on {host}:{port} ({reason}); choose another address or port") from None
    return found


def make_server(app: FastAPI, timeout: float) -> uvicorn.Server:
    """Return the server of an application. The method `run` of the server starts it.

    Args:
        app: Application made by `make_app`.
        timeout: Largest duration of a request in seconds. When the server ends, it waits at most this time for running requests.
    """
    import uvicorn

    return uvicorn.Server(
        uvicorn.Config(
            app,
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="off",
            backlog=CONNECTIONS,
            log_level="error",
            access_log=False,
            server_header=False,
            timeout_keep_alive=IDLE,
            timeout_graceful_shutdown=int(timeout) + 5,
        )
    )


def run(app: FastAPI, sock: socket.socket, timeout: float) -> None:
    """Serve requests until the process gets SIGTERM or SIGINT, then finish running requests."""
    before = signal.signal(signal.SIGTERM, lambda *_: None)  # the server raises what ended it once more when it has ended
    try:
        make_server(app, timeout).run(sockets=[sock])
    finally:
        signal.signal(signal.SIGTERM, before)
        app.state.close()
