"""Colours of emotions: fixed, shared by synonyms, apart for colour-blind eyes."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest

from erc_graph.data.palette import COLOURS, MISSING, emotion_colour, label_colours
from erc_graph.data.tasks import TASKS

# Machado et al. (2009), severity 1.0, on linear RGB; rows give the seen red, green, blue.
SIGHT = {
    "normal": np.eye(3),
    "deuteranopia": np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]),
    "protanopia": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]),
}


def lab(colour: str, sight: np.ndarray) -> np.ndarray:
    rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.clip(sight @ np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4), 0, 1)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ linear
    f = np.cbrt(xyz / np.array([0.9505, 1.0, 1.089]))
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize("task", [task for task in TASKS.values() if task.labels], ids=lambda task: task.name)
def test_labels_of_a_task_look_different(task, sight) -> None:
    colours = {name: lab(emotion_colour(name), SIGHT[sight]) for name in task.labels}
    near, pair = min((np.linalg.norm(colours[a] - colours[b]), (a, b)) for a, b in itertools.combinations(colours, 2))
    assert near > 20, pair  # ten is what eyes tell apart side by side


def test_every_label_of_every_task_has_its_own_colour() -> None:
    names = {name.lower() for task in TASKS.values() for name in task.labels}
    assert names <= set(COLOURS)


def test_synonyms_share_and_unknown_names_are_fixed() -> None:
    assert emotion_colour("joy") == emotion_colour("happy") == emotion_colour("Happiness") == emotion_colour(" Joyful ")
    assert emotion_colour("anger") == emotion_colour("Mad") != emotion_colour("joy")
    assert emotion_colour("hangry") == emotion_colour("Hangry") == "#44AA99"
    assert emotion_colour(None) == MISSING
    assert all(re.fullmatch("#[0-9A-F]{6}", emotion_colour(name)) for name in ("joy", "longing", "", "neutral"))


def test_unknown_labels_of_one_set_differ() -> None:
    names = [f"mood {i}" for i in range(10)]
    assert len(set(label_colours(["joy", "sadness", *names]))) == 12
    assert label_colours(["joy", *names])[0] == emotion_colour("joy")
    assert label_colours(["longing"]) == [emotion_colour("longing")]
    assert len(label_colours([f"mood {i}" for i in range(40)])) == 40  # more labels than colours: some repeat


def test_scores_run_over_one_scale() -> None:
    colours = label_colours([f"{score:+d}" for score in range(-3, 4)])
    assert len(set(colours)) == 7 and colours[3] == "#B8B8B8"
    assert colours[0] == label_colours(["-1", "0", "1"])[0]
