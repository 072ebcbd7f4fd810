"""What happened in a training run, stage after stage and epoch after epoch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Epoch:
    """Figures of one epoch.

    Attributes:
        loss: Mean over the `judged` utterances of the training split (and over independent networks), while its weights changed.
        dev: Metrics of the development split afterwards; empty without one.
        seconds: Time of the training steps.
        cpu_seconds: Of the processor, all threads together.
    """

    loss: float
    dev: dict[str, float]
    seconds: float = field(compare=False)
    cpu_seconds: float = field(default=0.0, compare=False)


@dataclass
class StageHistory:
    """Epochs of one stage; `chosen` is the one that was kept, counted from 1 (0: none yet)."""

    name: str
    epochs: list[Epoch] = field(default_factory=list)
    chosen: int = 0

    @property
    def best(self) -> Epoch:
        """Return the chosen epoch."""
        return self.epochs[self.chosen - 1]


@dataclass
class History:
    """All stages. Two histories are equal when all but their times are."""

    stages: list[StageHistory] = field(default_factory=list)

    @property
    def dev(self) -> dict[str, float]:
        """Return the development metrics of the finished method."""
        return self.stages[-1].best.dev

    @property
    def seconds_per_epoch(self) -> float:
        """Compute the mean over all epochs of all stages."""
        seconds = [epoch.seconds for stage in self.stages for epoch in stage.epochs]
        return sum(seconds) / len(seconds)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> History:
        """Return the inverse of `dataclasses.asdict`."""
        return cls([StageHistory(s["name"], [Epoch(**epoch) for epoch in s["epochs"]], s["chosen"]) for s in values["stages"]])
