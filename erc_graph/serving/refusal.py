"""What the service refuses, beside what the readers and the model refuse."""

from __future__ import annotations

from erc_graph.errors import ErcGraphError

SOON = 1  # seconds after which a client that was turned away may ask again


class Refusal(ErcGraphError):
    """A request that is not answered as asked.

    Args:
        status: HTTP status: 4xx, the client has to change something; 503, it may ask again.
        message: One sentence.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers of the answer."""
        return {"Retry-After": str(SOON)} if self.status == 503 else {}
