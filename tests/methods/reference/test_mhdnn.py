"""MHDNN: the equations by loop, and the tree. There are no arrays: no public code is known."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from erc_graph.data.batch import Batch
from erc_graph.data.tasks import TASKS, Task
from erc_graph.errors import ConfigError
from erc_graph.methods.mhdnn import MHDNN, MHDNNConfig
from erc_graph.methods.schema import Schema
from tests.methods.reference.conftest import SPEAKERS, build, equal, random_batch, stir

pytestmark = pytest.mark.reference


def network(net: Any, x: Tensor, there: list[int], training: bool) -> Tensor:
    """DNN_k of all utterances `(N, features)`, layer by layer; zero where nothing is there."""
    for linear, norm in zip(net.linear, net.norm, strict=True):
        z = torch.stack([linear.weight @ row for row in x])
        mean = sum(z[i] for i in there) / len(there)
        variance = sum((z[i] - mean) ** 2 for i in there) / len(there)
        mean, variance = (mean, variance) if training else (norm.running_mean.clone(), norm.running_var.clone())
        x = ((z - mean) / (variance + norm.epsilon).sqrt() * norm.weight + norm.bias).clamp(min=0)
    return torch.stack([x[i] if i in there else torch.zeros_like(x[i]) for i in range(len(x))])


def loop(model: Any, batch: Batch, groups: list[list[int]]) -> Tensor:
    """Eqs. (1)-(4), label by label; every group of several labels has a network, in order."""
    names, rows = model.turn.names, range(batch.utterances)
    bits = [[float(batch.present[m][i]) for m in names] for i in rows]
    x = torch.stack([torch.cat([*(batch.features[m][i] * batch.present[m][i] for m in names), torch.tensor(bits[i])]) for i in rows])
    there = [i for i in rows if any(bits[i])]
    p = [branch(network(net, x, there, model.training)).softmax(-1) for net, branch in zip(model.nets, model.branches, strict=True)]
    if len(groups) == 1:
        return p[0].log()
    several = [group for group in groups if len(group) > 1]
    assert len(p) == 1 + len(several)
    scores = torch.zeros(len(x), sum(map(len, groups)), dtype=x.dtype)
    for k, group in enumerate(groups):
        for j, label in enumerate(group):
            within = p[1 + several.index(group)][:, j] if len(group) > 1 else 1.0
            scores[:, label] = (p[0][:, k] * within).log()
    return scores


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    ("widths", "groups"),
    [
        ({"audio": 3, "text": 5, "visual": 2}, [[4, 0], [2], [1, 3]]),
        ({"audio": 3, "text": 5}, [[1], [0]]),
        ({"text": 4}, [[0, 1, 2, 3]]),
    ],
)
def test_equations_by_loop(widths: dict[str, int], groups: list[list[int]], training: bool) -> None:
    classes = sum(map(len, groups))
    config = MHDNNConfig(graph="none", groups=[list(map(str, group)) for group in groups], hidden=[6, 4], dropout=0.0)
    model = build(MHDNN, widths, classes, config).train(training)
    stir(model)
    batch = random_batch(SPEAKERS, widths, classes=classes)
    wanted = loop(model, batch, groups)
    torch.testing.assert_close(wanted.exp().sum(-1), torch.ones(batch.utterances, dtype=torch.float64))
    equal(model(batch).scores, wanted, model)


def tree(task: Task, groups: list[list[str]]) -> list[list[str]]:
    method = MHDNN(Schema(widths={"text": 3}, task=task), MHDNNConfig(graph="none", groups=groups, hidden=[4]))
    return [[task.labels[label] for label in group] for group in method.groups]


def test_groups() -> None:
    four = Task(name="four", labels=("happy", "sad", "angry", "neutral"))
    assert tree(four, []) == [["happy", "angry"], ["sad", "neutral"]]
    assert tree(four, [["neutral"], ["sad", "angry"]]) == [["neutral"], ["sad", "angry"], ["happy"]]
    assert tree(TASKS["iemocap6"], [])[1] == [label for label in TASKS["iemocap6"].labels if label in ("sad", "neutral")]
    assert tree(Task(name="two", labels=("negative", "positive")), []) == [["negative", "positive"]]
    with pytest.raises(ConfigError, match=r"pipeline\.groups: expected labels of the task four \(happy, .*found 'joy'"):
        tree(four, [["joy"]])
    with pytest.raises(ConfigError, match=r"pipeline\.groups: expected groups that are not empty, and no label twice"):
        MHDNNConfig(groups=[["sad"], ["sad", "happy"]])
    with pytest.raises(
        ConfigError, match="task: expected a task with classes, because MHDNN builds a tree of the classes, found a task with a score"
    ):
        build(MHDNN, {"text": 3}, 0, MHDNNConfig(graph="none"))
