"""Reference arrays: tiny random models of published systems, with what goes in, comes out and lies between.

`ERC_GRAPH_REFERENCE` names a folder of `<system>.npz`; without it the copies beside this file are read. An `options.json` in the folder
holds, per system, what no shape of an array can tell, such as a number of heads; it wins over what the test says.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from erc_graph.data.batch import Batch
from erc_graph.data.tasks import Task
from erc_graph.methods.base import Method
from erc_graph.methods.schema import Schema

FOLDER = Path(os.environ.get("ERC_GRAPH_REFERENCE") or Path(__file__).parent / "arrays")
TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-5}


class Reference(Mapping[str, Tensor]):
    """Arrays of a system, or those below a prefix.

    Args:
        arrays: Name → array.
        system: Key in `options.json`.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], system: str) -> None:
        self.arrays, self.system = arrays, system

    def __getitem__(self, name: str) -> Tensor:
        return torch.from_numpy(self.arrays[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self.arrays)

    def __len__(self) -> int:
        return len(self.arrays)

    def under(self, prefix: str) -> Reference:
        """The arrays whose names begin with `prefix`, under the rest of their names."""
        return Reference({k.removeprefix(prefix): v for k, v in self.arrays.items() if k.startswith(prefix)}, self.system)

    def options(self, **usual: Any) -> dict[str, Any]:
        """What shapes cannot tell: as usual, unless the folder's `options.json` says otherwise."""
        file = FOLDER / "options.json"
        told = json.loads(file.read_text()).get(self.system, {}) if file.is_file() else {}
        return {**usual, **{name: value for name, value in told.items() if name in usual}}

    def same(self, found: Tensor, name: str) -> float:
        """Assert that what we found is the array of a name; return the largest difference."""
        wanted = self[name]
        assert found.shape == wanted.shape, f"{self.system}: {name}: {tuple(found.shape)}, reference {tuple(wanted.shape)}"
        error = float((found.detach() - wanted).abs().max()) if wanted.numel() else 0.0
        assert error <= TOLERANCE[wanted.dtype], f"{self.system}: {name}: off by {error}"
        return error


def batch_of(
    speakers: Sequence[Tensor], labels: Sequence[Tensor], present: Mapping[str, Tensor] | None = None, **features: Tensor
) -> Batch:
    """Dialogues of given speakers, labels and features; every modality is present unless something else is said."""
    sizes = [len(turns) for turns in speakers]
    rows = sum(sizes)
    return Batch(
        ptr=torch.tensor([0, *sizes]).cumsum(0),
        speaker=torch.cat(list(speakers)),
        target=torch.cat(list(labels)),
        judged=torch.ones(rows, dtype=torch.bool),
        row=torch.arange(rows),
        features=features,
        present={name: torch.ones(rows, dtype=torch.bool) for name in features} | dict(present or {}),
    )


def random_batch(speakers: Sequence[Sequence[int]], widths: Mapping[str, int], *, classes: int, missing: float = 0.2) -> Batch:
    """Dialogues of given speakers with random features in float64, of which some are missing, and random labels."""
    turns = [torch.tensor(one) for one in speakers]
    rows = sum(map(len, turns))
    return batch_of(
        turns,
        [torch.randint(classes, one.shape) for one in turns],
        {name: torch.rand(rows) >= missing for name in widths},
        **{name: torch.randn(rows, width, dtype=torch.float64) for name, width in widths.items()},
    )


SPEAKERS = ((0, 1, 1, 0, 1, 0, 0, 2, 1), (0,), (0, 0, 0, 0), (0, 1, 0))
"""A speaker who talks once, a single utterance, a speaker alone."""


def build(
    method: type[Method],
    widths: Mapping[str, int],
    classes: int,
    config: Any,
    *,
    sequences: Mapping[str, tuple[int, ...]] | None = None,
    dtype: torch.dtype = torch.float64,
) -> Any:
    """A method for features and sequences of some widths, in evaluation mode; a score without classes."""
    kind: dict[str, Any] = {"labels": tuple(map(str, range(classes)))} if classes else {"kind": "score", "column": "score"}
    schema = Schema(widths=dict(widths), sequences=dict(sequences or {}), task=Task(name="reference", **kind))
    return method(schema, config).to(dtype).eval()


def stir(module: nn.Module) -> None:
    """Set all parameters and running means at random, so that none has a special value."""
    for name, value in module.state_dict().items():
        if value.is_floating_point() and not name.startswith("inputs."):
            value.copy_(value.new_empty(value.shape).uniform_(0.5, 1.5) if name.endswith("running_var") else 0.4 * torch.randn_like(value))


class Doubled(nn.Module):
    """In the place of a dropout, to see in training where one falls."""

    p = 0.5

    def forward(self, values: Tensor) -> Tensor:
        """Twice the values."""
        return 2 * values


def equal(found: Tensor, wanted: Tensor, module: nn.Module, *leaves: Tensor) -> None:
    """Assert equal values, and equal gradients of the parameters that either has, and of `leaves`."""
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-10)
    names, values = zip(*module.named_parameters(), strict=True)
    weight = torch.randn_like(wanted)
    ours, theirs = (torch.autograd.grad(one, [*leaves, *values], weight, allow_unused=True) for one in (found, wanted))
    for name, mine, other in zip((*map(str, range(len(leaves))), *names), ours, theirs, strict=True):
        zero = torch.zeros(())
        torch.testing.assert_close(zero if mine is None else mine, zero if other is None else other, rtol=0, atol=1e-9, msg=name)


@pytest.fixture(scope="session")
def reference() -> Callable[[str], Reference]:
    """Arrays by the name of their system; the test is skipped where the folder has none."""

    def load(system: str) -> Reference:
        file = FOLDER / f"{system}.npz"
        if not file.is_file():
            pytest.skip(f"no {file}")
        with np.load(file, allow_pickle=False) as stored:
            return Reference({name: stored[name] for name in stored.files}, system)

    return load


@pytest.fixture(scope="session")
def put() -> Callable[[nn.Module, Mapping[str, Tensor]], None]:
    """Set parameters and buffers by name; one that the module has and nobody sets is an error, unless it scales the inputs."""

    def copy(module: nn.Module, values: Mapping[str, Tensor]) -> None:
        own = {name for name in module.state_dict() if not name.startswith("inputs.") and not name.endswith("num_batches_tracked")}
        assert set(values) == own, f"missing {sorted(own - set(values))}, unknown {sorted(set(values) - own)}"
        for name, value in values.items():
            assert module.state_dict()[name].shape == value.shape, f"{name}: {tuple(module.state_dict()[name].shape)}, {tuple(value.shape)}"
        module.load_state_dict(dict(values), strict=False)

    return copy
