from __future__ import annotations

import dataclasses

import pytest

from erc_graph.errors import ConfigError
from erc_graph.training.config import TrainingConfig

BAD = {
    "epochs": (0, 1.5, True, "3"),
    "batch_size": (0, -1),
    "batch_tokens": (-1, 2.5),
    "learning_rate": (0, -1e-3, float("nan"), float("inf"), "fast"),
    "weight_decay": (-1.0,),
    "decay": ("both",),
    "patience": (-1, 0.5),
    "clip": (-1.0,),
    "schedule": ("stepwise",),
    "plateau": (-1, 0.5),
    "plateau_factor": (0, 1.0),
    "warmup": (1.5, -0.1),
    "loss": ("hinge",),
    "focal_gamma": (-1.0,),
    "class_weights": ("inverse", ["none"]),
    "label_smoothing": (1.0, -0.1),
    "selection": ("test",),
    "criterion": ("f2",),
    "ema": (1.0,),
    "mixed_precision": ("fp8", None),
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_impossible_values_are_named(name, value):
    with pytest.raises(ConfigError, match=rf"^training\.{name}: expected .+, found "):
        TrainingConfig(**{name: value})


def test_every_field_is_checked():
    assert {field.name for field in dataclasses.fields(TrainingConfig)} == set(BAD)


def test_all_problems_at_once():
    with pytest.raises(ConfigError) as error:
        TrainingConfig(epochs=0, selection="test", ema=2.0)
    assert [line.split(":")[0] for line in str(error.value).splitlines()] == [
        "training.epochs",
        "training.selection",
        "training.ema",
    ]


def test_whole_numbers_are_numbers():
    assert TrainingConfig(learning_rate=1, clip=5).clip == 5
