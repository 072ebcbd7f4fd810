"""Schemas of requests and answers for the OpenAPI page. The file readers, and not these schemas, check requests."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field


class Labelled(BaseModel):
    """An utterance with its predicted emotion."""

    dialogue: str | None = Field(None, description="Id of the conversation; only if the request has several conversations.")
    turn: int = Field(description="Position in the conversation, from 0.")
    speaker: str
    text: str = Field(description="Text of the utterance; empty if the request has no text.")
    emotion: str = Field(description="The most probable label; for a score task the score as text.")
    probabilities: dict[str, float] = Field(description="Label → probability; empty for a score task.")
    score: float | None = Field(None, description="The predicted score; only for a score task.")


class Heard(Labelled):
    """An utterance of a live conversation, with its predicted emotion."""

    notes: list[str] = Field(description="Sentences about assumptions, and about content that was left out.")


class Conversation(BaseModel):
    """All utterances of a request, in the order of the request."""

    turns: list[Labelled]
    notes: list[str] = Field(description="Sentences about assumptions, and about content that was left out.")


class Opened(BaseModel):
    """A new live conversation."""

    session: str = Field(description="Id of the conversation; everyone who knows it can add utterances.")
    idle_seconds: float = Field(description="Time without an utterance after which the conversation is deleted.")


class Health(BaseModel):
    """State of the service."""

    status: str = Field(description="`ok`")


class Model(BaseModel):
    """The model that is served."""

    method: str
    task: str
    labels: list[str] = Field(description="Labels in the order of the task; empty for a score task.")
    features: dict[str, int] = Field(description="Modality → width of its vector per utterance.")
    sequences: dict[str, list[int]] = Field(description="Modality that is a sequence → shape of one item.")
    encodes: list[str] = Field(description="Modalities that the service computes from `text`.")
    live: bool = Field(description="Whether the model can label live conversations.")


class Problem(BaseModel):
    """The answer to a request that was refused."""

    error: str = Field(description="The reason, in one sentence.")


TURN: dict[str, Any] = {
    "type": "object",
    "properties": {
        "speaker": {"type": "string"},
        "text": {"type": "string"},
        "dialogue": {"type": "string", "description": "Id of the conversation, if the request has several conversations."},
        "turn": {
            "type": "integer",
            "description": "Position of the utterance in the conversation, if it differs from the position in the list.",
        },
        "features": {
            "type": "object",
            "description": "Modality → vector, with the width that /model lists.",
            "additionalProperties": {"type": "array", "items": {"type": "number"}},
        },
    },
}


def body(schema: dict[str, Any], example: Any, line: str) -> dict[str, Any]:
    """Return the OpenAPI description of a request body, which is JSON or plain text.

    Args:
        schema: Schema of the JSON body.
        example: Example of a JSON body.
        line: Example of a body in plain text.
    """
    content = {
        "application/json": {"schema": schema, "example": example},
        "text/plain": {"schema": {"type": "string"}, "example": line},
    }
    return {"requestBody": {"required": True, "content": content}}
