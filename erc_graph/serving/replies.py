"""The forms of requests and answers, as the OpenAPI page shows them; what is read is decided by the readers of files."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field


class Labelled(BaseModel):
    """A turn with its emotion."""

    dialogue: str | None = Field(None, description="Id of the conversation; only where a request has several.")
    turn: int = Field(description="Position in the conversation, from 0.")
    speaker: str
    text: str = Field(description="Empty where none was sent.")
    emotion: str = Field(description="The most probable label; for a score task the score as text.")
    probabilities: dict[str, float] = Field(description="Label → probability; empty for a score task.")
    score: float | None = Field(None, description="Only of a score task.")


class Heard(Labelled):
    """The turn of a live conversation."""

    notes: list[str] = Field(description="What was assumed or left out, a sentence each.")


class Conversation(BaseModel):
    """All turns of a request, in its order."""

    turns: list[Labelled]
    notes: list[str] = Field(description="What was assumed or left out, a sentence each.")


class Opened(BaseModel):
    """A live conversation."""

    session: str = Field(description="Its id; who knows it can speak in it.")
    idle_seconds: float = Field(description="It is forgotten after so long without a turn.")


class Health(BaseModel):
    """The service answers."""

    status: str = Field(description="`ok`")


class Model(BaseModel):
    """The model that is served."""

    method: str
    task: str
    labels: list[str] = Field(description="In the order of the task; empty for a score task.")
    features: dict[str, int] = Field(description="Modality → numbers per turn.")
    sequences: dict[str, list[int]] = Field(description="Modality that is a sequence → shape of one item.")
    encodes: list[str] = Field(description="Modalities that the service computes from `text`.")
    live: bool = Field(description="Whether it can label live conversations.")


class Problem(BaseModel):
    """Why a request was not answered as asked."""

    error: str = Field(description="One sentence.")


TURN: dict[str, Any] = {
    "type": "object",
    "properties": {
        "speaker": {"type": "string"},
        "text": {"type": "string"},
        "dialogue": {"type": "string", "description": "Id of the conversation, where there are several."},
        "turn": {"type": "integer", "description": "Position, where the order is another than in the list."},
        "features": {
            "type": "object",
            "description": "Modality → numbers, in the widths that /model lists.",
            "additionalProperties": {"type": "array", "items": {"type": "number"}},
        },
    },
}


def body(schema: dict[str, Any], example: Any, line: str) -> dict[str, Any]:
    """Return a request body in OpenAPI: JSON, or plain text.

    Args:
        schema: Of the JSON.
        example: JSON.
        line: Plain text.
    """
    content = {
        "application/json": {"schema": schema, "example": example},
        "text/plain": {"schema": {"type": "string"}, "example": line},
    }
    return {"requestBody": {"required": True, "content": content}}
