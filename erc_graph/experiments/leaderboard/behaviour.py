"""Detection of methods whose code has changed since a result was recorded.

A method computes four numbers from fixed weights and inputs. The numbers change if a formula, a default value or the name of a weight
changes. A changed docstring does not change the numbers.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from erc_graph.data.batch import Batch
from erc_graph.data.ragged import Ragged
from erc_graph.data.tasks import Task
from erc_graph.experiments.experiment import from_dict
from erc_graph.methods.own_file import find_method
from erc_graph.methods.schema import Schema
from erc_graph.methods.stage import Prediction

TOLERANCE = 1e-3  # machines add in other orders; a method that has changed is off by more
SPEAKERS = ((0, 1, 0, 1, 1, 2, 0), (0, 0, 1))  # of two made-up dialogues


def behaviour(method: str, pipeline: Mapping[str, Any], schema: Schema) -> list[float]:
    """Compute sums over scores, auxiliary loss and gradients of a method for two artificial dialogues with missing modalities.

    Args:
        method: Name of the method.
        pipeline: Settings of the method.
        schema: Modalities, their widths and the task.

    Returns:
        Four numbers. The list is empty if the method raises an error, for example because the files of a pretrained model are missing.
    """
    try:
        config = from_dict(method, {"pipeline": dict(pipeline)}, method).pipeline
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = find_method(method)(schema, config).double()
            return _asked(network, schema)
    except Exception:  # a method that fails has its error in the table already
        return []


def same(one: Sequence[float], other: Sequence[float]) -> bool:
    """Return whether two results of `behaviour` are equal up to rounding, which means that the method has not changed."""
    return len(one) == len(other) and all(math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=1e-9) for a, b in zip(one, other, strict=True))


def _asked(network: Any, schema: Schema) -> list[float]:
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.copy_(0.2 * _numbers(name, parameter.shape))
    batch = _batch(schema)
    network.fit_inputs(batch)
    network.train()
    torch.manual_seed(0)
    answers: list[Prediction] = []
    for index, stage in enumerate(network.stages()):
        with torch.no_grad():
            given = network.start_stage(index, batch)
        answer = stage.forward(given)
        answers += answer.members or (answer,)
    scores = torch.cat([answer.scores.flatten() for answer in answers])
    penalty = sum((torch.as_tensor(answer.penalty).double() for answer in answers), torch.zeros((), dtype=torch.float64))
    ((scores * _numbers("scores", scores.shape)).sum() + penalty).backward()
    gradients = [(name, p.grad) for name, p in network.named_parameters() if p.grad is not None]
    return [
        float(scores.detach().abs().sum()),
        float((scores.detach() * _numbers("scores", scores.shape)).sum()),
        float(penalty.detach()),
        float(sum((grad.double() * _numbers(name, grad.shape)).sum().abs() for name, grad in gradients)),
    ]


def _numbers(name: str, shape: Sequence[int]) -> Tensor:
    """Return numbers from -1 to 1 of the shape `shape`, which depend only on `name` and `shape`."""
    start = zlib.crc32(name.encode()) % 10_000
    return torch.sin(torch.arange(math.prod(shape), dtype=torch.float64) ** 1.1 * 1.7 + start).reshape(tuple(shape))


def _batch(schema: Schema) -> Batch:
    """Return a batch of two artificial dialogues, with every modality missing in some utterances."""
    speaker = torch.tensor([one for dialogue in SPEAKERS for one in dialogue])
    turns = len(speaker)
    present = {name: (torch.arange(turns) + 2 * i) % 5 != 0 for i, name in enumerate((*schema.widths, *schema.sequences))}
    lengths = torch.arange(turns) % 3 + 1
    task: Task = schema.task
    target = torch.arange(turns) % len(task.labels) if task.kind == "classification" else torch.linspace(-2, 2, turns)
    return Batch(
        ptr=torch.tensor([0, *(len(one) for one in SPEAKERS)]).cumsum(0),
        speaker=speaker,
        target=target,
        judged=torch.ones(turns, dtype=torch.bool),
        row=torch.arange(turns),
        features={name: _numbers(name, (turns, width)) for name, width in schema.widths.items()},
        present=present,
        sequences={
            name: Ragged.of([_numbers(f"{name} {i}", (int(lengths[i]) * int(present[name][i]), *item)) for i in range(turns)])
            for name, item in schema.sequences.items()
        },
    )
