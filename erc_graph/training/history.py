"""The history of a training run: stages and epochs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Epoch:
    """The metrics of one epoch.

    Attributes:
        loss: Mean training loss during the epoch, over the utterances that count in the loss and over the networks of an ensemble.
        dev: Metrics on the development split after the epoch; empty if there is no development split.
        seconds: Elapsed time of the training steps, in seconds.
        cpu_seconds: Processor time of the training steps in all threads, in seconds.
    """

    loss: float
    dev: dict[str, float]
    seconds: float = field(compare=False)
    cpu_seconds: float = field(default=0.0, compare=False)


@dataclass
class StageHistory:
    """The epochs of one stage. `chosen` is the number of the selected epoch, counted from 1; 0 means that no epoch is selected yet."""

    name: str
    epochs: list[Epoch] = field(default_factory=list)
    chosen: int = 0

    @property
    def best(self) -> Epoch:
        """Return the selected epoch."""
        return self.epochs[self.chosen - 1]


@dataclass
class History:
    """The metrics of all epochs of all stages. Two histories are equal if they differ only in times."""

    stages: list[StageHistory] = field(default_factory=list)

    @property
    def dev(self) -> dict[str, float]:
        """Return the development metrics of the selected epoch of the last stage."""
        return self.stages[-1].best.dev

    @property
    def seconds_per_epoch(self) -> float:
        """Compute the mean time per epoch over all stages, in seconds."""
        seconds = [epoch.seconds for stage in self.stages for epoch in stage.epochs]
        return sum(seconds) / len(seconds)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> History:
        """Build a history from the result of `dataclasses.asdict`."""
        return cls([StageHistory(s["name"], [Epoch(**epoch) for epoch in s["epochs"]], s["chosen"]) for s in values["stages"]])
