"""The files of a training run: the state after every epoch, and the best weights.

`last.safetensors` contains the state after the last complete epoch, from which the training can continue. The file has named groups of
tensors (such as `model` and `optimizer`) and the progress as JSON, and is replaced atomically. `best.safetensors` contains only the best
weights of the method, which are used for evaluation and for new conversations. The files contain no pickled objects.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from erc_graph.data.files.storage import load_tensors, save_tensors
from erc_graph.errors import CheckpointError
from erc_graph.training.config import TrainingConfig

LAST, BEST = "last.safetensors", "best.safetensors"
VERSION = "1"
_KIND = "erc_graph training state"
ANEW = "; delete it to train this seed again"


@dataclass
class State:
    """The state of a training run after a complete epoch.

    Attributes:
        stage: Index of the current stage; a method is trained in one or more stages, one after the other.
        finished: Whether the training is complete. If so, the tensors of the group `model` are the final weights.
        seed: Seed of the run.
        config: The training configuration, as JSON values.
        history: Metrics of every epoch so far, as JSON values.
        tensors: Name of the group → name of the tensor → tensor.
    """

    stage: int
    finished: bool
    seed: int
    config: dict[str, Any]
    history: dict[str, Any]
    tensors: dict[str, dict[str, Tensor]] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write the state to `path` atomically; after a failure, the previous file is unchanged.

        Raises:
            StorageError: there is no space or no permission.
        """
        flat = {f"{group}.{name}": value for group, values in self.tensors.items() for name, value in values.items()}
        progress = {name: value for name, value in vars(self).items() if name != "tensors"}
        save_tensors(path, flat, {"kind": _KIND, "version": VERSION, "progress": json.dumps(progress)})

    @classmethod
    def load(cls, path: Path) -> State:
        """Read a file written by `save`.

        Raises:
            CheckpointError: the file is missing or damaged, is no training state, or was written by another version.
        """
        try:
            flat, metadata = load_tensors(path)
        except CheckpointError as error:
            raise CheckpointError(f"{error}{ANEW}") from error
        found = f"{metadata.get('kind', 'another kind of file')}, version {metadata.get('version', 'unknown')}"
        if found != (expected := f"{_KIND}, version {VERSION}"):
            raise CheckpointError(f"{path}: expected {expected}, found {found}; start in another folder")
        tensors: dict[str, dict[str, Tensor]] = {}
        for key, value in flat.items():
            group, _, name = key.partition(".")
            tensors.setdefault(group, {})[name] = value
        with refused(path, ANEW):
            return cls(tensors=tensors, **json.loads(metadata["progress"]))

    def expect(self, path: Path, seed: int, config: Mapping[str, Any]) -> None:
        """Check that the seed and the configuration are unchanged since the start of the run.

        Raises:
            CheckpointError: a setting differs; the message names all settings that differ.
        """
        # A setting that is younger than the run had its default, which is what it did before there was a choice.
        then, now = {"seed": self.seed, **asdict(TrainingConfig()), **self.config}, {"seed": seed, **config}
        changed = [f"{name} {then.get(name)!r} → {now.get(name)!r}" for name in {**then, **now} if then.get(name) != now.get(name)]
        if changed:
            raise CheckpointError(
                f"{path}: expected the settings with which the run was started, found {', '.join(changed)}; "
                "use the settings of the start, or start in another folder"
            )


@contextmanager
def refused(path: Path, advice: str = "") -> Iterator[None]:
    """Convert an error that is raised in the `with` block to a `CheckpointError` about the file `path`; its message ends with `advice`."""
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(
            f"{path}: the file does not fit this method, or is damaged: {type(error).__name__}: {error}{advice}"
        ) from error


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    """Return a copy of the state of a module; further training steps do not change the copy."""
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def save_weights(module: nn.Module, path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write the weights of a method.

    Raises:
        StorageError: there is no space or no permission.
    """
    save_tensors(path, module.state_dict(), {"kind": "erc_graph weights", "version": VERSION, **(metadata or {})})


def optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """Return the state tensors of an optimizer, each under the key `{index of the parameter}.{name of the tensor}`.

    Learning rates and other settings are not included, because they are in the configuration.
    """
    return {f"{i}.{name}": value for i, values in optimizer.state_dict()["state"].items() for name, value in values.items()}


def restore_optimizer(optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Restore an optimizer from the result of `optimizer_tensors`.

    Raises:
        ValueError: a tensor has another shape than its parameter.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        position, _, name = key.partition(".")
        if value.dim() and value.shape != parameters[int(position)].shape:
            expected = tuple(parameters[int(position)].shape)
            raise ValueError(f"optimizer.{key}: expected shape {expected}, found {tuple(value.shape)}")
        state.setdefault(int(position), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def random_state(device: torch.device) -> dict[str, Tensor]:
    """Return the states of PyTorch's random number generators, of the CPU and of a CUDA device."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def restore_random_state(state: Mapping[str, Tensor], device: torch.device) -> None:
    """Restore the random number generators from the result of `random_state`."""
    torch.set_rng_state(state["cpu"].cpu())
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)
