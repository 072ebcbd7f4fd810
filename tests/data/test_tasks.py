from __future__ import annotations

from collections import Counter

import pytest
import torch

from erc_graph.data.tasks import DEFAULT_TASK, TASKS, apply_task, get_task
from erc_graph.errors import ConfigError, CorpusError

# Labelled utterances of the six-way IEMOCAP file.
IEMOCAP = {"frustrated": 1849, "neutral": 1708, "angry": 1103, "sad": 1084, "excited": 1041, "happy": 648}
LABELS = tuple(name for name, count in IEMOCAP.items() for _ in range(count))


@pytest.mark.parametrize(
    ("task", "counts"),
    [
        ("iemocap6", {"happy": 648, "sad": 1084, "neutral": 1708, "angry": 1103, "excited": 1041, "frustrated": 1849}),
        ("iemocap4", {"happy": 648 + 1041, "sad": 1084, "neutral": 1708, "angry": 1103}),
        ("iemocap4-noexc", {"happy": 648, "sad": 1084, "neutral": 1708, "angry": 1103}),
        ("iemocap4-merged", {"happy": 648 + 1041, "sad": 1084 + 1849, "neutral": 1708, "angry": 1103}),
    ],
)
def test_iemocap_four_is_three_tasks(task, counts):
    target = apply_task(get_task(task), {"label": LABELS}, len(LABELS)).tolist()
    assert Counter(TASKS[task].labels[i] for i in target if i >= 0) == counts
    total = {"iemocap6": 7433, "iemocap4": 5584, "iemocap4-noexc": 4543, "iemocap4-merged": 7433}[task]
    assert sum(i >= 0 for i in target) == total


def test_a_score_keeps_its_holes():
    target = apply_task(get_task("sentiment"), {"score": (1.5, None, -3)}, 3)
    assert target.dtype == torch.float32
    assert target[[0, 2]].tolist() == [1.5, -3.0] and target[1].isnan()


def test_what_does_not_fit():
    with pytest.raises(ConfigError, match=r"task: unknown 'iemocap5'; known tasks: dailydialog7, .*sentiment"):
        get_task("iemocap5")
    with pytest.raises(CorpusError, match=r"task meld3: needs the annotation 'sentiment'; annotations of the corpus: label"):
        apply_task(get_task("meld3"), {"label": ("joy",)}, 1)
    with pytest.raises(CorpusError, match=r"label 'joi' of utterance 1 is not in the label set neutral, surprise"):
        apply_task(get_task("meld7"), {"label": (None, "joi")}, 2)


def test_the_tables_agree():
    assert all(name == task.name for name, task in TASKS.items())
    assert set(DEFAULT_TASK.values()) <= set(TASKS)
    for task in TASKS.values():
        assert (task.kind == "score") == (not task.labels)
        assert set(task.mapping.values()) <= set(task.labels)
        assert not task.drop & (set(task.labels) | set(task.mapping))
