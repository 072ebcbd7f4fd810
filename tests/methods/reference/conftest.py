"""Reference arrays: tiny random models of published systems, with what goes in, comes out and lies between.

`ERC_GRAPH_REFERENCE` names a folder of `<system>.npz`; without it the copies beside this file are read. An `options.json` in the folder
holds, per system, what no shape of an array can tell, such as a number of heads; it wins over what the test says.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

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
