"""The form of a run's `result.json`, as far as others than the run read it: what must be there, and of which kind."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field


class Environment(BaseModel):
    """Where it was measured."""

    packages: dict[str, str] = Field(default_factory=dict)
    erc_graph: str | None = None
    git_commit: str | None = None
    device: str | None = None


class Data(BaseModel):
    """What the corpus says of itself."""

    extractors: dict[str, Any] | None = None


class ResultForm(BaseModel):
    """What a comparison reads."""

    method: str
    dataset: str
    task: str
    protocol: str
    selection: str
    labels: list[str]
    modalities: list[str]
    seeds: list[int] = Field(min_length=1)
    members: int = 1
    environment: Environment | None = None
    data: Data | None = None
    config: dict[str, Any] | None = None


class ReportForm(ResultForm):
    """What a report reads."""

    metrics: dict[str, Any]
    baselines: dict[str, Any]
    environment: Environment
    data: Data
    parameters: int
    seconds_per_epoch: float
