"""Errors that the service raises. The file readers and the model raise other errors."""

from __future__ import annotations

from erc_graph.errors import ErcGraphError

SOON = 1  # seconds after which a client that was turned away may ask again


class Refusal(ErcGraphError):
    """The error for a request that the service refuses.

    Args:
        status: HTTP status: 4xx if the client must change the request, 503 if the client may try again later.
        message: The reason, in one sentence.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status

    @property
    def headers(self) -> dict[str, str]:
        """Return the HTTP headers of the answer: `Retry-After` for status 503."""
        return {"Retry-After": str(SOON)} if self.status == 503 else {}
