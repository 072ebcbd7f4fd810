from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from erc_graph.data.batch import Batch
from erc_graph.data.tasks import Task
from erc_graph.methods.stage import Prediction, Stage

LABELS = ("sad", "angry", "happy")


class TwoStages(nn.Module):
    """Linear layers with dropout; the second stage reads the frozen outputs of the first from the cache."""

    def __init__(self, task: Task, width: int = 5, epochs: int | None = None) -> None:
        super().__init__()
        outputs = len(task.labels) or 1
        self.task = task
        self.epochs = epochs
        self.encode = nn.Sequential(nn.Linear(width, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3))
        self.first = nn.ModuleDict({"encode": self.encode, "head": nn.Linear(8, outputs)})
        self.second = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Dropout(0.3), nn.Linear(8, outputs))
        self.calls: list[str] = []
        self.on_step: Callable[[], None] = lambda: None

    def stages(self) -> list[Stage]:
        return [
            Stage(name="first", module=self.first, forward=self.ask_first, epochs=self.epochs, learning_rate=0.02),
            Stage(name="second", module=self.second, forward=self.forward, weight_decay=0.0),
        ]

    def start_stage(self, index: int, batch: Batch) -> Batch:
        assert not torch.is_grad_enabled()
        assert not any(module.training for module in self.modules())
        self.calls.append(f"start {index} {len(batch)}")
        return batch.with_cache({"states": self.encode(batch.features["x"])}) if index == 1 else batch

    def ask_first(self, batch: Batch) -> Prediction:
        if self.training or self.first.training:
            self.on_step()
        states = self.encode(batch.features["x"])
        return Prediction(scores=self.first["head"](states), penalty=1e-3 * states.abs().mean(), states=states)

    def forward(self, batch: Batch) -> Prediction:
        if self.second.training:
            self.on_step()
        states = batch.cache["states"] if batch.cache else self.encode(batch.features["x"])
        scores = self.second(states)
        return Prediction(scores=scores, auxiliary={"again": scores * 0.5}, auxiliary_weight=0.3, states=states)


def make_batch(dialogues: int, seed: int, *, score: bool = False) -> Batch:
    random = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 9, (dialogues,), generator=random)
    rows = int(lengths.sum())
    x = torch.randn(rows, 5, generator=random)
    direction = torch.randn(5, 3, generator=torch.Generator().manual_seed(99))
    signal = x @ direction + 0.5 * torch.randn(rows, 3, generator=random)
    target = signal[:, 0].clamp(-3, 3) if score else signal.argmax(-1)
    unlabelled = torch.rand(rows, generator=random) < 0.2
    target = target.masked_fill(unlabelled, float("nan") if score else -1)
    return Batch(
        ptr=torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)]),
        speaker=torch.zeros(rows, dtype=torch.long),
        target=target,
        judged=torch.rand(rows, generator=random) < 0.9,
        row=torch.arange(rows),
        features={"x": x},
        present={"x": torch.ones(rows, dtype=torch.bool)},
    )


@pytest.fixture
def task() -> Task:
    return Task(name="three", labels=LABELS)


@pytest.fixture
def score_task() -> Task:
    return Task(name="score", kind="score", column="score")


@pytest.fixture
def build(task: Task) -> Callable[..., TwoStages]:
    def make(seed: int = 0, task: Task = task, **options: int) -> TwoStages:
        torch.manual_seed(seed)
        return TwoStages(task, **options)

    return make


@pytest.fixture
def train() -> Batch:
    return make_batch(40, 1)


@pytest.fixture
def dev() -> Batch:
    return make_batch(15, 2)


@pytest.fixture
def batches() -> Callable[..., Batch]:
    return make_batch
