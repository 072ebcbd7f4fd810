"""The fields of a run's `result.json` that comparisons and reports read, with their types."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field


class Environment(BaseModel):
    """The environment in which the results were computed."""

    packages: dict[str, str] = Field(default_factory=dict)
    erc_graph: str | None = None
    git_commit: str | None = None
    device: str | None = None


class Data(BaseModel):
    """The field `data` of `result.json`: the extractors of the features."""

    extractors: dict[str, Any] | None = None


class ResultForm(BaseModel):
    """The fields of `result.json` that a comparison reads."""

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
    """The fields of `result.json` that a report reads."""

    metrics: dict[str, Any]
    baselines: dict[str, Any]
    environment: Environment
    data: Data
    parameters: int
    seconds_per_epoch: float
